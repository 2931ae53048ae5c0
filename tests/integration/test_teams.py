"""Several people label one project: what Label Studio serves to whom, and that each finds a prediction."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.integration.helpers import (
    FRUIT,
    Colleague,
    LabelProject,
    Seen,
    Studio,
    start_backend,
    wait_for,
    wait_until_quiet,
)
from tests.rig.servers import BackendServer

BUDGET = 5
NO_CYCLE = {"sampler": "margin", "budget": 1000}


@pytest.fixture(scope="module")
def colleagues(studio: Studio) -> list[Colleague]:
    return [Colleague(studio.server, f"annotator-{secrets.token_hex(4)}") for _ in range(2)]


def opened(project: LabelProject) -> int:
    task = project.next_task()
    assert task is not None
    return int(task["id"])


@pytest.mark.parametrize("people", [pytest.param(2, marks=pytest.mark.long), 3])
def test_label_all_tasks_serves_the_order_and_no_task_twice(
    people: int, backend: BackendServer, make_project: Callable[..., LabelProject], colleagues: list[Colleague]
) -> None:
    # Not in the same instant: over SQLite, Label Studio looks for a lock and takes it in two steps.
    project = make_project(FRUIT, 4 * people).connected(backend.url, NO_CYCLE)
    order = project.published_order(project.wait_for_cycle(0))
    team = [project, *(project.seen_by(one) for one in colleagues[: people - 1])]
    assert [opened(person) for person in team] == order[:people]  # each has one open, and nobody the same
    assert [opened(person) for person in team] == order[:people]  # which stays theirs until it is labeled

    done: list[int] = []
    for turn in range(len(order)):
        done += team[turn % people].label_served(1)
    assert sorted(done) == sorted(order)
    assert all(task["total_annotations"] == 1 for task in project.tasks().values())


@pytest.mark.long
def test_label_tasks_as_displayed_serves_one_task_to_two_people(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen, colleagues: list[Colleague]
) -> None:
    """Why the documentation advises teams against it. If this fails, Label Studio has learned to lock there too."""
    project = make_project(FRUIT, 6).connected(backend.url, NO_CYCLE)
    order = project.published_order(project.wait_for_cycle(0))
    wait_until_quiet(seen, project)
    tabs = project.studio.get("/api/dm/views/", project=project.id)
    (tab,) = [tab for tab in tabs if tab["data"]["title"] == "Acquisition queue"]
    team = [project.studio, *colleagues]
    shown = {name: tab["data"][name] for name in ("filters", "ordering")}  # as the Data Manager sends them
    query = {"id": "next_task", "project": project.id, "tabID": tab["id"]}
    served = [one.post("/api/dm/actions", shown, **query)["id"] for one in team]
    assert served == [order[0]] * 3


@pytest.mark.parametrize("people", [pytest.param(2, marks=pytest.mark.long), 3])
def test_with_two_annotations_a_task_whoever_comes_second_finds_a_prediction(
    people: int, backend: BackendServer, make_project: Callable[..., LabelProject], colleagues: list[Colleague]
) -> None:
    """Label Studio serves what a colleague has labeled first, and after a cycle only the new version counts."""
    project = make_project(FRUIT, 18)
    project.studio.patch(f"/api/projects/{project.id}/", {"maximum_annotations": 2})
    project.connected(backend.url, {"sampler": "margin", "budget": BUDGET})
    project.wait_for_cycle(0)
    labeled = project.label_served(BUDGET)
    version = project.wait_for_cycle(1)
    assert set(labeled) <= set(project.published_order(version))

    others = [project.seen_by(one) for one in colleagues[: people - 1]]
    for person in others:
        task = opened(person)
        assert task in labeled
        found = person.studio.get(f"/api/tasks/{task}/")["predictions"]
        (mine,) = [item for item in found if item["model_version"] == version]
        assert mine["result"][0]["value"]["choices"][0] in FRUIT
    finished = 0
    while finished < BUDGET - 1:  # one less than makes the next cycle due
        person = others[finished % len(others)]
        task = opened(person)
        assert task in labeled
        person.annotate(task, FRUIT[0])
        finished += 1
    if people == 2:
        (left,) = set(labeled) - {task for task, one in project.tasks().items() if one["is_labeled"]}
        assert opened(others[0]) == left


@pytest.mark.long
def test_a_second_annotation_that_is_asked_for_later_gets_a_prediction_too(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen, colleagues: list[Colleague]
) -> None:
    project = make_project(FRUIT, 12).connected(backend.url, {"sampler": "margin", "budget": BUDGET})
    project.wait_for_cycle(0)
    labeled = project.label_served(BUDGET)
    version = project.wait_for_cycle(1)
    assert not set(labeled) & set(project.published_order(version))

    project.studio.patch(f"/api/projects/{project.id}/", {"maximum_annotations": 2})

    wait_for("their predictions", lambda: set(labeled) <= set(project.published_order(version)))
    assert opened(project.seen_by(colleagues[0])) in labeled
    wait_until_quiet(seen, project)
    assert seen.cycles(project) == [1]


def test_two_who_disagree_are_shown_and_the_consensus_decides_what_is_learned(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen, colleagues: list[Colleague]
) -> None:
    """The owner and a colleague say apple, another one, last, says pear; then the owner sets another consensus."""
    project = make_project(FRUIT, 12)
    project.studio.patch(f"/api/projects/{project.id}/", {"maximum_annotations": 3})
    params = {**NO_CYCLE, "consensus": "latest"}
    project.connected(backend.url, params)
    project.wait_for_cycle(0)
    first, second = sorted(project.tasks())[:2]
    team = [project, *(project.seen_by(one) for one in colleagues)]
    for task, said in ((first, ("apple", "apple", "pear")), (second, ("plum", "plum", "plum"))):
        for person, fruit in zip(team, said, strict=True):
            person.annotate(task, fruit)

    def learned() -> dict[int, str]:
        return seen.state.labels.of(project.id, [first, second])

    project.start_training()
    project.wait_for_cycle(1)
    assert learned() == {first: "pear", second: "plum"}
    page = requests.get(f"{backend.url}/projects/{project.id}", headers={"Accept": "text/html"}, timeout=60).text
    assert "All gave the same answer on 50 %" in page
    names = [colleague.name for colleague in colleagues]
    assert f"{names[0]}: apple</p>" in page and f"{names[1]}: pear</p>" in page
    assert f"/projects/{project.id}/data?task={first}" in page
    assert seen.pending(project) == 0

    changed = {"url": backend.url, "project": project.id, "extra_params": {**params, "consensus": "majority"}}
    project.studio.patch(f"/api/ml/{project.ml_backend}", changed)
    wait_for("the other consensus", lambda: learned() == {first: "apple", second: "plum"})
    wait_for("a changed label", lambda: seen.pending(project) == 1)


def how_served(project: LabelProject, task: int) -> tuple[int, bool]:
    """(overlap, whether Label Studio counts it as finished)."""
    found = project.studio.get(f"/api/tasks/{task}/")
    return found["overlap"], found["is_labeled"]


@pytest.mark.long
def test_a_task_that_is_asked_again_on_the_page_is_served_first_to_whoever_has_not_labeled_it(
    studio: Studio, make_project: Callable[..., LabelProject], colleagues: list[Colleague], tmp_path: Path
) -> None:
    """With one annotation a task, and the network that a cycle doubts labels with. Nobody's annotation changes, and the
    next one ends it. Another task that was asked by mistake is served as before."""
    locked = start_backend(tmp_path, studio, BASIC_AUTH_USER="owner", BASIC_AUTH_PASS="open-sesame", TASK_WIDTH="0")
    try:
        project = make_project(FRUIT, 30).connected(locked.url, NO_CYCLE, auth=("owner", "open-sesame"))
        project.wait_for_cycle(0)
        tasks = project.tasks()
        labeled = sorted(tasks)[:18]
        other = project.seen_by(colleagues[0])
        for place, task in enumerate(labeled):
            truth = project.truth(tasks[task])
            project.annotate(task, truth)
            if place < 12:
                other.annotate(task, truth if place else next(name for name in FRUIT if name != truth))
        again, seen = labeled[0], Seen.of(locked)
        project.start_training()
        version = project.wait_for_cycle(1)
        before = studio.get(f"/api/tasks/{again}/annotations/")

        address = f"{locked.url}/projects/{project.id}"
        browser = {"auth": ("owner", "open-sesame"), "headers": {"Accept": "text/html"}, "timeout": 60}
        page = requests.get(address, **browser).text  # type: ignore[arg-type]
        assert "of the next 1,000 annotations are worth more on labeled tasks than on new ones" in page
        token = re.search(rf'name="task" value="{again}">\s*<input type="hidden" name="token" value="(\w+)"', page)
        assert token is not None
        form = {"task": str(again), "token": token[1]}
        assert requests.post(f"{address}/again", data=form, **browser).ok  # type: ignore[arg-type]

        mistaken = labeled[1]
        before_that = how_served(project, mistaken)
        assert seen.state.team.ask(project.id, mistaken) and seen.state.hints.add(project.id, tasks=True)
        wait_for("that it is served again", lambda: how_served(project, mistaken) == (3, False))
        page = requests.get(address, **browser).text  # type: ignore[arg-type]
        token = re.search(rf'/not-again">\s*<input[^>]*value="{mistaken}">\s*<input[^>]*value="(\w+)"', page)
        assert token is not None
        form = {"task": str(mistaken), "token": token[1]}
        assert requests.post(f"{address}/not-again", data=form, **browser).ok  # type: ignore[arg-type]
        wait_for("that it is taken back", lambda: how_served(project, mistaken) == before_that)
        wait_for("that this is over", lambda: seen.state.team.withdrawn(project.id) == [])

        wait_for("its prediction in front", lambda: again in project.published_order(version)[:2])
        wait_until_quiet(seen, project)
        assert again not in (opened(project), opened(other)), "who labeled it is asked for something else"
        third = project.seen_by(colleagues[1])
        assert opened(third) == again
        third.annotate(again, "plum")
        seen.state.hints.add(project.id, tasks=True)  # or five minutes later
        wait_for("that it is done", lambda: seen.state.team.asked(project.id) == [])
        assert project.tasks()[again]["is_labeled"]
        assert [one for one in studio.get(f"/api/tasks/{again}/annotations/") if one in before] == before
    finally:
        locked.stop()
