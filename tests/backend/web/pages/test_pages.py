"""The pages say what the state holds, to whom they may, and change nothing without a password."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from backend.files import learned_picture, project_folder
from backend.reporting.outlook import CurvePoint, outlook
from backend.reporting.snapshot import snapshot
from backend.state import StoredLabel
from backend.web.pages.rendering import ASSETS, page
from tests.backend.reporting.test_control import compared
from tests.backend.reporting.test_control import metrics as control_metrics
from tests.backend.small_label_studio import MASKS_CONFIG, TAGS_CONFIG
from tests.backend.web.pages.conftest import PAGE, WITH_PASSWORD, Site
from tests.backend.web.pages.world import OWNER, STUDIO, add_cycle, connect, fill, fill_tasks


def words_of(html: str) -> str:
    """What a person reads."""
    text = re.sub(r"<(script|style|title)\b.*?</\1>|<[^>]+>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(text).split())


# -- who gets what -----------------------------------------------------------------------------------------------------


def test_a_browser_gets_the_overview_and_label_studio_its_check(site: Site) -> None:
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert site.get("/", headers).json["status"] == "UP"
        assert site.get("/health", headers).json["status"] == "UP"
    assert site.get("/health", PAGE).json["status"] == "UP"
    found = site.get("/", PAGE)
    assert found.content_type.startswith("text/html") and b"No project is connected yet" in found.data


def test_before_anything_has_happened_the_pages_say_so(site: Site) -> None:
    connect(site.state, 1, "")
    assert "Project 1" in words_of(site.text("/"))
    text = words_of(site.text("/projects/1"))
    for words in (
        "The first order is being made",
        "There is no order yet",
        "No cycle has run yet",
        "0 of 50 annotations",
    ):
        assert words in text


@pytest.mark.parametrize("path", ["/", "/projects/1", "/projects/1/images/1-00.jpg"])
def test_without_a_password_only_this_machine_is_served(site: Site, path: str) -> None:
    fill(site.state, site.settings)
    for elsewhere in ({"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_HOST": "backend.example"}):
        answer = site.get(path, environ_overrides=elsewhere)
        assert answer.status_code == 403
        assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS" in answer.get_data(as_text=True)
        assert "Pets" not in answer.get_data(as_text=True)
    answer = site.get(path, {"Accept": "text/html", "X-Forwarded-For": "192.0.2.7"})
    assert answer.status_code == 403


def test_with_a_password_whoever_has_it_is_served_wherever_they_are(locked: Site) -> None:
    fill(locked.state, locked.settings)
    for path in ("/", "/projects/1", "/projects/1/images/1-00.jpg", "/assets/page.css"):
        answer = locked.get(path)
        assert answer.status_code == 401 and "Basic" in answer.headers["WWW-Authenticate"]
        assert b"Pets" not in answer.data
    there = {"REMOTE_ADDR": "192.0.2.7", "HTTP_HOST": "backend.example"}
    assert locked.get("/projects/1", WITH_PASSWORD, environ_overrides=there).status_code == 200
    assert locked.get("/", {}).json["status"] == "UP", "Label Studio's check has no password"


@pytest.mark.parametrize("path", ["/projects/7", "/projects/x", "/projects/99999999999", "/projects/²", "/nowhere"])
def test_what_is_not_there_is_an_error_in_the_form_that_was_asked_for(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 404 and answer.content_type.startswith("text/html")
    answer = site.get(path, {"Accept": "*/*"})
    assert answer.status_code == 404 and list(answer.json) == ["error"]


@pytest.mark.parametrize(
    "path", ["/", "/?part=now", "/projects/1", "/projects/1?part=now", "/nowhere", "/assets/page.js"]
)
def test_every_answer_forbids_what_the_pages_do_not_need(site: Site, path: str) -> None:
    fill(site.state, site.settings)
    headers = site.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store" or path.startswith("/assets")


def test_the_policy_is_kept_by_the_pages_themselves(locked: Site) -> None:
    """Neither a style nor a script inside of a page, and nothing from another host but links to Label Studio."""
    fill(locked.state, locked.settings)
    for path in ("/", "/projects/1"):
        html = locked.text(path, WITH_PASSWORD)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]* src=)", html)
        loaded = re.findall(r'(?:src|<link[^>]* href|action)="([^"]+)"', html)
        assert loaded and not [address for address in loaded if ":" in address or address.startswith("/")]
        links = re.findall(r'<a [^>]*href="([^"]*)"', html)
        assert all(link.startswith(STUDIO) for link in links if ":" in link)


def test_every_text_from_label_studio_is_escaped(site: Site) -> None:
    evil = "<script>alert(1)</script>\"'&\u202e"
    fill(site.state, site.settings, title=evil)
    site.state.tasks.set_broken(1, [(58, evil, evil)], 600)
    site.state.labels.put(1, [StoredLabel(56, evil, [[56, evil]], 1, 0, ignored={evil: 1})])
    site.state.projects.update(1, last_error=evil, queue_note=evil, queue_noted_at=site.state.now())
    for path in ("/", "/?part=now", "/projects/1", "/projects/1?part=now"):
        html = site.text(path)
        assert "<script>alert" not in html and "\u202e" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;\\u202e" in html


def test_without_the_queues_tab_no_link_begins_to_label(site: Site) -> None:
    """A bare ``?labeling=1`` serves by number in a fresh browser."""
    fill(site.state, site.settings)
    site.state.projects.update(1, queue_tab=None)
    html = site.text("/projects/1")
    assert f'href="{STUDIO}/projects/1/data"' in html and "labeling=1" not in html


def test_an_address_that_is_none_becomes_no_link(site: Site) -> None:
    fill(site.state, site.settings)
    for address in ("javascript:alert(1)", "http://", "ftp://labels.example", 'http://a" onclick="x'):
        site.state.projects.update(1, url=address)
        html = site.text("/projects/1")
        assert "javascript:" not in html and "In Label Studio" not in html and "onclick" not in html


# -- what they say -----------------------------------------------------------------------------------------------------


def test_the_page_of_a_project_says_what_the_state_holds(site: Site) -> None:
    fill(site.state, site.settings)
    html = site.text("/projects/1")
    text = words_of(html)
    for words in (
        "Pets",
        "91 % of the predictions for left-out labels are right, with 150 labels (95 % interval 85 % to 95 %)",
        "it was 78 % with 100, so it rose",
        "Cycle 4: training the network",
        "25 % of this phase · about 5 s left, by the last cycle",
        "34 of 50 annotations",
        "16 more are there",
        "not an image: it is a text",
        "1: skipped",
        "The next 24 images of the queue",
        "cat 75 %",
        "off by 4.0 points",
        "budget 50 extra params",
        "margin-c3-00000001 (in use)",
        "read 0.3 · images 1.0 · train 2.5 · score 1.5 · publish 1.2",
    ):
        assert words in text, words
    assert html.count("<img ") == 24
    for link in ("data?tab=71", "data?tab=71&amp;labeling=1", "data?task=58", "settings/ml"):
        assert f'href="{STUDIO}/projects/1/{link}"' in html
    assert "Start a cycle now" not in text, "there is no password"


def test_what_runs_can_be_asked_for_alone(site: Site) -> None:
    fill(site.state, site.settings)
    part = site.text("/projects/1?part=now")
    assert part.lstrip().startswith('<div data-seconds="2"') and "Cycle 4: training the network" in part
    assert "<html" not in part and "History" not in part
    (running,) = site.state.cycles.running()
    site.state.cycles.finish(running.id, 1, "world", status="failed", error="Label Studio was away")
    site.state.projects.update(1, lease_owner=None)
    part = site.text("/projects/1?part=now")
    assert 'data-seconds="15"' in part and "Cycle 4 failed" in part and "Label Studio was away" in part
    assert "Nothing runs now" in part


def test_no_interval_is_drawn_where_nobody_knows_how_many_labels_were_asked(site: Site) -> None:
    connect(site.state, 1, "Pets")
    add_cycle(site.state, 1, labels=50, pool=range(1, 9), train_cv_accuracy=0.8)
    html = site.text("/projects/1")
    assert 'class="point"' in html and 'class="interval"' not in html and "not known" in html


def test_the_curve_goes_on_where_the_state_says_what_to_expect(site: Site) -> None:
    fill(site.state, site.settings)
    assert "Dashed: where" not in site.text("/projects/1")
    points = [CurvePoint(count, 0.95 - 1.2 * count**-0.5, count) for count in range(50, 301, 50)]
    add_cycle(site.state, 1, labels=300, pool=range(1, 61), accuracy=0.88, outlook=outlook(points, 0.0, 36.0))
    html = site.text("/projects/1")
    assert html.count('class="line ahead"') == 2 and "Dashed: where" in html
    assert "labeling may stop here, unless 2.0 points for 300 more (about 3.0 h) are worth it." in words_of(html)


def test_of_masks_the_mean_iou_is_told_without_an_interval_and_no_label_is_taken_for_a_class(site: Site) -> None:
    connect(site.state, 1, "Scenes", config=MASKS_CONFIG)
    site.state.tasks.put(1, {1: "a", 2: "b"})
    site.state.labels.put(1, [StoredLabel(1, "digest-of-a-mask", [[1, "monday"]], 1, 0)])
    add_cycle(site.state, 1, labels=1, pool=[2], task="segmentation")
    html = site.text("/projects/1")
    assert "No cycle has measured an accuracy yet" in html and "digest-of-a-mask" not in html
    add_cycle(site.state, 1, labels=30, pool=[2], task="segmentation", train_mean_iou=0.55, train_cv_labels=8)
    html = site.text("/projects/1")
    assert 'class="point"' in html and 'class="interval"' not in html
    assert "The mean IoU on left-out masks is 55 %, with 30 labels" in words_of(html)


def test_of_several_choices_each_is_counted(site: Site) -> None:
    connect(site.state, 1, "Tags", config=TAGS_CONFIG)
    site.state.tasks.put(1, {1: "a", 2: "b", 3: "c"})
    site.state.labels.put(
        1, [StoredLabel(n, said, [[n, "monday"]], 1, 0) for n, said in ((1, ["cat", "dog"]), (2, ["cat"]), (3, []))]
    )
    text = words_of(site.text("/projects/1"))
    assert "cat 2 67 %" in text and "dog 1 33 %" in text


def test_a_second_studios_project_of_the_same_number_has_its_own_page(site: Site) -> None:
    connect(site.state, 1, "Pets")
    other = site.state.projects.connect(1, "1.5", "<View/>", {}, "http://other.example", "")
    site.state.projects.update(other, title="Others")
    assert f'href="projects/{other}"' in site.text("/") and "Others" in site.text(f"/projects/{other}")


# -- images ------------------------------------------------------------------------------------------------------------


def image_names(html: str) -> list[str]:
    return re.findall(r'src="(1/images/[^"]+)"', html)


def test_images_come_from_the_cache_at_addresses_that_only_a_page_knows(site: Site) -> None:
    fill(site.state, site.settings)
    first, second, *_ = image_names(site.text("/projects/1"))
    answer = site.get(f"/projects/{first}")
    assert answer.status_code == 200 and answer.content_type == "image/jpeg" and answer.data[:2] == b"\xff\xd8"
    assert "private" in answer.headers["Cache-Control"]
    task, seal = re.search(r"/(\d+)-(\w+)\.jpg", first).groups()  # type: ignore[union-attr]
    other = re.search(r"/(\d+)-", second)[1]  # type: ignore[index]
    for guess in (
        f"1/images/{task}-{'0' * 32}.jpg",
        f"1/images/{other}-{seal}.jpg",
        f"1/images/{task}.jpg",
        "1/images/9",
    ):
        assert site.get(f"/projects/{guess}").status_code == 404, guess
    site.state.tasks.put(1, {int(task): "/data/upload/1/another.png"}, changed=[int(task)])
    assert site.get(f"/projects/{first}").status_code == 404, "it was of another image"


def test_two_installations_give_an_image_different_addresses(site: Site, make_site: Any) -> None:
    names = []
    for one in (site, make_site()):
        fill(one.state, one.settings)
        names.append(image_names(one.text("/projects/1"))[0])
    assert names[0] != names[1]


def test_what_a_generator_makes_is_shown_where_there_is_one(site: Site) -> None:
    connect(site.state, 1, "Pets", {"sampler": "asal"})
    assert "asal generates" not in site.text("/projects/1") and site.get("/projects/1/learned.png").status_code == 404
    project = site.state.projects.get(1)
    assert project is not None
    path = learned_picture(project_folder(site.settings.model_dir, project.folder_key))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a picture")
    assert "What asal generates" in words_of(site.text("/projects/1"))
    found = site.get("/projects/1/learned.png")
    assert (found.status_code, found.data, found.content_type) == (200, b"a picture", "image/png")
    site.state.projects.update(1, extra_params={"sampler": "margin"})
    assert "margin generates" not in words_of(site.text("/projects/1"))
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert site.get("/projects/1/learned.png", environ_overrides=elsewhere).status_code == 403


def test_a_project_whose_images_are_not_here_has_a_page_without_them(site: Site) -> None:
    connect(site.state, 1, "Pets")
    fill_tasks(site.state, 1, range(1, 9), [])
    add_cycle(site.state, 1, labels=0, pool=range(1, 9))
    html = site.text("/projects/1")
    assert "<img" not in html and html.count("no image here yet") == 8


# -- a cycle on demand -------------------------------------------------------------------------------------------------


def token_of(site: Site, what: str = "cycle") -> str:
    form = rf'action="1/{what}">\s*<input type="hidden" name="token" value="(\w+)"'
    found = re.search(form, site.text("/projects/1", WITH_PASSWORD))
    assert found is not None
    return found[1]


def ask(site: Site, token: str, what: str = "cycle", **headers: str) -> Any:
    return site.app.test_client().post(f"/projects/1/{what}", data={"token": token}, headers=WITH_PASSWORD | headers)


def asked(site: Site) -> int:
    project = site.state.projects.get(1)
    assert project is not None
    return project.train_seq


def test_the_button_asks_for_one_cycle_however_often_its_form_is_sent(locked: Site) -> None:
    fill(locked.state, locked.settings)
    token = token_of(locked)
    for _ in range(3):
        answer = ask(locked, token)
        assert answer.status_code == 303 and answer.headers["Location"] == "../1"
    assert asked(locked) == 1
    assert "A cycle was asked for" in words_of(locked.text("/projects/1", WITH_PASSWORD))
    assert ask(locked, token_of(locked)).status_code == 303 and asked(locked) == 2
    assert ask(locked, token).status_code == 400 and asked(locked) == 2


def test_the_page_says_how_long_an_annotation_takes_where_label_studio_tells(site: Site) -> None:
    fill(site.state, site.settings)
    assert "An annotation takes" not in site.text("/projects/1")
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, label_seconds=3.4)
    assert "An annotation takes 3.4 s (median, as Label Studio measured it)." in words_of(site.text("/projects/1"))


def test_the_other_button_asks_for_one_replay_and_the_page_says_how_far_it_is(locked: Site) -> None:
    fill(locked.state, locked.settings)
    token = token_of(locked, "replay")
    assert ask(locked, token).status_code == 400, "a form is for one thing alone"
    for _ in range(2):
        assert ask(locked, token, "replay").status_code == 303
    project = locked.state.projects.get(1)
    assert project is not None and project.replay_requested and project.replay_seq == 1 and asked(locked) == 0
    html = locked.text("/projects/1", WITH_PASSWORD)
    assert "A replay was asked for; it begins as soon as" in words_of(html) and 'action="1/replay"' not in html
    locked.state.replays.note(1, OWNER, 80, 320, 60.0)
    now = locked.text("/projects/1?part=now", WITH_PASSWORD)
    assert "Replay: 80 of 320 trainings done, 3 minutes left" in words_of(now) and 'value="80" max="320"' in now
    assert snapshot(locked.state, locked.settings)["projects"][0]["replaying"].startswith("Replay: 80 of 320")
    locked.state.replays.settle(1, OWNER, 1, "Too few labels.")
    assert "not possible. Too few labels." in words_of(locked.text("/projects/1", WITH_PASSWORD))
    assert ask(locked, token_of(locked, "replay"), "replay").status_code == 303
    assert "Too few labels." not in locked.text("/projects/1", WITH_PASSWORD)


@pytest.mark.parametrize("token", ["", "0" * 32, "x"])
def test_a_form_that_no_page_gave_asks_for_nothing(locked: Site, token: str) -> None:
    fill(locked.state, locked.settings)
    assert ask(locked, token).status_code == 400 and asked(locked) == 0


def test_a_form_of_another_site_asks_for_nothing(locked: Site) -> None:
    fill(locked.state, locked.settings)
    assert ask(locked, token_of(locked), **{"Sec-Fetch-Site": "cross-site"}).status_code == 403 and asked(locked) == 0


def test_without_a_password_nothing_can_be_asked_for(site: Site) -> None:
    fill(site.state, site.settings)
    for what in ("cycle", "replay"):
        answer = site.app.test_client().post(f"/projects/1/{what}", data={"token": "0" * 32}, headers=PAGE)
        assert answer.status_code == 403 and "BASIC_AUTH_USER" in answer.get_data(as_text=True) and asked(site) == 0


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_of_the_pages_are_served_under_an_address_that_changes_with_them(site: Site) -> None:
    html = site.text("/")
    for name in ASSETS:
        assert re.search(rf'"assets/{re.escape(name)}\?\w{{12}}"', html)
        assert "immutable" in site.get(f"/assets/{name}").headers["Cache-Control"]
    assert site.get("/assets/..%2Fguard.py").status_code == 404


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(Exception, match="undefined"):
        page("error.html", root="")


# -- what may be wrong -------------------------------------------------------------------------------------------------

JUDGED = {
    "judged": 15,
    "sure": True,
    "doubts": 3,
    "doubted": [[2, "dog", "cat", 0.03, 0.97], [4, "cat", "dog", 0.1, 0.9], [3, "dog", "cat", 0.2, 0.8]],
    "reliability": [[0.55, 0.5, 6], [0.92, 1.0, 9]],
    "confusion": [[9, 1], [2, 3]],
}


def test_labels_in_doubt_are_shown_with_their_images_and_links(site: Site) -> None:
    """Task 3 is labeled otherwise by now, so it is left out."""
    fill(site.state, site.settings)
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=JUDGED)
    html = site.text("/projects/1")
    section = html[html.index("What may be wrong") : html.index(">History<")]
    text = words_of(section)
    assert "3 of 15 labels may be wrong" in text
    assert "Task 2 dog 3 % rather cat 97 %" in text and "Task 4 cat 10 % rather dog 90 %" in text
    assert "Task 3" not in text
    assert f"{STUDIO}/projects/1/data?task=2" in section
    for address in re.findall(r'src="(1/images/[^"]+)"', section):
        assert site.get(f"/projects/{address}").content_type == "image/jpeg"
    assert "Confidence against what is right" in html and "What is taken for what" in html


def test_without_doubts_the_page_says_so_and_without_figures_nothing(site: Site) -> None:
    fill(site.state, site.settings)
    assert "What may be wrong" not in site.text("/projects/1")
    none = {"judged": 15, "sure": True, "doubts": 0, "doubted": [], "reliability": []}
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=none)
    text = words_of(site.text("/projects/1"))
    assert "None of 15 labels is in doubt" in text and "What is taken for what" not in text
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=none | {"sure": False})
    assert "No prediction is sure enough yet to doubt one of the 15 labels" in words_of(site.text("/projects/1"))
    changed = none | {"doubts": 1, "doubted": [[3, "dog", "cat", 0.2, 0.8]]}
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=changed)
    assert "have been changed since" in words_of(site.text("/projects/1"))


def test_class_names_in_doubt_are_escaped(site: Site) -> None:
    fill(site.state, site.settings)
    site.state.labels.put(1, [StoredLabel(2, "<b>dog</b>", [[2, "monday"]], 1, 0)])
    doubted = [[2, "<b>dog</b>", "<i>cat</i>", 0.03, 0.97]]
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=JUDGED | {"doubted": doubted})
    html = site.text("/projects/1")
    assert "&lt;b&gt;dog&lt;/b&gt;" in html and "<i>cat" not in html


# -- the control arm ---------------------------------------------------------------------------------------------------


def test_the_page_shows_what_was_measured_on_random_images_and_against_chance(site: Site) -> None:
    connect(site.state, 1, "Pets")
    fill_tasks(site.state, 1, range(1, 41), ["cat", "dog"] * 5)
    for labels, accuracy in ((100, 0.7), (600, 0.8)):
        add_cycle(site.state, 1, labels=labels, pool=range(11, 41), accuracy=0.9, **control_metrics(accuracy=accuracy))
    html = site.text("/projects/1")
    text = words_of(html)
    for words in (
        "On 65 random images that nothing learned from, the share of right answers is 80 %",
        "(95 % interval 68 % to 89 %)",
        "The sampler is better than chance here: its first 60 labels teach 80 % of 125 random images right",
        "Labels saved: 29 of 60 (95 % interval 7 to 42)",
        "100 labels 70 % 68 % to 89 % 65",
        "60 random labels alone 70 % – 125",
    ):
        assert words in text
    assert html.count('class="beside"') == 2 * 2  # a square of each cycle, in the wide and in the narrow chart


def test_a_sampler_that_is_worse_than_chance_is_a_warning_on_the_page(site: Site) -> None:
    connect(site.state, 1, "Pets")
    add_cycle(site.state, 1, labels=600, pool=range(11, 41), **control_metrics(compared=compared(-0.2, -0.02)))
    html = site.text("/projects/1")
    assert "The sampler is worse than chance here" in words_of(html)
    assert re.search(r'class="alert warning">The sampler is worse', html)


def test_before_enough_is_labeled_the_page_says_how_much_is_needed(site: Site) -> None:
    connect(site.state, 1, "Pets")
    text = words_of(site.text("/projects/1"))
    assert "10 % of what is served is drawn by chance" in text and "No cycle has measured it." in text
    add_cycle(
        site.state, 1, labels=100, pool=range(11, 41), **control_metrics(labels=12, n=0, accuracy=None, compared={})
    )
    text = words_of(site.text("/projects/1"))
    assert "No random image that nothing learned from is labeled yet" in text
    assert "12 control labels so far; about 50 are needed" in text


def test_without_an_arm_the_page_says_nothing_of_one(make_site: Callable[..., Site]) -> None:
    site = make_site(control_fraction=0.0)
    connect(site.state, 1, "Pets")
    add_cycle(site.state, 1, labels=100, pool=range(11, 41))
    assert 'id="control"' not in site.text("/projects/1")


def test_where_the_outlook_is_of_random_images_it_is_their_curve_that_goes_on(site: Site) -> None:
    connect(site.state, 1, "Pets", {"sampler": "margin"})
    fill_tasks(site.state, 1, range(1, 61), ["cat"] * 10)
    points = [CurvePoint(count, 0.9 - 0.9 / count**0.5, 500) for count in range(100, 401, 100)]
    found = outlook(points, 0.0, None)
    assert found is not None and found["rises"]
    for by, place in (("left-out labels", 0), ("control", 1)):
        metrics = control_metrics(accuracy=0.8) | {"outlook": found | {"by": by}}
        add_cycle(site.state, 1, labels=400, pool=range(11, 41), accuracy=0.9, **metrics)
        parts = site.text("/projects/1").split('id="control"')
        assert [part.count('class="line ahead"') for part in parts] == [2 - 2 * place, 2 * place]  # wide and narrow
