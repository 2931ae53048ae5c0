"""The worker: what it finds due, leases, failures and retries, upkeep; against a real Label Studio, turn by turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.errors import LeaseLost, OwnerError, Stopped
from backend.events import Work
from backend.labelstudio import http as labelstudio_http
from backend.labelstudio.client import LabelStudio
from backend.learning.learner import Learner
from backend.state import Project, Version
from backend.worker import reading_back, removal
from backend.worker.commands import run_cycle_now
from backend.worker.worker import Worker
from tests.backend.small_label_studio import CONFIG, project_key, small_label_studio
from tests.backend.workbench import OWNER, Workbench, add_tasks, draw, label, masks_config, workbench
from tests.integration.helpers import FRUIT
from tests.rig.servers import LabelStudioServer
from tests.rig.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow_networks")]

TASKS, BUDGET = 12, 3
SINGLE = ("POST", "^/api/predictions/$")


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    settings = {"sampler": "entropy", "shortlist": 3, "budget": BUDGET, "reconcile_seconds": 10_000.0}
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, **settings) as made:
        made.state.leases.release(made.project.id, OWNER)
        yield made


def hire(bench: Workbench, devices: Sequence[torch.device] = (), **changes: Any) -> Worker:
    """A worker process's inside, started now, without its threads: each test takes the turns itself."""
    key = {"label_studio_api_key": bench.job.gateway._token}
    return Worker(replace(bench.job.settings, **{**key, **changes}), devices=devices)


def row(bench: Workbench) -> Project:
    found = bench.state.projects.get(bench.project.id)
    assert found is not None
    return found


def work_off(bench: Workbench, hand: Worker) -> list[Work]:
    """Lets ``hand`` do all that is due; what it did."""
    did: list[Work] = []
    while len(did) < 20:
        turn = next((work for work in Work if hand.work_on(row(bench), work)), None)
        if turn is None:
            return did
        did.append(turn)
    raise AssertionError(f"something is due for ever: {did}")


def current(bench: Workbench) -> Version:
    found = bench.state.versions.current(bench.project.id)
    assert found is not None
    return found


# -- what is due -------------------------------------------------------------------------------------------------------


def test_the_first_turn_makes_the_first_order_and_then_nothing_is_due(bench: Workbench) -> None:
    hand = hire(bench)
    assert hand.due.work(row(bench)) == {Work.UPKEEP}
    assert work_off(bench, hand)[0] is Work.UPKEEP
    assert current(bench).name.startswith("entropy-c0-")
    assert hand.due.work(row(bench)) == frozenset()
    tabs = bench.project.studio.get("/api/dm/views/", project=bench.project.id)
    assert [tab["data"]["title"] for tab in tabs].count("Acquisition queue") == 1
    queue = next(tab["id"] for tab in tabs if tab["data"]["title"] == "Acquisition queue")
    assert row(bench).queue_tab == queue, "links lead to it"
    bench.project.studio.delete(f"/api/dm/views/{queue}/")
    bench.state.hints.add(bench.project.id, tasks=True)
    assert work_off(bench, hand) == [Work.UPKEEP]
    assert row(bench).queue_tab is None, "its owner has deleted it, and it stays so"


def test_the_tabs_title_says_which_version_orders_the_queue_until_the_owner_renames_it(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    view = f"/api/dm/views/{row(bench).queue_tab}/"

    def after_a_cycle() -> str:
        label(bench, BUDGET)
        bench.state.hints.add(bench.project.id, train=True)
        work_off(bench, hand)
        return str(bench.project.studio.get(view)["data"]["title"])

    assert after_a_cycle() == f"Acquisition queue · {current(bench).name}"  # of this network no accuracy is measured
    bench.project.studio.patch(view, {"project": bench.project.id, "data": {"title": "Ours"}})
    assert after_a_cycle() == "Ours" and row(bench).queue_tab is None


def test_hints_lost_while_no_worker_was_up_are_made_up_for(bench: Workbench) -> None:
    work_off(bench, hire(bench))
    label(bench, BUDGET)  # no webhook reaches anybody
    assert row(bench).pending_annotations == 0
    later = hire(bench)
    assert work_off(bench, later) == [Work.UPKEEP, Work.CYCLE]
    assert current(bench).cycle == 1
    assert later.due.work(row(bench)) == frozenset()


def test_the_budget_is_counted_in_annotations_not_in_webhooks(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    label(bench, 1)
    bench.state.hints.add(bench.project.id, annotations=300)
    assert hand.due.work(row(bench)) == {Work.CYCLE}
    assert work_off(bench, hand) == [Work.CYCLE]
    assert row(bench).pending_annotations == 1 and current(bench).cycle == 0
    assert [cycle.number for cycle in bench.state.cycles.recent(bench.project.id)] == [0]


def test_a_growing_budget_waits_for_its_share_of_the_labels_learned_from(bench: Workbench) -> None:
    """Six labels, and a growth of 1: the next cycle is due after six new ones, not after the budget's three."""
    hand = hire(bench, budget_growth=1.0)
    work_off(bench, hand)
    for new, cycle in ((6, 1), (BUDGET, 1), (3, 2)):
        label(bench, new)
        bench.state.hints.add(bench.project.id, annotations=new)
        work_off(bench, hand)
        assert current(bench).cycle == cycle
    bench.state.hints.add(bench.project.id, annotations=11)
    assert hand.due.work(row(bench)) == frozenset()  # twelve labels by now
    bench.state.hints.add(bench.project.id, annotations=1)
    assert hand.due.work(row(bench)) == {Work.CYCLE}


def test_few_new_tasks_join_and_many_make_the_first_order_again(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    first = current(bench)
    for count, same in ((1, True), (TASKS, False)):
        add_tasks(bench.project, count, pictures=True, seed=count)
        bench.state.hints.add(bench.project.id, tasks=True)
        work_off(bench, hand)
        assert (current(bench).name == first.name) is same
        assert bench.project.missing_predictions(current(bench).name) == ""


def test_predictions_that_the_owner_deleted_are_written_again_at_the_next_comparison(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    for item in bench.project.predictions()[:4]:
        bench.project.studio.delete(f"/api/predictions/{item['id']}/")
    assert hand.due.work(row(bench)) == frozenset()  # Label Studio tells nobody
    work_off(bench, hire(bench))
    assert bench.project.missing_predictions(current(bench).name) == ""
    assert bench.project.published_order() == bench.order(current(bench))


def test_superseded_versions_go_when_it_is_quiet(bench: Workbench) -> None:
    busy = hire(bench)
    work_off(bench, busy)
    first = current(bench)
    label(bench, BUDGET)
    bench.state.hints.add(bench.project.id, annotations=BUDGET)
    work_off(bench, busy)
    assert {item["model_version"] for item in bench.project.predictions()} == {first.name, current(bench).name}
    quiet = hire(bench, cleanup_seconds=0.0)
    work_off(bench, quiet)
    assert {item["model_version"] for item in bench.project.predictions()} == {current(bench).name}
    assert bench.status(first) == "removed"
    kept = [path.name for path in (bench.job.folder / "checkpoints").iterdir()]
    assert kept == [f"{current(bench).name}.pt"]


def test_masks_go_the_whole_way_and_leave_with_their_version(
    label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first order, two cycles, a worker that is killed with masks half written, and the tidying up."""
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    # so that three scenes are enough to draw something
    settings = {"sampler": "entropy", "shortlist": 2, "preannotate": 4, "budget": BUDGET, "class_balance": True}
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, masks=True, **settings) as bench:
        bench.state.leases.release(bench.project.id, OWNER)
        hand = hire(bench, reconcile_seconds=10_000.0)
        assert work_off(bench, hand)[0] is Work.UPKEEP and current(bench).cycle == 0
        assert {item["result"] == [] for item in bench.project.predictions()} == {True}
        for cycle, epochs in ((1, 40), (2, 5)):  # the second goes on from the first
            hand.settings = replace(hand.settings, epochs=epochs)
            draw(bench, BUDGET)
            bench.state.hints.add(bench.project.id, annotations=BUDGET)
            assert work_off(bench, hand) == [Work.CYCLE]
            assert current(bench).cycle == cycle
            assert bench.project.published_order() == bench.order(current(bench))
            drawn = {item["task"] for item in bench.project.predictions(bench.project.version()) if item["result"]}
            assert drawn and drawn <= set(bench.order(current(bench))[: BUDGET + 2])  # as many as may be served by then
        folder = bench.job.folder / "answers"
        assert len(list(folder.iterdir())) == 2
        (folder / "entropy-c3-killed").mkdir()
        (folder / "entropy-c3-killed" / "x.draft").write_bytes(b"half")
        (folder / current(bench).name / "x.draft").write_bytes(b"half")
        work_off(bench, hire(bench, cleanup_seconds=0.0))
        assert [path.name for path in folder.iterdir()] == [current(bench).name]
        assert [path.suffix for path in (folder / current(bench).name).iterdir()] == [".masks"]


def test_a_sampler_that_does_not_go_with_masks_waits_for_the_owner(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    bench.ask_for(masks_config(bench.project.classes))
    key, config = row(bench).key, bench.project.info()["label_config"]
    bench.state.projects.connect(bench.project.id, key, config, {"sampler": "ads"}, row(bench).url, "")
    hand.work_on(row(bench), Work.UPKEEP)
    assert "has no meaning for masks" in str(row(bench).last_error) and row(bench).retry_at > bench.state.now() + 200
    bench.state.projects.connect(bench.project.id, key, config, {"sampler": "entropy"}, row(bench).url, "")
    work_off(bench, hand)
    assert row(bench).last_error is None


def test_a_cycle_and_upkeep_that_are_due_again_and_again_take_turns(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, did = hire(bench), []
    monkeypatch.setattr(hand.due, "work", lambda project: frozenset(Work))
    monkeypatch.setattr(hand, "_cycle", lambda job: did.append(Work.CYCLE))
    monkeypatch.setattr(hand, "_upkeep", lambda job: did.append(Work.UPKEEP))
    for _ in range(4):
        turn = hand._next(row(bench))
        assert turn is not None and hand.work_on(row(bench), turn)
    assert did == [Work.CYCLE, Work.UPKEEP] * 2


# -- failures ----------------------------------------------------------------------------------------------------------


def test_while_label_studio_is_down_it_waits_longer_each_time(bench: Workbench) -> None:
    """But never so long that a Label Studio that is back would not be noticed soon."""
    hand = hire(bench)
    bench.proxy.go_down()
    for wait in (2.0, 4.0, 8.0, 16.0, 20.0, 20.0):
        before = bench.state.now()
        assert hand.work_on(row(bench), Work.UPKEEP)
        assert before + wait <= row(bench).retry_at <= bench.state.now() + wait
        bench.state.projects.update(bench.project.id, retry_at=bench.state.now() + wait)  # however slow this machine is
        assert not hand.work_on(row(bench), Work.UPKEEP)  # not yet
        bench.state.projects.update(bench.project.id, retry_at=0.0)
    assert "cannot be reached" in str(row(bench).last_error) and row(bench).lease_owner is None
    bench.proxy.listen()
    work_off(bench, hand)
    assert (row(bench).failures, row(bench).last_error) == (0, None)


def test_refusals_are_asked_again_soon_and_then_less_often(bench: Workbench) -> None:
    """They may last only as long as a restart behind a proxy: after 15 s of them, it looks again within 16 s, and
    within a minute after however many failures of any kind."""
    hand = hire(bench, label_studio_api_key="0" * 40)
    for wait in (2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        assert hand.work_on(row(bench), Work.UPKEEP)
        assert row(bench).retry_at <= bench.state.now() + wait
        bench.state.projects.update(bench.project.id, retry_at=0.0)
    work_off(bench, hire(bench))
    assert (row(bench).failures, row(bench).last_error) == (0, None)


def test_a_label_studio_that_hangs_keeps_no_other_waiting(bench: Workbench) -> None:
    """Though it has more projects than the worker works on at a time."""
    with small_label_studio("hangs") as hung:
        for number in range(1, 12):
            bench.state.projects.connect(number, project_key(number), CONFIG, {}, hung.url, "t")
        hand = hire(bench, label_studio_url="", projects_at_once=4)
        looking = threading.Thread(target=hand._look, daemon=True)
        looking.start()
        try:
            wait_for("the first order", lambda: row(bench).current_version_id)
            assert len(hand.lanes.projects - {bench.project.id}) == 3  # of the other one, and nothing came of it
            assert all(project.last_error is None for project in bench.state.projects.all())
        finally:
            hand.stop.set()
            hung.let_go.set()
            looking.join(PATIENCE)
            assert hand.lanes.join(time.monotonic() + PATIENCE)


def test_a_hint_cuts_the_waiting_short(bench: Workbench) -> None:
    hand = hire(bench)
    bench.proxy.go_down()
    hand.work_on(row(bench), Work.UPKEEP)
    bench.proxy.listen()
    bench.state.hints.add(bench.project.id, tasks=True)
    assert work_off(bench, hand) and row(bench).last_error is None


def test_training_without_labels_is_answered_and_holds_nothing_up(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    bench.state.hints.add(bench.project.id, train=True)
    assert hand.work_on(row(bench), Work.CYCLE)
    assert "no labels to learn from" in str(row(bench).last_error)
    assert not row(bench).train_requested
    label(bench, BUDGET)
    bench.state.hints.add(bench.project.id, annotations=BUDGET)
    assert hand.due.work(row(bench)) == {Work.CYCLE}  # at once, not after the owner's back-off
    work_off(bench, hand)
    assert current(bench).metrics["labels"] == BUDGET and row(bench).last_error is None


def test_a_label_config_that_cannot_be_served_waits_for_the_owner(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    good = bench.project.info()["label_config"]
    text = '<View><Text name="t" value="$image"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"label_config": text})
    bench.state.hints.add(bench.project.id, config=True)
    hand.work_on(row(bench), Work.UPKEEP)
    assert "<Image" in str(row(bench).last_error) and row(bench).retry_at > bench.state.now() + 200
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"label_config": good})
    bench.state.hints.add(bench.project.id, config=True)
    work_off(bench, hand)
    assert row(bench).last_error is None


def test_parameters_that_are_no_longer_allowed_are_said_once(bench: Workbench) -> None:
    hand = hire(bench)
    bench.state.projects.connect(
        bench.project.id, row(bench).key, row(bench).label_config, {"sampler": "psychic"}, "", ""
    )
    assert hand.due.work(row(bench)) == hand.due.work(row(bench)) == frozenset()
    assert "psychic" in str(row(bench).last_error) and row(bench).failures == 1


def test_a_project_deleted_in_label_studio_is_left_alone_and_kept(bench: Workbench) -> None:
    hand = hire(bench)
    work_off(bench, hand)
    bench.project.delete()
    bench.state.hints.add(bench.project.id, tasks=True)
    hand.work_on(row(bench), Work.UPKEEP)
    (kept,) = bench.state.projects.kept()
    assert (kept.id, kept.standing) == (bench.project.id, "gone") and bench.state.projects.all() == []


def test_a_wrong_key_forgets_no_project(bench: Workbench) -> None:
    hand = hire(bench, label_studio_api_key="0" * 40)
    hand.work_on(row(bench), Work.UPKEEP)
    assert "LABEL_STUDIO_API_KEY" in str(row(bench).last_error)


# -- leases ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def renewing() -> Iterator[Callable[[Worker], Worker]]:
    """Starts a worker's renewals, and ends them after the test."""
    hired: list[Worker] = []

    def start(hand: Worker) -> Worker:
        hired.append(hand)
        threading.Thread(target=hand.leases.keep_renewing, daemon=True).start()
        return hand

    yield start
    for hand in hired:
        hand.stop.set()


def is_free(bench: Workbench, hand: Worker) -> bool:
    """Can ``hand`` have the project now?"""
    with hand.leases.hold(bench.project.id) as owner:
        return owner is not None


def is_lost(hand: Worker, owner: str | None) -> bool:
    try:
        hand.leases.check(str(owner))
    except LeaseLost:
        return True
    return False


def test_what_is_kept_of_a_project_goes_with_it(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    hand = hire(bench)
    for kept in (hand._seen, hand._last):
        kept.update({bench.project.id: {}, 987654: {}})  # type: ignore[attr-defined]
    monkeypatch.setattr(hand, "_next", lambda project: None)
    monkeypatch.setattr(hand.lanes, "wait", lambda seconds: hand.stop.set())
    hand._look()
    assert hand._seen.keys() == hand._last.keys() == {bench.project.id}


def test_a_lease_is_kept_as_long_as_it_is_needed(bench: Workbench, renewing: Callable[[Worker], Worker]) -> None:
    hand, other = renewing(hire(bench, lease_seconds=3)), hire(bench, lease_seconds=3)
    with hand.leases.hold(bench.project.id) as owner:
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            assert not is_lost(hand, owner) and not is_free(bench, other)
            time.sleep(0.1)
    assert is_lost(hand, owner) and is_free(bench, other)


def test_without_renewal_the_lease_is_lost_no_later_than_another_gets_it(bench: Workbench) -> None:
    hand, other = hire(bench, lease_seconds=2), hire(bench)
    with hand.leases.hold(bench.project.id) as owner:
        assert not is_lost(hand, owner)
        wait_for("the other to get it", lambda: is_free(bench, other))
        assert is_lost(hand, owner)


def test_a_lease_that_another_took_is_noticed_at_the_next_renewal(
    bench: Workbench, renewing: Callable[[Worker], Worker]
) -> None:
    hand = renewing(hire(bench, lease_seconds=8))
    with hand.leases.hold(bench.project.id) as owner:
        bench.state.projects.update(bench.project.id, lease_owner="another")
        wait_for("it to notice", lambda: is_lost(hand, owner), 7)  # before it runs out
    assert row(bench).lease_owner == "another"  # and it gave nothing back that was not its own


def test_a_renewal_that_comes_late_does_not_touch_the_next_lease(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, renewing: Callable[[Worker], Worker]
) -> None:
    """A lane gives one project back and takes the next under the same name while the renewal of the first is on its
    way to the database."""
    bench.state.projects.connect(999_999, "999999.1", "<View/>", {}, "", "")
    hand = hire(bench, lease_seconds=4)
    renew = hand.state.leases.renew
    asked, answer = threading.Event(), threading.Event()
    renewed: list[tuple[int, bool]] = []

    def late(project_id: int, owner: str, seconds: float) -> bool:
        if project_id == bench.project.id:
            asked.set()
            answer.wait(60)
        renewed.append((project_id, renew(project_id, owner, seconds)))
        return renewed[-1][1]

    monkeypatch.setattr(hand.state.leases, "renew", late)
    renewing(hand)
    with hand.leases.hold(bench.project.id):
        assert asked.wait(60)
    with hand.leases.hold(999_999) as owner:
        answer.set()
        wait_for("its own renewal", lambda: is_lost(hand, owner) or len(renewed) == 2)
        assert renewed == [(bench.project.id, False), (999_999, True)]
        assert not is_lost(hand, owner)


def test_who_is_held_up_leaves_a_project_that_another_works_for_alone(bench: Workbench) -> None:
    hand = hire(bench)
    assert bench.state.leases.take(bench.project.id, "another", 600)
    assert not hand.work_on(row(bench), Work.UPKEEP)
    assert bench.proxy.requests == []


def test_a_lease_lost_on_the_way_asks_for_a_look_at_what_arrived(bench: Workbench) -> None:
    hand = hire(bench)
    bench.proxy.set(*SINGLE, nth=2, after=lambda: bench.state.projects.update(bench.project.id, lease_owner="another"))
    seen = row(bench)
    hand.work_on(seen, Work.UPKEEP)
    assert row(bench).refresh_seq == seen.refresh_seq + 1
    assert (row(bench).lease_owner, row(bench).failures) == ("another", 0)
    bench.state.leases.release(bench.project.id, "another")
    work_off(bench, hire(bench))
    assert bench.project.missing_predictions(current(bench).name) == ""


def test_who_is_asked_to_stop_stops_before_the_next_call(bench: Workbench) -> None:
    hand = hire(bench)
    bench.proxy.set(*SINGLE, nth=2, after=hand.stop.set)
    hand.work_on(row(bench), Work.UPKEEP)
    assert len(bench.proxy.writes()) == 2
    assert bench.state.cycles.recent(bench.project.id)[0].status == "interrupted"
    assert row(bench).failures == 0 and row(bench).lease_owner is None
    with pytest.raises(Stopped):
        hand.leases.check("anybody")


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_cycle_by_hand_finishes_what_was_begun_and_waits_for_its_turn(bench: Workbench) -> None:
    hand = hire(bench, poll_seconds=0.05)
    work_off(bench, hand)
    label(bench, 1)
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    begun = bench.scored(name="entropy-c9-begun")
    phases: list[str] = []

    def show(phase: str, done: int, total: int) -> None:
        if phase == "wait" and "wait" in phases:
            bench.state.leases.release(bench.project.id, OWNER)
        phases.append(phase)

    version = run_cycle_now(hand.settings, str(bench.project.id), show)
    assert phases[0] == "wait" and {"train", "score", "publish"} <= set(phases)
    assert bench.status(begun) == "superseded" and len(bench.project.predictions(begun.name)) == TASKS
    assert current(bench).name == version.name == bench.project.version()
    assert row(bench).lease_owner is None


def test_a_cycle_by_hand_of_a_project_that_is_not_connected(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "turns", property(lambda _: pytest.fail("torch is imported, for seconds, for nothing")))
    with pytest.raises(OwnerError, match="not connected"):
        run_cycle_now(hire(bench).settings, "987654", lambda *_: None)


def test_a_project_is_trained_on_the_device_that_is_free(bench: Workbench) -> None:
    """And its pool is scored there; the figures of one processor do not depend on what it is called."""
    label(bench, BUDGET)
    hand = hire(bench, devices=[torch.device("cpu:0"), torch.device("cpu:1")])
    with hand.turns.wait(Work.CYCLE, 0, lambda: None), hand.turns.wait(Work.UPKEEP, 0, lambda: None):
        work_off(bench, hand)
        assert hand.turns.home(bench.project.id) == torch.device("cpu:1")
    version = current(bench)
    assert version.cycle == 1 and version.checkpoint is not None
    there = Learner.load(version.checkpoint, torch.device("cpu:1"))
    assert next(there.net.parameters()).device == torch.device("cpu")


def test_our_own_address_and_key_come_first(bench: Workbench) -> None:
    known = replace(row(bench), url="http://theirs", token="theirs")
    settings = bench.job.settings
    ours = replace(settings, label_studio_url="http://ours", label_studio_api_key="ours")
    for chosen, whose in ((ours, "ours"), (settings, "theirs")):
        gateway = LabelStudio.of_project(chosen, known)
        assert (gateway._connection.url, gateway._token) == (f"http://{whose}", whose)


def test_empty_predictions_of_no_version_are_removed_and_no_others(bench: Workbench) -> None:
    """What Label Studio stores of *Retrieve predictions* for a task for which there was none."""
    assert bench.state.leases.take(bench.project.id, OWNER, 600)
    studio, (first, *rest) = bench.project.studio, bench.tasks[:3]
    empty = {"result": [], "score": 0.0, "model_version": ""}
    for task in (first, *rest):
        studio.post("/api/predictions/", {"task": task, **empty})
    note = {"from_name": "choice", "to_name": "picture", "type": "choices", "value": {"choices": [FRUIT[0]]}}
    own = studio.post("/api/predictions/", {"task": first, "result": [note], "score": 0.0})["id"]
    scored = studio.post("/api/predictions/", {"task": first, "result": [], "score": 0.5, "model_version": "x"})["id"]
    assert removal.remove_empty(bench.job) == 3
    assert sorted(item["id"] for item in bench.project.predictions()) == sorted([own, scored])
    assert removal.remove_empty(bench.job) == 0
