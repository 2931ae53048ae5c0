"""What comes next, and why in words: by whom or what each image was put where it is."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from backend.control import Arm
from backend.state import Mark, StoredLabel, Version
from backend.web.pages.reasons import AGAIN, BY_CHANCE, GENERATED, LATE
from tests.backend.web.pages.conftest import Site
from tests.backend.web.pages.test_pages import words_of
from tests.backend.web.pages.world import OWNER, add_cycle, connect, fill_tasks

POOL = range(1, 31)
ITEM = re.compile(r"<li>\s*<(?:img|div).*?</li>", re.DOTALL)


def shown(site: Site) -> dict[int, str]:
    """Task → what the page says of it, in the order of the page."""
    section = site.text("/projects/1").split('id="next-heading"')[1].split("</ol>")[0]
    found = {}
    for item in ITEM.findall(section):
        text = words_of(item)
        found[int(re.search(r"Task (\d+)", text)[1])] = text  # type: ignore[index]
    return found


def filled(site: Site, params: dict[str, Any] | None = None, **metrics: Any) -> Version:
    """A project with an order that was learned from 50 labels; its scores go from 0.02 up."""
    connect(site.state, 1, "Pets", params)
    fill_tasks(site.state, 1, POOL, [])
    return add_cycle(site.state, 1, labels=50, pool=POOL, **metrics)


def test_each_image_says_by_its_own_score_why_it_comes_there(site: Site) -> None:
    """The scores are margins: from 0.02 to 0.98 in 30 steps."""
    filled(site)
    found = shown(site)
    assert list(found) == list(range(1, 25))
    assert "margin: the two most probable answers are 2.0 points apart" in found[1]
    assert f"are {100 * (0.02 + 23 * 0.96 / 29):.1f} points apart" in found[24]


def test_with_noise_on_the_scores_no_figure_is_read_off_them(site: Site) -> None:
    filled(site, {"diversity": 1.0})
    assert "margin: the two most probable answers are nearly as probable, with some chance" in shown(site)[1]


def test_the_words_are_those_of_the_sampler_that_made_the_order(site: Site) -> None:
    filled(site, health={"order": "typiclust", "why": "its networks learned nothing"})
    assert "typiclust (in place of margin): the two most probable answers are 2.0 points apart" in shown(site)[1]


def test_a_sampler_that_is_unknown_by_now_gives_no_reason(site: Site) -> None:
    filled(site, health={"order": "tea-leaves", "why": ""})
    assert "tea-leaves" not in shown(site)[1] and "points apart" not in shown(site)[1]


def test_what_was_drawn_by_chance_says_so_and_only_where_the_order_has_an_arm(site: Site) -> None:
    filled(site, control_fraction=0.3)
    project = site.state.projects.get(1)
    assert project is not None
    drawn = set(Arm(project.folder_key, 0.3).of(np.array(POOL)).tolist())
    found = shown(site)
    assert drawn & set(found)
    assert {task for task, text in found.items() if BY_CHANCE in text} == drawn & set(found)
    add_cycle(site.state, 1, labels=60, pool=POOL)
    assert BY_CHANCE not in " ".join(shown(site).values())


def test_what_is_asked_again_comes_first_and_says_so(site: Site) -> None:
    version = filled(site)
    site.state.labels.put(1, [StoredLabel(20, "cat", [[20, "monday"]], 1, 0)])
    assert 20 not in shown(site)
    assert site.state.team.ask(1, 20)
    assert 20 not in shown(site), "it has no place in this order yet"
    site.state.scores.put_first(version, OWNER, [20])
    site.state.team.place(1, version.id, [20])
    found = shown(site)
    assert next(iter(found)) == 20 and AGAIN in found[20] and len(found) == 24


def test_a_generated_image_says_so_and_one_that_came_late_that_it_is_there_by_chance(site: Site) -> None:
    version = filled(site)
    site.state.tasks.put(1, {31: "made.png", 32: "late.png"})
    site.state.synthetic.note(1, {31: Mark("gaal-c1-00000001", 7)})
    site.state.scores.add(1, OWNER, version.id, np.array([31, 32]), np.array([0.001, 0.002]), None, None)
    found = shown(site)
    assert list(found)[:2] == [31, 32]
    assert GENERATED in found[31] and LATE in found[32]


@pytest.mark.parametrize(("sampler", "spread"), [("margin", True), ("random", False)])
def test_before_any_label_the_first_order_says_how_it_was_made(site: Site, sampler: str, spread: bool) -> None:
    connect(site.state, 1, "Pets")
    fill_tasks(site.state, 1, POOL, [])
    add_cycle(site.state, 1, labels=0, pool=POOL, sampler=sampler)
    found = shown(site)
    assert ("it is near to images that those before it are not near to" in found[1]) == spread
    assert "its place is by chance" in found[24], "behind the sample that was compared"


def test_a_published_score_leads_back_to_the_acquisition() -> None:
    from backend.learning.scores import acquisition_of, priority_scores

    for value in (-5.0, 0.0, 0.3, 31.0, 130.0):
        assert acquisition_of(float(priority_scores(np.array([value]), 0)[0])) == pytest.approx(value)
    assert acquisition_of(1.0) == -math.inf
