"""Several people label one project: what Label Studio serves to whom, and that each finds a prediction."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.integration.helpers import FRUIT, Colleague, LabelProject, Seen, Studio, wait_for, wait_until_quiet
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


@pytest.mark.parametrize("people", [2, 3])
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


@pytest.mark.parametrize("people", [2, 3])
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
