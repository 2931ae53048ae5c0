"""Writes and annotators' requests keep out of each other's way, and the queue never runs dry for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import LeaseLost
from backend.worker import gaps
from backend.worker.gaps import AFTER_SECONDS, PATIENCE_SECONDS, QUIET_SECONDS, Gaps

WRITE_SECONDS = 0.08
BEGAN = 1000.0


class Project:
    """A clock that moves when somebody waits, and annotations at known times; what a job is asked for by Gaps."""

    def __init__(self, annotations: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.annotations, self.checks = BEGAN, [BEGAN + at for at in annotations], 0
        self.fails = False
        self.project = SimpleNamespace(url="http://studio")
        self.settings = SimpleNamespace(shortlist=10)
        self.state = SimpleNamespace(
            now=lambda: self.clock, hints=SimpleNamespace(annotated_at=lambda url: self.annotated_at())
        )
        time = SimpleNamespace(monotonic=lambda: self.clock, sleep=self.pass_time)
        monkeypatch.setattr(gaps, "time", time)
        monkeypatch.setattr(gaps, "Pause", lambda: lambda: self.pass_time(WRITE_SECONDS))

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds

    def annotated_at(self) -> float:
        past = [at for at in self.annotations if at <= self.clock]
        return past[-1] if past else 0.0

    def reread(self) -> Any:
        events = sum(at <= self.clock for at in self.annotations)
        return SimpleNamespace(project=SimpleNamespace(annotation_events=events))

    def check(self) -> None:
        self.checks += 1
        if self.fails:
            raise LeaseLost("gone")

    def write(self, count: int, in_stock: int | None = None) -> list[float]:
        """When each of the writes began."""
        waiting, began = Gaps(self, in_stock), []  # type: ignore[arg-type]
        for _ in range(count):
            waiting.wait()
            began.append(self.clock)
            self.pass_time(WRITE_SECONDS)
        return began

    def met(self, began: Sequence[float]) -> int:
        """How many annotations came while a write was under way, or had one in the time after them."""
        return sum(any(at - WRITE_SECONDS < one < at + AFTER_SECONDS for one in began) for at in self.annotations)


def test_writes_are_between_the_annotations_of_one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project([2.0 * n for n in range(-5, 200)], monkeypatch)
    began = project.write(200)
    assert project.met(began[20:]) == 0  # what is usual is known after a few
    assert project.met(began) <= 1
    assert 200 / (began[-1] - began[0]) > 4  # a second: twice as many as such a person labels in ten


@pytest.mark.parametrize("every", [4.0, 10.0, 40.0])
def test_slower_people_are_not_met_either(monkeypatch: pytest.MonkeyPatch, every: float) -> None:
    project = Project([every * n for n in range(-5, 400)], monkeypatch)
    assert project.met(project.write(300)) <= 1


def test_an_irregular_person_is_met_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    times, at = [], -30.0
    for n in range(200):
        at += (1.5, 2.5, 3.0, 2.0, 6.0)[n % 5]
        times.append(at)
    project = Project(times, monkeypatch)
    began = project.write(300)
    share = project.met(began) / sum(began[0] <= at <= began[-1] for at in project.annotations)
    assert share < 0.1


def test_where_nobody_labels_only_the_usual_pause_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project([-2 * QUIET_SECONDS], monkeypatch)
    began = project.write(50)
    assert began[-1] - began[0] == pytest.approx(49 * 2 * WRITE_SECONDS)
    assert Project([], monkeypatch).write(2)


def test_several_people_leave_no_gap_and_are_written_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project([0.3 * n for n in range(-20, 2000)], monkeypatch)
    began = project.write(20)
    assert max(later - earlier for earlier, later in pairwise(began)) < PATIENCE_SECONDS + AFTER_SECONDS + 0.3


def test_waits_in_vain_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of hundreds must not take a quarter of an hour, only because many people label."""
    project = Project([0.3 * n for n in range(-20, 2000)], monkeypatch)
    began = project.write(200)
    alone = 200 * 2 * WRITE_SECONDS
    assert began[-1] - began[0] < alone + QUIET_SECONDS + 2 * PATIENCE_SECONDS


def test_patience_returns_with_the_first_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who looks at one task for long, and then labels on as before, is not met more often for it."""
    times = [2.0 * n for n in range(-5, 10)]
    times += [times[-1] + 12 + 2.0 * n for n in range(60)]
    project = Project(times, monkeypatch)
    began = project.write(300)
    assert project.met([at for at in began if at > BEGAN + times[15] + 2]) == 0


def test_what_is_ready_never_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At three annotations a second the ten tasks in stock would be gone after four writes with patience."""
    project = Project([0.3 * n for n in range(-20, 2000)], monkeypatch)
    project.clock += 0.01
    began = project.write(200, in_stock=10)
    for written, at in enumerate(began):
        used = sum(began[0] < one <= at for one in project.annotations)
        assert used <= 10 + written


def test_what_people_wait_for_steps_aside_only_after_a_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    def began(annotations: Sequence[float]) -> list[float]:
        project = Project(annotations, monkeypatch)
        waiting, times = Gaps(project), []  # type: ignore[arg-type]
        for _ in range(10):
            waiting.step_aside()
            times.append(project.clock - BEGAN)
            project.pass_time(WRITE_SECONDS)
        return times

    assert began([-3.0])[-1] == pytest.approx(9 * WRITE_SECONDS)
    every_two = began([2.0 * n for n in range(-3, 10)])
    assert all(at % 2.0 >= AFTER_SECONDS - 1e-6 for at in every_two)
    assert began([0.1 * n for n in range(-30, 900)])[-1] <= PATIENCE_SECONDS + 10 * WRITE_SECONDS + 0.1


def test_a_clock_that_was_ahead_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project([0.0], monkeypatch)
    waiting = Gaps(project)  # type: ignore[arg-type]
    project.clock = BEGAN - 3600.0
    project.annotations = [BEGAN]
    project.annotated_at = lambda: BEGAN  # type: ignore[method-assign]
    before = project.clock
    waiting.wait()
    assert project.clock == before


def test_who_lost_the_project_stops_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project([0.0], monkeypatch)
    project.fails = True
    with pytest.raises(LeaseLost):
        project.write(1)
    assert project.checks == 1
