"""Which projects a worker works on at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import DatabaseUnavailable
from backend.settings.core import Settings
from backend.state import Project, State
from backend.worker.lanes import Lanes
from backend.worker.leases import Leases
from backend.worker.worker import Worker
from tests.rig.waiting import PATIENCE, wait_for

HERE, THERE, ELSEWHERE = "http://here", "http://there", "http://elsewhere"


class Work:
    """Work that lasts until it is let go of."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self) -> bool:
        return self.go_on.wait(PATIENCE)


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.go_on.set()


def started(lanes: Lanes, work: Work, *projects: int, studio: str = HERE, failing: bool = False) -> list[bool]:
    return [lanes.start(number, studio, (HERE, THERE, ELSEWHERE), failing, work) for number in projects]


def test_a_project_has_one_lane(work: Work) -> None:
    lanes = Lanes(8)
    assert started(lanes, work, 1, 1) == [True, False] and lanes.projects == {1}
    work.go_on.set()
    assert lanes.join(time.monotonic() + PATIENCE) and not lanes.projects
    assert started(lanes, work, 1) == [True]


def test_one_label_studio_leaves_a_lane_to_each_other(work: Work) -> None:
    lanes = Lanes(4)
    assert started(lanes, work, 1, 2, 3) == [True, True, False]
    assert started(lanes, work, 4, 5, studio=THERE) == [True, False]
    assert started(lanes, work, 6, studio=ELSEWHERE) == [True]
    assert started(lanes, work, 7, studio="http://unknown") == [False]  # all are taken


def test_a_label_studio_that_is_alone_has_all_lanes(work: Work) -> None:
    lanes = Lanes(3)
    assert [lanes.start(number, HERE, {HERE}, False, work) for number in range(4)] == [True, True, True, False]


def test_projects_that_fail_leave_half_of_the_lanes_to_the_others(work: Work) -> None:
    lanes = Lanes(4)
    assert [lanes.start(number, HERE, {HERE}, True, work) for number in range(3)] == [True, True, False]
    assert [lanes.start(number, HERE, {HERE}, False, work) for number in range(3, 6)] == [True, True, False]
    one = Lanes(1)
    assert one.start(1, HERE, {HERE}, True, work)


def test_work_that_fails_ends_its_lane_alone(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> bool:
        raise OSError(28, "No space left on device", "/data/state.sqlite3")

    lanes = Lanes(1)
    assert lanes.start(1, HERE, {HERE}, False, fail)
    assert lanes.join(time.monotonic() + PATIENCE)
    wait_for("the end", lambda: not lanes.projects)
    assert "The disk is full (/data/state.sqlite3)" in caplog.text and "Traceback" not in caplog.text
    assert started(lanes, work, 1, 2) == [False, True]  # it rests a little, the others do not


def test_a_database_that_is_away_is_said_now_and_then_and_work_goes_on_once_it_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hand, looks = Worker(replace(settings, poll_seconds=0.05)), 0

    def away() -> list[Project]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise DatabaseUnavailable("The database cannot be reached (refused): see whether its server runs.")
        return []

    monkeypatch.setattr(hand.state.projects, "all", away)
    looking = threading.Thread(target=hand._look, daemon=True)
    looking.start()
    try:
        time.sleep(0.5)
        assert looks == 1, "not as often as the worker looks for work"
        wait_for("the next looks", lambda: looks > 3)
        assert caplog.text.count("cannot be reached") == 1 and "Traceback" not in caplog.text
    finally:
        hand.stop.set()
        looking.join(PATIENCE)


# -- leases of a clock that was ahead ----------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> State:
    opened = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    opened.projects.connect(1, "1.5", "<View/>", {}, "", "")
    return opened


def lease_in_the_future(state: State, seconds: float) -> None:
    assert state.leases.take(1, "dead:1", seconds)
    state.projects.update(1, lease_expires=state.now() + 86_400.0)


def held(leases: Leases) -> bool:
    with leases.hold(1) as owner:
        return owner is not None


def test_a_lease_that_was_taken_while_the_clock_was_ahead_is_ended(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    lease_in_the_future(state, 0.3)
    leases = Leases(state, "w", 60.0, threading.Event())
    assert not held(leases)
    wait_for("the project", lambda: held(leases))
    assert "from when the clock was ahead" in caplog.text


def test_a_lease_that_is_renewed_is_not_ended_whatever_the_clock_says(state: State) -> None:
    lease_in_the_future(state, 0.2)
    leases = Leases(state, "w", 60.0, threading.Event())
    for day in range(4):
        state.projects.update(1, lease_expires=state.now() + 86_400.0 + day)  # by a clock that is ahead
        assert not held(leases)
        time.sleep(0.1)


def test_an_honest_lease_is_not_ended(state: State) -> None:
    assert state.leases.take(1, "alive:1", 3600.0)
    leases = Leases(state, "w", 0.1, threading.Event())
    assert not held(leases)
    time.sleep(0.2)
    assert not held(leases)
    holder = state.leases.holder(1)
    assert holder is not None and holder.owner == "alive:1" and not holder.is_impossible(state.now())
