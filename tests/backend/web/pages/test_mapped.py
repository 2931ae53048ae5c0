"""The map of the pool on a page, and near copies that are folded together."""

from __future__ import annotations

import re

import numpy as np
import pytest

from backend.files import project_folder
from backend.reporting.pool_map import PoolMap
from backend.state import StoredLabel
from backend.web.pages.upcoming import NEXT
from tests.backend.small_label_studio import TAGS_CONFIG
from tests.backend.web.pages.conftest import PAGE, Site
from tests.backend.web.pages.test_pages import words_of
from tests.backend.web.pages.world import STUDIO, add_cycle, connect, fill, fill_tasks

ROWS = re.compile(r'<path class="dots ([\w-]+)" d="([^"]*)"/>')


def draw(site: Site, tasks: int = 60, alike: dict[int, int] | None = None) -> None:
    """A map of project 1, on a diagonal; ``alike``: task → which one it is nearly a copy of."""
    every = np.arange(1, tasks + 1)
    places = np.repeat(((every - 1) / (tasks - 1))[:, None], 2, axis=1).astype(np.float32)
    copies = np.array([(alike or {}).get(task, task) for task in every.tolist()])
    project = site.state.projects.get(1)
    assert project is not None
    folder = project_folder(site.settings.model_dir, project.folder_key)
    nothing = np.zeros((2, 1), np.float32)
    PoolMap("lite0", every, places, every, copies, nothing[0], nothing, tasks).keep(folder)


def dots(html: str) -> dict[str, int]:
    """Look → how many dots, in the drawing alone."""
    drawing = html.split('data-map="?part=map"')[1].split("</svg>")[0]
    return {look: path.count("M") for look, path in ROWS.findall(drawing) if path}


def test_the_map_shows_labels_by_class_what_comes_next_and_the_rest(site: Site) -> None:
    fill(site.state, site.settings)
    draw(site)
    html = site.text("/projects/1")
    assert dots(html) == {"rest": 60 - 15 - NEXT, "class-0": 10, "class-1": 5, "next": NEXT}
    assert 'class="dots class-0" d="M32 1168h0M' in html  # task 1, labeled cat: at the lower left, inside of the margin
    words = words_of(html)
    assert "cat 10" in words and "dog 5" in words and f"next of the queue {NEXT}" in words
    assert "60 images. Images that the backbone finds alike" in words


def test_the_script_gets_each_point_with_its_image_under_an_address_that_nobody_guesses(site: Site) -> None:
    fill(site.state, site.settings)
    draw(site)
    answer = site.get("/projects/1?part=map", {"Accept": "application/json"})
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    found = answer.json
    assert found["link"] == f"{STUDIO}/projects/1/data?task="
    task, x, y, words, name = found["points"][0]
    assert (task, x, y, words) == (1, 32, 1168, "labeled cat")
    assert re.fullmatch(r"1-[0-9a-f]{32}\.jpg", name)
    assert site.get(f"/projects/{found['folder']}{name}").status_code == 200
    assert [point[3] for point in found["points"][15:17]] == ["next, at place 1", "next, at place 2"]
    assert [point[4] for point in found["points"] if point[0] > 40] == [""] * 20  # whose image is not there


def test_without_a_map_there_are_no_points(site: Site) -> None:
    fill(site.state, site.settings)
    assert site.get("/projects/1?part=map").status_code == 404


def test_a_page_without_a_map_says_why(site: Site) -> None:
    fill(site.state, site.settings)
    assert "It is drawn once ten images are embedded" in words_of(site.text("/projects/1"))
    add_cycle(site.state, 1, labels=200, pool=range(1, 61), mapped=None)
    assert "this network reads the images themselves" in words_of(site.text("/projects/1"))


def test_near_copies_stand_behind_the_first_of_them_and_others_move_up(site: Site) -> None:
    fill(site.state, site.settings)
    draw(site, alike={17: 16, 18: 16, 19: 16, 21: 20})  # 16 is the first without a label
    html = site.text("/projects/1")
    shown = [int(task) for task in re.findall(r">Task (\d+)</a>", html)][:NEXT]
    assert shown == [16, 20, *range(22, 22 + NEXT - 2)]
    words = words_of(html)
    assert "and 3 near copies" in words and "and 1 near copy" in words
    assert "Near copies that come soon after an image are not shown." in words


def test_once_the_first_of_them_is_labeled_the_next_one_stands_for_the_others(site: Site) -> None:
    fill(site.state, site.settings)
    draw(site, alike={17: 16, 18: 16, 19: 16})
    site.state.labels.put(1, [StoredLabel(16, "cat", [[16, "monday"]], 1, 0)])
    html = site.text("/projects/1")
    assert re.findall(r">Task (\d+)</a>", html)[:2] == ["17", "20"] and "and 2 near copies" in words_of(html)


def test_nothing_is_folded_where_nothing_is_alike(site: Site) -> None:
    fill(site.state, site.settings)
    draw(site)
    assert "near cop" not in site.text("/projects/1").lower()


def test_an_image_with_several_classes_has_a_look_of_its_own(site: Site) -> None:
    connect(site.state, 1, "Pets", {}, TAGS_CONFIG)
    fill_tasks(site.state, 1, range(1, 31), [])
    said = [["cat"], ["cat", "dog"], []]
    site.state.labels.put(1, [StoredLabel(task, label, [[task, "m"]], 1, 0) for task, label in enumerate(said, 1)])
    add_cycle(site.state, 1, labels=3, pool=range(1, 31), task="multilabel")
    draw(site, 30)
    found = dots(site.text("/projects/1"))
    assert (found["class-0"], found["other"]) == (1, 2)
    points = site.get("/projects/1?part=map").json["points"]
    assert [point[3] for point in points[:3]] == ["labeled cat", "labeled cat, dog", "labeled with no class"]


@pytest.mark.parametrize("path", ["/projects/1", "/projects/1?part=map"])
def test_names_of_classes_are_escaped_on_the_map(site: Site, path: str) -> None:
    fill(site.state, site.settings)
    site.state.labels.put(1, [StoredLabel(1, "<script>alert(1)</script>", [[1, "monday"]], 1, 0)])
    draw(site)
    answer = site.get(path, PAGE)
    if answer.content_type.startswith("text/html"):
        assert "<script>alert" not in answer.get_data(as_text=True)
    else:
        assert answer.content_type == "application/json" and answer.headers["X-Content-Type-Options"] == "nosniff"
