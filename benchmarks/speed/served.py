"""From the annotation that makes a cycle due to the moment when Label Studio orders the queue by the new version.

A real Label Studio, a real ``python -m backend serve`` with its worker and the default settings: the backbone's
features are there, a head is trained on them. The first task that is served then must be the
first of the new order; the rest of its head is written behind that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from backend.settings.core import Settings
from backend.state import State, Version
from benchmarks.speed.labeling import import_project
from benchmarks.speed.measuring import Bound, Measured
from benchmarks.speed.pool import CLASSES
from demo.annotator import Annotator
from demo.choices import choose
from tests.rig.servers import BackendServer, LabelStudioServer

MEDIAN_SECONDS = 3.0
_PATIENCE = 900.0
_EVERY = 0.05  # seconds between two looks


@dataclass(frozen=True)
class Load:
    """``tasks`` in the project, ``rounds`` of ``budget`` labels."""

    tasks: int = 10_000
    budget: int = 30
    rounds: int = 4


SMALL = Load(tasks=60, budget=6, rounds=1)


def measure(folder: Path, server: LabelStudioServer, small: bool) -> Measured:
    """Four rounds of 30 labels with 10,000 tasks (one of six with 60 when ``small``)."""
    load = SMALL if small else Load()
    token = server.personal_access_token()
    annotator = Annotator(server.url, token)
    project = import_project(annotator, load.tasks)
    backend = BackendServer(folder / "served", server.url, token, env={"DEVICE": "cpu"})
    with backend:
        rounds = _Rounds(annotator, backend, project, load)
        rounds.connect()
        waited = [rounds.wait_for_order() for _ in range(load.rounds)]
        notes = rounds.notes()
        rounds.state.close()
    served, computed = zip(*waited, strict=True)
    return Measured(
        "served",
        f"last annotation of a round → new order served ÷ the cycle's training and scoring, {load.tasks:,} tasks",
        list(served),
        list(computed),
        "s",
        bounds=(Bound("median until the new order is served", median(served), MEDIAN_SECONDS, "s"),),
        notes=notes,
    )


class _Rounds:
    def __init__(self, annotator: Annotator, backend: BackendServer, project: int, load: Load) -> None:
        self._annotator, self._backend, self._project, self._load = annotator, backend, project, load
        self.state = State.for_settings(Settings(model_dir=str(backend.directory)))

    def connect(self) -> None:
        """Connect the backend and wait until nothing is left to do: all features are computed."""
        self._annotator.connect(self._project, self._backend.url, {"budget": self._load.budget})
        self._until(self._all_embedded, "the first order took too long")

    def wait_for_order(self) -> tuple[float, float]:
        """Label until a cycle is due. Returns the seconds from the last answer of Submit until Label Studio orders the
        queue by the new version, and the seconds of that cycle's training and scoring."""
        self._until(self._rests, "the backend did not come to rest")
        before = self._current().cycle
        for _ in range(self._load.budget):
            self._label()
        started = time.perf_counter()
        self._until(lambda: self._current().cycle > before, "no cycle came")
        served = time.perf_counter() - started
        first = int(self.state.scores.order(self._current())[0])
        if self._next() != first:
            raise RuntimeError(f"the version is switched, but Label Studio does not serve task {first} of it first")
        self._until(self._rests, "the new order was not completed")
        seconds = self.state.cycles.recent(self._project, 1)[0].metrics["seconds"]
        return served, float(seconds["train"]) + float(seconds["score"])

    def notes(self) -> tuple[str, ...]:
        done = [cycle for cycle in reversed(self.state.cycles.recent(self._project)) if cycle.number]
        phases = [cycle.metrics.get("seconds", {}) for cycle in done]
        return (
            "seconds of the cycles: "
            + "; ".join(", ".join(f"{name} {seconds:.2f}" for name, seconds in one.items()) for one in phases),
        )

    def _label(self) -> None:
        task = self._annotator.next_task(self._project)
        assert task is not None
        self._annotator.submit(int(task["id"]), choose([CLASSES[int(task["id"]) % len(CLASSES)]]))

    def _next(self) -> int:
        task = self._annotator.next_task(self._project)
        return 0 if task is None else int(task["id"])

    def _current(self) -> Version:
        version = self.state.versions.current(self._project)
        assert version is not None
        return version

    def _all_embedded(self) -> bool:
        """Whether the whole pool is in the first order, and the upkeep that embeds images is due no more."""
        project, current = self.state.projects.get(self._project), self.state.versions.current(self._project)
        if project is None or current is None or project.lease_owner is not None:
            return False
        scored = self.state.tasks.counts(self._project)["scored"]
        return scored == self._load.tasks and project.refresh_seen >= project.refresh_seq

    def _rests(self) -> bool:
        project, version = self.state.projects.get(self._project), self._current()
        return project is not None and version.status == "current" and project.lease_owner is None

    def _until(self, done: Callable[[], bool], words: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{words}: more than {_PATIENCE:.0f} s\n{self._backend.log_tail()}")
            time.sleep(_EVERY)
