"""Which project computes on which device. The devices are two names of the processor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from backend import joining
from backend.errors import OwnerError, Stopped
from backend.events import Work
from backend.settings.core import Settings
from backend.state import Project, State
from backend.worker import identity
from backend.worker.device import choose_devices
from backend.worker.job import Job
from backend.worker.turns import Turns
from backend.worker.worker import Worker
from models.data import Runtime
from tests.rig.waiting import PATIENCE, wait_for

FIRST, SECOND = torch.device("cpu:0"), torch.device("cpu:1")


def no_check() -> None:
    """Whoever waits goes on waiting."""


class Turn:
    """A project's turn, had until it is let go of."""

    def __init__(self, turns: Turns, project: int, work: Work = Work.CYCLE) -> None:
        self._ends = ExitStack()
        self.device = self._ends.enter_context(turns.wait(work, project, no_check))

    def end(self) -> None:
        self._ends.close()


@pytest.fixture
def turns() -> Turns:
    return Turns([FIRST, SECOND])


def test_a_turn_is_one_project_at_a_time_and_whoever_waits_looks_whether_it_may_go_on() -> None:
    turns, looks = Turns([FIRST]), []

    def stopped() -> None:
        looks.append(turns.taken(Work.CYCLE))
        raise Stopped("now")

    def enter() -> None:
        with suppress(Stopped), turns.wait(Work.CYCLE, 2, stopped):
            raise AssertionError("it was not its turn")

    first = Turn(turns, 1)
    assert not turns.taken(Work.UPKEEP), "a cycle trains while an upkeep scores"
    waiting = threading.Thread(target=enter)
    waiting.start()
    waiting.join(PATIENCE)
    assert looks == [True]
    first.end()
    assert not turns.taken(Work.CYCLE)
    with turns.wait(Work.CYCLE, 2, stopped) as device:
        assert turns.taken(Work.CYCLE) and device == FIRST


def test_two_projects_have_a_device_each_and_a_third_waits_for_whichever_is_free_first(turns: Turns) -> None:
    one, two = Turn(turns, 1), Turn(turns, 2)
    assert (one.device, two.device) == (FIRST, SECOND) and turns.taken(Work.CYCLE)
    got: list[Turn] = []
    waiting = threading.Thread(target=lambda: got.append(Turn(turns, 3)))
    waiting.start()
    waiting.join(0.3)
    assert not got
    two.end()
    waiting.join(PATIENCE)
    assert got[0].device == SECOND


def test_a_project_keeps_its_device_while_that_is_free_and_takes_another_one_rather_than_wait(turns: Turns) -> None:
    Turn(turns, 1).end()
    Turn(turns, 2).end()
    for _ in range(2):
        two = Turn(turns, 2)
        assert two.device == SECOND
        two.end()
    first, other = Turn(turns, 1), Turn(turns, 3)
    assert (first.device, other.device) == (FIRST, SECOND)
    first.end()
    moved = Turn(turns, 2)
    assert moved.device == FIRST
    for turn in (other, moved):
        turn.end()
    assert Turn(turns, 2).device == FIRST, "what was loaded last is there"


def test_a_new_project_gets_the_device_that_is_used_least(turns: Turns) -> None:
    scoring, training = Turn(turns, 1, Work.UPKEEP), Turn(turns, 2)
    assert (scoring.device, training.device) == (FIRST, SECOND)
    third = Turn(turns, 3)
    assert third.device == FIRST, "another one trains on the second, none on the first"
    fresh = Turns([FIRST, SECOND])
    assert [fresh.home(number) for number in (1, 2, 3, 1)] == [FIRST, SECOND, FIRST, FIRST]


def test_only_a_device_that_nobody_uses_is_lent_and_to_one_only_until_somebody_has_a_turn(turns: Turns) -> None:
    training = Turn(turns, 1)
    assert training.device == FIRST
    with turns.idle(FIRST) as lent:
        assert [one.device for one in lent] == [SECOND] and not lent[0].wanted()
        with turns.idle(FIRST) as others:
            assert not others
        scoring = Turn(turns, 2, Work.UPKEEP)
        assert scoring.device == SECOND and lent[0].wanted(), "nobody waits for what is lent"
    with turns.idle(FIRST) as lent:
        assert not lent
    scoring.end()
    with turns.idle(FIRST) as lent:
        assert [one.device for one in lent] == [SECOND]


# -- devices by setting ------------------------------------------------------------------------------------------------


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def names(setting: str) -> list[str]:
    return [str(one) for one in choose_devices(setting)]


def test_cuda_is_all_gpus_and_one_of_them_by_its_number(four_gpus: None) -> None:
    assert names("auto") == names("cuda") == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert names("cuda:1") == ["cuda:1"]
    assert names("cpu") == ["cpu"]


def test_the_only_gpu_is_named_as_ever(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert names("auto") == names("cuda") == ["cuda"]


def test_a_device_that_is_not_there_is_said(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OwnerError, match="no such GPU here, only cuda:0, cuda:1, cuda:2, cuda:3"):
        choose_devices("cuda:4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert names("auto") == names("cpu") == ["cpu"]
    with pytest.raises(OwnerError, match="DEVICE"):
        choose_devices("cuda:1")


# -- a learner and its device ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "reads"), [(FIRST, 0), (SECOND, 1)])
def test_after_training_a_learner_is_read_again_only_where_another_device_is_free(
    given: torch.device, reads: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for its own one for as long as another project trains there."""

    def learner(device: torch.device) -> Any:
        return SimpleNamespace(device=device, runtime=lambda seed, progress: Runtime(device, seed, progress))

    read: list[torch.device] = []
    scored: list[tuple[torch.device, torch.device]] = []

    def last_learner(folder: Path, versions: object, device: torch.device) -> Any:
        read.append(device)
        return learner(device)

    monkeypatch.setattr(joining, "last_learner", last_learner)
    monkeypatch.setattr(joining, "_add", lambda *_: None)
    monkeypatch.setattr(
        joining.device_memory, "scored", lambda who, cache, tasks, how: scored.append((who.device, how.device))
    )
    project: Any = SimpleNamespace(id=1, folder_key="1-1")
    job = Job(project, settings, None, None, "", FIRST, no_check, turns=lambda: nullcontext(given))  # type: ignore[arg-type]
    features: Any = SimpleNamespace(cache=None, present=lambda tasks: tasks, rows_for=lambda learner: None)
    truth: Any = SimpleNamespace(unfinished=[7], kind=SimpleNamespace(keep_predictions=lambda *_: None))
    joining.add_unfinished(job, SimpleNamespace(cycle=1, name="v"), truth, features, learner(FIRST))  # type: ignore[arg-type]
    assert scored == [(given, given)] and read == [SECOND] * reads


# -- a worker ----------------------------------------------------------------------------------------------------------


class Trainings:
    """In place of cycles: a turn that lasts until it is let go of."""

    def __init__(self) -> None:
        self.let_go = {number: threading.Event() for number in (1, 2, 3)}
        self.running: dict[int, torch.device] = {}
        self.begun: list[int] = []

    def __call__(self, worker: Worker, job: Job) -> None:
        number = job.project.id
        self.begun.append(number)
        with job.turn() as device:
            self.running[number] = device
            assert self.let_go[number].wait(PATIENCE)
            del self.running[number]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, state: State) -> Iterator[Trainings]:
    made = Trainings()
    monkeypatch.setattr(Worker, "_cycle", lambda worker, job: made(worker, job))
    monkeypatch.setattr(identity, "confirm", lambda job: job)
    for number in made.let_go:
        state.projects.connect(number, f"{number}.5", "<View/>", {}, "http://labels.example", "t")
    yield made
    for event in made.let_go.values():
        event.set()


@pytest.fixture
def hired(settings: Settings, trainings: Trainings) -> Iterator[Callable[..., Worker]]:
    """Starts a worker for which the cycle of each project is due once."""
    hands: list[tuple[Worker, threading.Thread]] = []

    def hire(**how: Any) -> Worker:
        hand = Worker(replace(settings, poll_seconds=0.05), **how)

        def due(project: Project) -> frozenset[Work]:
            done = project.id in trainings.begun and project.id not in hand.lanes.projects
            return frozenset() if done else frozenset({Work.CYCLE})

        hand.due.work = due  # type: ignore[method-assign]
        looking = threading.Thread(target=hand._look, daemon=True)
        looking.start()
        hands.append((hand, looking))
        return hand

    yield hire
    for hand, looking in hands:
        hand.stop.set()
        for event in trainings.let_go.values():
            event.set()
        looking.join(PATIENCE)


def test_two_projects_train_at_once_on_two_devices_and_a_third_waits(
    hired: Callable[..., Worker], trainings: Trainings
) -> None:
    hand = hired(devices=[FIRST, SECOND])
    wait_for("two trainings", lambda: len(trainings.running) == 2)
    assert set(trainings.running.values()) == {FIRST, SECOND}
    running = dict(trainings.running)
    (third,) = {1, 2, 3} - running.keys()
    assert hand.turns.taken(Work.CYCLE)
    ended = min(running)
    trainings.let_go[ended].set()
    wait_for("the third training", lambda: third in trainings.running)
    assert trainings.running[third] == running[ended]


def test_on_one_device_one_project_trains_at_a_time(hired: Callable[..., Worker], trainings: Trainings) -> None:
    hand = hired()
    wait_for("a training", lambda: len(trainings.running) == 1)
    assert list(trainings.running.values()) == [torch.device("cpu")] and hand.turns.taken(Work.CYCLE)
    for number in range(1, 4):
        assert len(trainings.running) <= 1
        trainings.let_go[number].set()
    wait_for("all of them", lambda: set(trainings.begun) == {1, 2, 3} and not trainings.running)


def test_lanes_stay_the_bound_of_projects_at_once(
    hired: Callable[..., Worker], trainings: Trainings, settings: Settings
) -> None:
    hand = hired(devices=[FIRST, SECOND])
    hand.lanes._total = 1
    wait_for("a training", lambda: trainings.running)
    assert not hand.turns.taken(Work.CYCLE)
