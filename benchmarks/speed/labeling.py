"""How long an annotator waits for `next` and for Submit in a large project, while orders are published and removed.

A real Label Studio with 10,000 tasks, a real ``python -m backend serve`` with its worker, and one annotator who labels
an image every two seconds through three cycles. Each task that is served must be the first one of the published order
that was not served before, also past the end of a head.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backend.settings.core import Settings
from backend.state import State, Version
from benchmarks.speed.measuring import Bound, Measured, percentile
from benchmarks.speed.pool import CLASSES, SIZE
from demo.annotator import Annotator, as_png
from demo.choices import choices_config, choose
from tests.rig.servers import BackendServer, LabelStudioServer

LONGEST_SECONDS, ABOVE_IDLE_SECONDS = 2.0, 0.5
_PATIENCE = 600.0
_PARAMS = {"sampler": "entropy", "task_width": 4, "epochs": 2}
_A_CALL = 500  # tasks that are imported at a time


@dataclass(frozen=True)
class Load:
    """``tasks`` in the project; a cycle for every ``budget`` labels, ``cycles`` in all; one label every ``every``
    seconds; ``idle`` requests of each sort while the backend has nothing to do."""

    tasks: int = 10_000
    budget: int = 30
    cycles: int = 3
    every: float = 2.0
    idle: int = 40
    cleanup: float = 5.0


SMALL = Load(tasks=150, budget=5, cycles=1, every=0.5, idle=5, cleanup=1.0)


def measure(folder: Path, server: LabelStudioServer, small: bool, tasks: int | None = None) -> Measured:
    """Three cycles with 10,000 tasks (one with 150 when ``small``)."""
    load = SMALL if small else Load() if tasks is None else Load(tasks=tasks)
    token = server.personal_access_token()
    annotator = Annotator(server.url, token)
    project = import_project(annotator, load.tasks)
    env = {"DEVICE": "cpu", "CLEANUP_SECONDS": str(load.cleanup), "LABEL_STUDIO_API_KEY": token}
    backend = BackendServer(folder / "labeling", server.url, token, env=env)
    with backend:
        stream = _Stream(annotator, backend, project, load)
        first_order = stream.connect()
        idle = Waits()
        for _ in range(load.idle):
            stream.label(idle)
        stream.ask_for_cycles()
        busy = Waits()
        stream.through_cycles(busy)
        stream.wait(lambda: not stream.superseded())
        notes = (*stream.notes(first_order), longest(busy))
        stream.state.close()
    bounds = [
        Bound(f"longest {name}", max(waits), LONGEST_SECONDS, "s")
        for name, waits in (("`next`", busy.next), ("Submit", busy.submit))
    ]
    above = max(percentile(b, 0.99) - percentile(i, 0.99) for b, i in zip(busy.both, idle.both, strict=True))
    bounds.append(Bound("p99 above that while idle", above, ABOVE_IDLE_SECONDS, "s"))
    return Measured(
        "labeling",
        f"p99 of `next` and of Submit through {load.cycles} cycles ÷ while idle, {load.tasks:,} tasks",
        [percentile(waits, 0.99) for waits in busy.both],
        [percentile(waits, 0.99) for waits in idle.both],
        "s",
        bounds=tuple(bounds),
        notes=notes,
    )


def import_project(annotator: Annotator, count: int) -> int:
    """A project of ``count`` tasks with small images inside their data, so that nothing but Label Studio is asked for
    them."""
    draw = np.random.default_rng(0)
    project = annotator.create_project(f"{count} images", choices_config(CLASSES))
    for start in range(0, count, _A_CALL):
        images = draw.integers(0, 256, (min(_A_CALL, count - start), SIZE // 4, SIZE // 4, 3), dtype=np.uint8)
        inside = ["data:image/png;base64," + base64.b64encode(as_png(image)).decode() for image in images]
        data = [{"data": {"image": address}} for address in inside]
        annotator.call("POST", f"/api/projects/{project}/import", json=data, timeout=600)
    return project


@dataclass
class Waits:
    """Seconds that an annotator waited, and what the backend was at after each label."""

    next: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    @property
    def both(self) -> tuple[list[float], list[float]]:
        return self.next, self.submit


def longest(waits: Waits, count: int = 8) -> str:
    """The longest waits, and what the backend was at."""
    found = [
        (seconds, name, phase)
        for name, taken in (("next", waits.next), ("Submit", waits.submit))
        for seconds, phase in zip(taken, waits.phases, strict=True)
    ]
    words = [f"{seconds:.2f} s of {name} ({phase})" for seconds, name, phase in sorted(found, reverse=True)[:count]]
    return "the longest waits: " + ", ".join(words)


class _Stream:
    """The labeling stream of one annotator, and what the backend makes of it."""

    def __init__(self, annotator: Annotator, backend: BackendServer, project: int, load: Load) -> None:
        self._annotator, self._backend, self._project, self._load = annotator, backend, project, load
        self._done: set[int] = set()
        self._connection = 0
        self.state = State.for_settings(Settings(model_dir=str(backend.directory)))

    def connect(self) -> float:
        """Connect the backend; the seconds until `next` serves by its first order."""
        started = time.monotonic()
        # no cycle is due before ask_for_cycles
        params = {**_PARAMS, "budget": 2 * self._load.idle}
        self._connection = self._annotator.connect(self._project, self._backend.url, params)
        self.wait(lambda: self._version() is not None)
        served = time.monotonic() - started
        self.wait(self._all_joined)
        return served

    def _all_joined(self) -> bool:
        """Whether the backend has nothing left to do: the whole pool has joined the order, and its head is written."""
        current = self._version()
        scored = self.state.tasks.counts(self._project)["scored"]
        return current is not None and current.status == "current" and scored == self._load.tasks

    def ask_for_cycles(self) -> None:
        params = {**_PARAMS, "budget": self._load.budget}
        changed = {"project": self._project, "url": self._backend.url, "extra_params": params}
        self._annotator.call("PATCH", f"/api/ml/{self._connection}", json=changed)

    def through_cycles(self, waits: Waits) -> None:
        """Label until the last cycle's order is out and half of its head is used up."""
        deadline = time.monotonic() + _PATIENCE
        after = 0
        while after < self._load.budget // 2:
            if time.monotonic() > deadline:
                raise RuntimeError(f"three cycles took more than {_PATIENCE:.0f} s\n{self._backend.log_tail()}")
            started = time.monotonic()
            self.label(waits)
            version = self._version()
            after += version is not None and version.cycle >= self._load.cycles and version.status == "current"
            time.sleep(max(0.0, self._load.every - (time.monotonic() - started)))

    def label(self, waits: Waits) -> None:
        """Open the next task and submit a label for it."""
        due = self._due()
        started = time.perf_counter()
        task = self._annotator.next_task(self._project)
        waits.next.append(time.perf_counter() - started)
        if task is None:
            raise RuntimeError("Label Studio serves nothing any more")
        number = int(task["id"])
        if number not in due | self._due():
            raise RuntimeError(f"Label Studio served {number}, not {due}: the order was not the published one")
        started = time.perf_counter()
        self._annotator.submit(number, choose([CLASSES[number % len(CLASSES)]]))
        waits.submit.append(time.perf_counter() - started)
        waits.phases.append(self._phase())
        self._done.add(number)

    def _phase(self) -> str:
        newest = self.state.cycles.recent(self._project, 1)[0]
        if newest.status == "running":
            return newest.phase
        return "removal" if self.superseded() else "rest"

    def _due(self) -> set[int]:
        """The task that has to be served now, by the current version, and by one that may replace it at any moment."""
        found = set()
        current = self._version()
        for version in self.state.versions.of_project(self._project, removed=False)[:2]:
            if version == current or version.status == "publishing":
                order = self.state.scores.order(version).tolist()
                found.add(next(task for task in order if task not in self._done))
        return found

    def _version(self) -> Version | None:
        return self.state.versions.current(self._project)

    def superseded(self) -> bool:
        """Whether an order is still in Label Studio that has been replaced."""
        return any(v.status == "superseded" for v in self.state.versions.of_project(self._project, removed=False))

    def wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not until():
            project = self.state.projects.get(self._project)
            if project is not None and project.last_error:
                raise RuntimeError(f"the backend reports: {project.last_error}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the backend took more than {_PATIENCE:.0f} s\n{self._backend.log_tail()}")
            time.sleep(0.2)

    def notes(self, first_order: float) -> tuple[str, ...]:
        done = [cycle for cycle in reversed(self.state.cycles.recent(self._project)) if cycle.number]
        phases = [cycle.metrics.get("seconds", {}) for cycle in done]
        spent = "; ".join(", ".join(f"{name} {seconds:.1f}" for name, seconds in one.items()) for one in phases)
        return (
            f"the first order was served {first_order:.1f} s after the connection",
            f"{len(self._done)} tasks were served, each the first of the published order",
            f"seconds of the cycles: {spent}",
        )
