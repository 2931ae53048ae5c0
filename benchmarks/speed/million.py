"""What a cycle costs outside the network as the pool grows: processor time, calls, memory, and waits of webhooks.

The state and the worker's own code are real; Label Studio is simulated in this process, because a real one does not
hold a million tasks in a reasonable time, and because what it is asked is counted here. Training and scoring are left
out: an acquisition is drawn at random.

    python -m benchmarks.speed.million --rows 10000 50000 1000000 --cycles 20
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import torch

from backend import cycle
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.records import ChangedTask, PredictionRef, ProjectInfo, TaskAnnotations, TaskRef
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from backend.state import State
from backend.worker import publisher, removal
from backend.worker.gaps import Gaps
from backend.worker.job import Job, Reporter
from backend.worker.recording import CycleRecord
from backend.worker.sync import read_truth
from backend.worker.truth import Truth
from benchmarks.speed.measuring import machine
from benchmarks.speed.pool import CLASSES
from demo.choices import choices_config, choose

OWNER, PROJECT = "million", 1
HINT_SECONDS = 0.02  # between two webhooks
STEPS = ("read", "store", "publish", "remove")


@dataclass
class Simulated:
    """As much of Label Studio as a cycle asks for. Takes no time."""

    rows: int
    calls: Counter[str] = field(default_factory=Counter)
    labels: dict[int, dict[str, Any]] = field(default_factory=dict)
    changed_at: dict[int, float] = field(default_factory=dict)
    version: str = ""
    sampling: str = ""
    predictions: SimulatedPredictions = field(init=False)
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.predictions = SimulatedPredictions(self.calls, self.changed_at, self._number)

    def label(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            now = time.time()
            stamp = datetime.fromtimestamp(now, UTC).isoformat()
            result = choose([CLASSES[task % len(CLASSES)]])
            self.labels[task] = {"id": next(self._number), "updated_at": stamp, "created_at": stamp, "result": result}
            self.changed_at[task] = now

    # -- what LabelStudio has ----------------------------------------------------------------------------------------

    def project(self, project_id: int) -> ProjectInfo:
        self.calls["project"] += 1
        config = choices_config(CLASSES)
        return ProjectInfo(
            project_id, "1.1", "A million", config, self.version, self.sampling, self.rows, len(self.labels), 0,
            time.time(),
        )  # fmt: skip

    def update_project(self, project_id: int, *, model_version: str = "", sampling: str = "") -> None:
        self.calls["update_project"] += 1
        self.version, self.sampling = model_version or self.version, sampling or self.sampling

    def tasks(self, project_id: int, after_id: int = 0) -> Iterator[TaskRef]:
        self.calls["tasks"] += self.rows // 500
        return (TaskRef(task, {"image": f"http://host/{task}.png"}) for task in range(after_id + 1, self.rows + 1))

    def annotated_since(self, project_id: int, since: float) -> dict[int, str]:
        self.calls["annotated_since"] += 1
        return {task: str(self.changed_at[task]) for task in self.labels if self.changed_at[task] > since}

    def changed(self, project_id: int, since: float, newest_id: int) -> Iterator[ChangedTask]:
        self.calls["changed"] += 1
        found = sorted(task for task, stamp in self.changed_at.items() if stamp > since)
        return (ChangedTask(task, {"image": f"http://host/{task}.png"}, int(task in self.labels)) for task in found)

    def annotated(
        self, project_id: int, *, results: bool = True, drawn: bool = False, shown: bool = False
    ) -> Iterator[TaskAnnotations]:
        return self.annotations_of(project_id, list(self.labels))

    def annotations_of(
        self, project_id: int, task_ids: Sequence[int], *, results: bool = True, shown: bool = False
    ) -> Iterator[TaskAnnotations]:
        self.calls["annotations"] += -(-len(task_ids) // 50)
        return (TaskAnnotations(task, [self.labels[task]]) for task in sorted(task_ids))


@dataclass
class SimulatedPredictions:
    """The predictions of a :class:`Simulated`, whose ``calls``, ``changed_at`` and ``numbers`` they share."""

    calls: Counter[str]
    changed_at: dict[int, float]
    numbers: Iterator[int]
    held: dict[int, tuple[int, str]] = field(default_factory=dict)

    def create(self, task_id: int, result: list[dict[str, Any]], score: float, model_version: str) -> None:
        self.calls["create_prediction"] += 1
        self.held[next(self.numbers)] = (task_id, model_version)
        self.changed_at[task_id] = time.time()

    def of_version(self, project_id: int, model_version: str) -> list[PredictionRef]:
        self.calls["predictions"] += 1
        return [PredictionRef(number, task) for number, (task, name) in self.held.items() if name == model_version]

    def versions(self, project_id: int) -> dict[str, int]:
        self.calls["model_versions"] += 1
        return Counter(name for _, name in self.held.values())

    def delete(self, prediction_id: int) -> None:
        self.calls["delete_prediction"] += 1
        task, _ = self.held.pop(prediction_id)
        self.changed_at[task] = time.time()


class Webhooks:
    """Sends hints to the state as webhooks do, and notes how long each took."""

    def __init__(self, state: State) -> None:
        self._state, self._stop = state, threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Webhooks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stop.wait(HINT_SECONDS):
            started = time.perf_counter()
            self._state.hints.add(PROJECT, annotations=1)
            self.seconds.append(time.perf_counter() - started)


def run(folder: Path, rows: int, cycles: int) -> dict[str, Any]:
    """The figures of each cycle, and of the whole."""
    floor = _megabytes()
    settings = Settings(model_dir=str(folder), sampler="entropy", device="cpu", cleanup_seconds=0.0)
    state, studio = State.for_settings(settings), Simulated(rows)
    state.projects.connect(PROJECT, "1.1", choices_config(CLASSES), {}, "", "")
    if not state.leases.take(PROJECT, OWNER, 1e9):
        raise RuntimeError("the project is leased already")
    project = state.projects.get(PROJECT)
    assert project is not None
    job = Job(project, settings, state, cast(LabelStudio, studio), OWNER, torch.device("cpu"), lambda: None)
    started = time.process_time()
    read_truth(job)
    whole_read = time.process_time() - started
    figures = [_cycle(job, studio, number + 1) for number in range(cycles)]
    state.close()
    return {"rows": rows, "floor_mb": floor, "whole_read_cpu_seconds": whole_read, "cycles": figures}


def _cycle(job: Job, studio: Simulated, number: int) -> dict[str, Any]:
    """One cycle: labels of what was served, comparison, a made-up order, its publication, removal of the one before."""
    state = job.state
    current = state.versions.current(PROJECT)
    order = np.arange(1, job.settings.budget + 1) if current is None else state.scores.order(current)
    studio.label([task for task in order[: 4 * job.settings.budget].tolist() if task not in studio.labels][:50])
    studio.calls.clear()
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    # It is annotated without a gap, and nothing of a simulated Label Studio is locked.
    with mock.patch.object(Gaps, "wait"), Webhooks(state) as webhooks:
        truth = read_truth(job)
        clock("read")
        acquisition = np.random.default_rng(number).normal(size=len(truth.unlabeled))
        clock("made up")
        version = _store(job, truth, ScoredPool(truth.unlabeled, acquisition), number)
        clock("store")
        publisher.publish(job, version)
        clock("publish")
        removal.remove_superseded(job, seconds=3600.0)
        clock("remove")
    seconds.pop("made up")
    waits = np.array(webhooks.seconds) * 1000
    return {
        "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
        "calls": dict(studio.calls),
        "resident_mb": _megabytes(),
        "webhook_ms": {"p99": round(float(np.percentile(waits, 99)), 1), "longest": round(float(waits.max()), 1)},
    }


def _store(job: Job, truth: Truth, scored: ScoredPool, number: int) -> Any:
    recorded = CycleRecord(number, number, Reporter(job, 0))
    return cycle.store_version(job, truth, scored, recorded, f"entropy-c{number}-{number:08x}")


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._since = seconds, time.process_time()  # what others do on this machine does not count

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self._seconds[name], self._since = now - self._since, now


def _megabytes() -> float:
    """The peak of this process's memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(results: Sequence[dict[str, Any]]) -> str:
    """A table with a row for each of the ``results`` of :func:`run`. The first two cycles are left out of the medians:
    they meet a state that is empty, and no version to remove."""
    head = [
        "tasks",
        "processor s of the first read",
        "processor s a cycle",
        "of it " + ", ".join(STEPS),
        "calls a cycle",
    ]
    head += ["memory over the floor after cycle 3, at the end", "webhook p99, longest"]
    lines = [head, ["---"] * len(head), *map(_row, results)]
    facts = [f"- {name}: {value}" for name, value in machine().items()]
    return "\n".join([*facts, "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def _row(result: dict[str, Any]) -> list[str]:
    settled = result["cycles"][2:]
    sums = [sum(one["cpu_seconds"].values()) for one in settled]
    steps = [statistics.median(one["cpu_seconds"][name] for one in settled) for name in STEPS]
    calls = [sum(one["calls"].values()) for one in settled]
    grown = [settled[place]["resident_mb"] - result["floor_mb"] for place in (0, -1)]
    waits = [max(one["webhook_ms"][name] for one in settled) for name in ("p99", "longest")]
    return [
        f"{result['rows']:,}",
        f"{result['whole_read_cpu_seconds']:.1f}",
        f"{statistics.median(sums):.2f} ({min(sums):.2f} … {max(sums):.2f})",
        ", ".join(f"{one:.2f}" for one in steps),
        f"{min(calls)} … {max(calls)}",
        ", ".join(f"{one:.0f} MiB" for one in grown),
        ", ".join(f"{one:.0f} ms" for one in waits),
    ]


def _in_a_process_of_its_own(rows: int, cycles: int) -> dict[str, Any]:
    """The figures of :func:`run`; a process's peak memory cannot be taken twice."""
    command = [sys.executable, "-m", __spec__.name, "--rows", str(rows), "--cycles", str(cycles), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 1_000_000], help="tasks in the project")
    parser.add_argument("--cycles", type=int, default=20, help="at least 3")
    parser.add_argument(
        "--json", action="store_true", help="every cycle of one number of rows, measured in this process"
    )
    options = parser.parse_args()
    if options.json:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(Path(folder), options.rows[0], options.cycles), indent=1))
    else:
        print(report([_in_a_process_of_its_own(rows, options.cycles) for rows in options.rows]), end="")


if __name__ == "__main__":
    main()
