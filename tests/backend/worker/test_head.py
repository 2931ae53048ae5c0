"""The head of an order in a real Label Studio: what is published of a large pool, and that it is filled up in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend import head
from backend.errors import LabelStudioUnavailable
from backend.events import Work
from backend.labelstudio import http as labelstudio_http
from backend.state import Version
from backend.worker import publisher, reading_back, removal, topping_up
from backend.worker.sync import read_truth
from backend.worker.worker import Worker
from tests.backend.workbench import OWNER, Workbench, add_tasks, label, workbench
from tests.rig.servers import LabelStudioServer
from tests.rig.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow_networks")]

TASKS, HEAD = 26, 10
SINGLE = ("POST", "^/api/predictions/$")
BULK = ("POST", "import/predictions")


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(head, "SHORTEST_HEAD", HEAD)
    monkeypatch.setattr(publisher, "WHOLE_POOL", HEAD)  # so that the project counts as a large one
    settings = {"sampler": "random", "shortlist": 4, "budget": 4, "publish": "head", "reconcile_seconds": 10_000.0}
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, **settings) as made:
        made.state.leases.release(made.project.id, OWNER)
        yield made


def hire(bench: Workbench, **changes: object) -> Worker:
    key = {"label_studio_api_key": bench.job.gateway._token}
    return Worker(replace(bench.job.settings, **{**key, **changes}))


def work(bench: Workbench, hand: Worker, turn: Work = Work.UPKEEP) -> bool:
    project = bench.state.projects.get(bench.project.id)
    assert project is not None
    return hand.work_on(project, turn)


def fill_up(bench: Workbench, hand: Worker) -> bool:
    """Upkeep that gives way to no cycle, because another project trains."""
    with hand.turns.wait(Work.CYCLE, 0, lambda: None):
        return work(bench, hand)


def settle(bench: Workbench, hand: Worker) -> None:
    """All upkeep that is due: the first order, and the rest of its head."""
    while work(bench, hand):
        pass


def current(bench: Workbench) -> Version:
    found = bench.state.versions.current(bench.project.id)
    assert found is not None
    return found


def served(bench: Workbench) -> int:
    task = bench.project.next_task()
    assert task is not None
    return int(task["id"])


def serve_and_label(bench: Workbench) -> int:
    """The task that Label Studio serves next, labeled, with the webhook that says so."""
    task = served(bench)
    bench.project.annotate(task, bench.project.classes[0])
    bench.state.hints.add(bench.project.id, annotations=1)
    return task


def held(bench: Workbench) -> list[int]:
    return [int(item["task"]) for item in bench.project.predictions()]


def asked(bench: Workbench, method: str, part: str) -> bool:
    return any(call.method == method and part in call.path for call in list(bench.proxy.requests))


def test_only_the_head_is_written_and_the_rest_is_known_here(bench: Workbench) -> None:
    settle(bench, hire(bench))
    order = bench.order(current(bench))
    assert len(order) == TASKS and sorted(held(bench)) == sorted(order[:HEAD])
    assert len(bench.state.scores.of_tasks(bench.project.id, order)) == TASKS
    assert not asked(bench, *BULK)
    tabs = bench.project.studio.get("/api/dm/views/", project=bench.project.id)
    (tab,) = [tab for tab in tabs if tab["data"]["title"] == "Acquisition queue (next tasks)"]
    shown = bench.project.studio.get("/api/tasks/", project=bench.project.id, view=tab["id"])
    assert [task["id"] for task in shown["tasks"]] == order[:HEAD]


def test_the_first_order_has_its_whole_head_before_the_worker_turns_to_anything_else(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several annotators use up its first tasks while the worker would make the queue's tab."""
    before_the_tab: list[int] = []
    monkeypatch.setattr(
        "backend.worker.queue_order.make_tab",
        lambda job: before_the_tab.append(len(bench.project.predictions(current(bench).name))),
    )
    work(bench, hire(bench))
    assert before_the_tab[0] == HEAD


def test_the_order_is_served_past_the_end_of_the_head(bench: Workbench) -> None:
    hand = hire(bench)
    settle(bench, hand)
    order = bench.order(current(bench))
    opened = []
    for _ in order:
        opened.append(serve_and_label(bench))
        work(bench, hand)
    assert opened == order
    assert sorted(held(bench)) == sorted(order)  # each was written once
    assert not work(bench, hand)


def test_nothing_is_due_while_half_of_the_head_is_left(bench: Workbench) -> None:
    hand = hire(bench)
    settle(bench, hand)
    for _ in range(HEAD // 2):
        assert not work(bench, hand)
        serve_and_label(bench)
    serve_and_label(bench)
    assert fill_up(bench, hand)
    assert len(held(bench)) == HEAD + HEAD // 2 + 1


def test_a_skipped_task_uses_the_head_up_as_well(bench: Workbench) -> None:
    hand = hire(bench)
    settle(bench, hand)
    for _ in range(HEAD // 2 + 1):
        task = served(bench)
        bench.project.studio.post(f"/api/tasks/{task}/annotations/", {"result": [], "was_cancelled": True})
        bench.state.hints.add(bench.project.id, annotations=1)
    assert fill_up(bench, hand)
    assert len(held(bench)) == HEAD + HEAD // 2 + 1


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.long), 4])
def test_filling_up_that_is_cut_off_goes_on_and_writes_nothing_twice(bench: Workbench, times: int) -> None:
    hand = hire(bench)
    settle(bench, hand)
    order = bench.order(current(bench))
    for _ in range(HEAD // 2 + 1):
        serve_and_label(bench)
    bench.proxy.set(*SINGLE, cut="after", nth=times)
    fill_up(bench, hand)
    bench.proxy.clear()
    bench.state.projects.update(bench.project.id, retry_at=0.0)
    wait_for("upkeep", lambda: fill_up(bench, hire(bench)))
    assert sorted(held(bench)) == sorted(order[: HEAD + HEAD // 2 + 1])


BREAKS = {
    "broken off before": {"cut": "before"},
    "broken off after": {"cut": "after"},
    "502, yet written": {"cut": "after", "status": 502},
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(
    "nth", [pytest.param(2, id="in the shortlist", marks=pytest.mark.long), pytest.param(6, id="after the switch")]
)
def test_publishing_a_head_that_breaks_is_resumed_and_nothing_is_doubled(bench: Workbench, nth: int, how: str) -> None:
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    read_truth(bench.job.reread())
    version = bench.scored(name="random-c1-00000001")
    bench.proxy.set(*SINGLE, nth=nth, **BREAKS[how])
    with pytest.raises(LabelStudioUnavailable):
        publisher.publish(bench.job.reread(), version)
    fresh = bench.state.versions.get(version.id)
    assert fresh is not None
    publisher.publish(bench.restarted(), fresh)
    assert sorted(held(bench)) == sorted(bench.order(version)[:HEAD])
    assert bench.project.info()["model_version"] == version.name and bench.status(version) == "current"


def test_the_head_is_filled_up_while_a_cycle_trains(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topping_up, "LOOK_SECONDS", 0.05)
    settle(bench, hire(bench))
    order = bench.order(current(bench))
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    with topping_up.kept_full(bench.job.reread()):
        opened = [serve_and_label(bench) for _ in range(HEAD // 2 + 1)]
        wait_for("more of the head", lambda: len(held(bench)) > HEAD)
        opened += [serve_and_label(bench) for _ in range(HEAD // 2 + 1)]
    assert opened == order[: len(opened)]


def test_a_cycle_ends_when_enough_is_ready_and_the_rest_follows(bench: Workbench) -> None:
    settle(bench, hire(bench))
    for _ in range(4):
        serve_and_label(bench)
    hand = hire(bench, shortlist=1)
    assert work(bench, hand, Work.CYCLE)
    version = current(bench)
    order = bench.order(version)
    ready = [int(item["task"]) for item in bench.project.predictions(version.name)]
    assert ready == order[:1] and bench.status(version) == "current"
    assert work(bench, hand)
    assert len(bench.project.predictions(version.name)) == HEAD


def test_filling_up_gives_way_to_a_cycle_once_enough_is_ready(bench: Workbench) -> None:
    settle(bench, hire(bench))
    first = current(bench)
    for _ in range(6):  # of 10, and a cycle is due at 4
        serve_and_label(bench)
    hand = hire(bench, shortlist=5)  # 4 are left
    assert work(bench, hand)
    assert len(held(bench)) == HEAD + 1
    assert work(bench, hand, Work.CYCLE) and current(bench) != first


def test_what_joins_in_front_is_written_and_what_joins_behind_is_not(bench: Workbench) -> None:
    hand = hire(bench)
    settle(bench, hand)
    add_tasks(bench.project, TASKS, pictures=True, seed=1)
    bench.state.hints.add(bench.project.id, tasks=True)
    settle(bench, hand)
    order = bench.order(current(bench))
    assert len(order) == 2 * TASKS
    assert set(order[:HEAD]) <= set(held(bench)) and len(held(bench)) <= 2 * HEAD


def test_a_superseded_head_goes_one_by_one_and_never_the_version_in_use(bench: Workbench) -> None:
    hand = hire(bench, cleanup_seconds=0.0)
    settle(bench, hand)
    first = current(bench)
    label(bench, 4)
    bench.state.hints.add(bench.project.id, annotations=4)
    assert work(bench, hand, Work.CYCLE)
    second = current(bench)
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"model_version": first.name})  # a stale page
    work(bench, hand)
    assert bench.project.info()["model_version"] == second.name
    assert set(held(bench)) == set(bench.order(second)[:HEAD]) and bench.status(first) == "removed"
    assert not asked(bench, "DELETE", "model-versions")


def test_a_version_that_comes_into_use_while_it_is_removed_is_replaced_first(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settings page that was opened before the last order is saved in the middle of it."""
    monkeypatch.setattr(removal, "LOOK_EVERY", 2)
    settle(bench, hire(bench))
    first = current(bench)
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    second = bench.scored(bench.order(first)[5:], name="random-c1-00000001")
    publisher.publish(bench.job.reread(), second)
    delete = bench.job.gateway.predictions.delete
    deleted: list[int] = []

    def delete_and_save(number: int) -> None:
        delete(number)
        deleted.append(number)
        if len(deleted) == 1:
            bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"model_version": first.name})

    monkeypatch.setattr(bench.job.gateway.predictions, "delete", delete_and_save)
    assert removal.remove_superseded(bench.job)
    assert bench.project.version() == second.name
    assert sorted(held(bench)) == sorted(bench.order(second)[:HEAD]) and bench.status(first) == "removed"


def test_a_version_that_the_owner_chose_is_not_removed(bench: Workbench) -> None:
    settle(bench, hire(bench))
    first = current(bench)
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    publisher.publish(bench.job.reread(), bench.scored(name="random-c1-00000001"))
    bench.with_settings(manage_queue=False)
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"model_version": first.name})
    assert not removal.remove_superseded(bench.job)
    assert bench.project.version() == first.name and set(bench.order(first)[:HEAD]) <= set(held(bench))


def test_tasks_that_a_colleague_labeled_are_written_besides_the_head(bench: Workbench) -> None:
    """Two annotations a task: Label Studio serves these first to whoever comes second."""
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"maximum_annotations": 2})
    hand = hire(bench)
    settle(bench, hand)
    labeled = [serve_and_label(bench) for _ in range(4)]
    assert work(bench, hand, Work.CYCLE)
    settle(bench, hand)
    version = current(bench)
    assert version.cycle == 1
    of_version = {int(item["task"]) for item in bench.project.predictions(version.name)}
    free = [task for task in bench.order(version) if task not in labeled]
    assert of_version == {*labeled, *free[:HEAD]}
    assert served(bench) == free[0]  # to the one who labeled the others


def test_removing_stops_in_time_and_goes_on_later(bench: Workbench) -> None:
    settle(bench, hire(bench))
    first = current(bench)
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    second = bench.scored(bench.order(first)[5:], name="random-c1-00000001")
    publisher.publish(bench.job.reread(), second)
    before = len(held(bench))
    assert removal.remove_superseded(bench.job, seconds=0.1)
    assert 2 * HEAD > len(held(bench)) >= HEAD or before == len(held(bench))
    until = time.monotonic() + 60
    while bench.status(first) != "removed" and time.monotonic() < until:
        assert removal.remove_superseded(bench.job, seconds=0.2)
    assert sorted(held(bench)) == sorted(bench.order(second)[:HEAD])


def test_nothing_is_removed_by_a_label_studio_that_does_not_answer(bench: Workbench) -> None:
    settle(bench, hire(bench))
    first = current(bench)
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    publisher.publish(bench.job.reread(), bench.scored(name="random-c1-00000001"))
    bench.proxy.set("DELETE", "/api/predictions/", cut="before", stays=True)
    with pytest.raises(LabelStudioUnavailable):
        removal.remove_superseded(bench.job)
    assert bench.status(first) == "superseded" and len(bench.order(first)) == TASKS
