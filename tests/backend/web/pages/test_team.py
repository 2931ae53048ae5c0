"""What the page says of several annotators, and its form that asks one more of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from backend.state import StoredLabel
from tests.backend.web.pages.conftest import PAGE, WITH_PASSWORD, Site
from tests.backend.web.pages.test_pages import words_of
from tests.backend.web.pages.world import OWNER, STUDIO, add_cycle, fill

EVIL = "<b>Ann</b>\u202e"


def share(value: float, n: int, low: float | None = 0.1, high: float | None = 0.9) -> dict[str, Any]:
    return {"value": value, "n": n, "low": low, "high": high}


FIGURES: dict[str, Any] = {
    "compares": "classes",
    **share(0.75, 40, 0.5880, 0.8731),
    "alpha": 0.62,
    "annotators": [{"id": 1, **share(0.9, 40)}, {"id": 2, **share(0.8, 30)}],
    "pairs": [{"ids": [1, 2], **share(0.7, 30), "kappa": 0.41}],
    "disagreements": 12,
    "disagreed": [[2, [[1, "dog"], [2, "<i>cat</i>"]]], [59, [[1, "dog"], [2, "cat"]]]],
    "names": {"1": EVIL, "2": ""},
}
RELABEL = {"shared": 40, "count": 7, "of": 50, "best_new": 0.4, "proposed": [[3, 0.3, 1], [4, 0.35, 1], [2, 0.36, 1]]}


def team_on(site: Site) -> None:
    """Of the 15 labels, task 4 was annotated again since the cycle."""
    fill(site.state, site.settings)
    site.state.team.keep_agreement(1, OWNER, FIGURES)
    answered = {
        2: [[2, 1, "dog", False], [92, 2, "cat", False]],
        3: [[3, 1, "cat", False]],
        4: [[4, 1, "cat", False], [94, 2, "cat", False]],
    }
    for task, answers in answered.items():
        counted = [[number, "monday"] for number, *_ in answers]
        site.state.labels.put(1, [StoredLabel(task, "cat", counted, len(answers), 0, answers=answers)])
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, relabel=RELABEL)


def section_of(site: Site, headers: dict[str, str] = PAGE) -> str:
    html = site.text("/projects/1", headers)
    return html[html.index("What may be wrong") : html.index(">History<")]


def test_agreement_disagreements_and_what_is_worth_asking_again_are_shown(site: Site) -> None:
    team_on(site)
    section = section_of(site)
    text = words_of(section)
    assert "All gave the same answer on 75 % (95 % interval 59 % to 87 %) of 40 tasks that several people" in text
    assert "Krippendorff's α is 0.62." in text
    assert "and user 2 70 % (10 % to 90 %) 0.41 30" in text
    assert "Annotators say different things on 12 tasks; here are those that were annotated last." in text
    assert "Task 2 cat" in text and "user 2: &lt;i&gt;cat&lt;/i&gt;" in section
    assert "Task 59" not in text, "it has no label any more"
    assert "7 of the next 50 annotations are worth more on labeled tasks than on new ones." in text
    assert "Task 3 cat said by 1 annotator" in text and "Task 4" not in text, "two have labeled that one by now"
    assert f"{STUDIO}/projects/1/data?task=2" in section
    assert "<b>Ann" not in section and "\u202e" not in section and "&lt;b&gt;Ann" in section
    assert "<form" not in section, "nothing is changed without a password"


def test_of_sets_the_page_says_what_they_have_in_common(site: Site) -> None:
    team_on(site)
    pairs = [{"ids": [1, 2], **share(0.7, 30, None, None), "kappa": None}]
    sets = {"compares": "sets", "low": None, "high": None, "alpha": None, "pairs": pairs}
    site.state.team.keep_agreement(1, OWNER, FIGURES | sets)
    text = words_of(section_of(site))
    assert (
        "What people ticked on 40 tasks that several labeled has 75 % in common on average (Jaccard)" in text
        and "κ" not in text
    )


def test_before_enough_tasks_are_shared_the_page_says_how_many_are_missing(site: Site) -> None:
    team_on(site)
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), relabel={"shared": 4, "needed": 10})
    assert "once 6 more tasks have labels of two people" in words_of(section_of(site))


def form_of(site: Site, task: int) -> dict[str, str]:
    found = re.search(
        rf'name="task" value="{task}">\s*<input type="hidden" name="token" value="(\w+)"',
        section_of(site, WITH_PASSWORD),
    )
    assert found is not None
    return {"task": str(task), "token": found[1]}


def send(site: Site, form: dict[str, str], **headers: str) -> Any:
    return site.app.test_client().post("/projects/1/again", data=form, headers=WITH_PASSWORD | headers)


def asked(site: Site) -> list[int]:
    return [one.task_id for one in site.state.team.asked(1)]


def test_the_button_asks_for_one_more_annotator_however_often_it_is_pressed(locked: Site) -> None:
    team_on(locked)
    form = form_of(locked, 3)
    before = locked.state.projects.get(1)
    for _ in range(2):
        answer = send(locked, form)
        assert answer.status_code == 303 and answer.headers["Location"] == "../1"
    after = locked.state.projects.get(1)
    assert before is not None and after is not None and after.refresh_seq > before.refresh_seq, "upkeep is due"
    assert asked(locked) == [3]
    text = words_of(section_of(locked, WITH_PASSWORD))
    assert "Task 3 cat said by 1 annotator waits for one more annotator" in text and "1 task waits" in text


def withdrawal_of(site: Site, task: int) -> dict[str, str]:
    section = section_of(site, WITH_PASSWORD)
    found = re.findall(rf'/not-again">\s*<input[^>]*name="task" value="{task}">\s*<input[^>]*value="(\w+)"', section)
    assert len(found) == 1, "one button for each task that waits"
    return {"task": str(task), "token": found[0]}


@pytest.mark.parametrize("task", [3, 9], ids=["shown", "not shown"])
def test_what_was_asked_by_mistake_is_taken_back_by_a_button(locked: Site, task: int) -> None:
    team_on(locked)
    locked.state.team.ask(1, task)
    form, before = withdrawal_of(locked, task), locked.state.projects.get(1)
    crossed = locked.app.test_client().post("/projects/1/again", data=form, headers=WITH_PASSWORD)
    assert crossed.status_code == 400, "a form of its own"
    for _ in range(2):
        answer = locked.app.test_client().post("/projects/1/not-again", data=form, headers=WITH_PASSWORD)
        assert answer.status_code == 303
    after = locked.state.projects.get(1)
    assert before is not None and after is not None and after.refresh_seq > before.refresh_seq, "upkeep is due"
    assert asked(locked) == [] and "not-again" not in section_of(locked, WITH_PASSWORD)


def test_nobody_takes_anything_back_without_a_page_and_a_password(site: Site, locked: Site) -> None:
    for one, headers, status in ((site, PAGE, 403), (locked, WITH_PASSWORD, 400)):
        team_on(one)
        one.state.team.ask(1, 3)
        form = {"task": "3", "token": "0" * 32}
        answer = one.app.test_client().post("/projects/1/not-again", data=form, headers=headers)
        assert answer.status_code == status and asked(one) == [3]
    assert "not-again" not in section_of(site)


def test_a_form_of_another_task_or_of_no_page_or_site_asks_for_nothing(locked: Site) -> None:
    team_on(locked)
    form = form_of(locked, 3)
    for wrong in ({"task": "2"}, {"task": "x"}, {"task": ""}, {"token": "0" * 32}, {"task": "99999999999"}):
        assert send(locked, form | wrong).status_code == 400
    assert send(locked, form, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert asked(locked) == []


def test_a_task_that_lost_its_label_is_not_asked_again(locked: Site) -> None:
    team_on(locked)
    form = form_of(locked, 3)
    locked.state.labels.remove(1, [3])
    answer = send(locked, form)
    assert answer.status_code == 400 and "nothing to ask again" in answer.get_data(as_text=True)


def test_without_a_password_nobody_can_ask(site: Site) -> None:
    team_on(site)
    answer = site.app.test_client().post("/projects/1/again", data={"task": "3", "token": "0" * 32}, headers=PAGE)
    assert answer.status_code == 403 and asked(site) == []


def test_metrics_have_the_same_figures_and_no_names(site: Site) -> None:
    team_on(site)
    lines = site.get("/metrics", {}).get_data(as_text=True)
    for line in (
        'active_learning_agreement{project="1"} 0.75',
        'active_learning_agreement_n{project="1"} 40.0',
        'active_learning_agreement_alpha{project="1"} 0.62',
        'active_learning_annotator_agreement{annotator="2",project="1"} 0.8',
        'active_learning_pair_kappa{annotator="1",other="2",project="1"} 0.41',
        'active_learning_disagreements{project="1"} 12.0',
        'active_learning_worth_asking_again{project="1"} 7.0',
        'active_learning_asked_again{project="1"} 0.0',
    ):
        assert line in lines
    assert "<b>" not in lines


@pytest.mark.parametrize("subject", ["agreement", "relabeling"])
def test_status_has_them_too(site: Site, subject: str) -> None:
    from backend.reporting.snapshot import snapshot

    assert snapshot(site.state, site.settings)["projects"] == []
    team_on(site)
    (project,) = snapshot(site.state, site.settings)["projects"]
    assert project[subject]["sentence"]
    assert project["agreement"]["n"] == 40 and project["relabeling"]["proposed"][0]["task"] == 3
