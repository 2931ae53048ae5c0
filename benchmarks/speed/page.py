"""p95 of the owner's page while a cycle runs ÷ p95 while nothing does, with 20 projects of 10,000 tasks.

A real ``python -m backend serve`` without its worker, over a state that is filled by hand: each project has 100 labels,
a learned order, 30 cycles and a map. In place of the worker, a process of this module does what is heavy in a cycle: at
a worker's priority and on all cores it asks a convolutional network about images, reports its progress, and stores the
scores of 10,000 tasks, again and again.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.files import project_folder
from backend.reporting import pool_map
from backend.settings.core import Settings
from backend.state import State, StoredLabel, Version
from benchmarks.speed.measuring import Bound, Measured, percentile, seconds_of
from tests.rig.servers import BackendServer

LIMIT_MILLISECONDS = 200.0
LABELS, CYCLES, FEATURES = 100, 30, 64
OWNER = "bench"
NAMES = ("cat", "dog")
_CONFIG = (
    '<View><Image name="pic" value="$image"/><Choices name="what" toName="pic">'
    + "".join(f'<Choice value="{name}"/>' for name in NAMES)
    + "</Choices></View>"
)
_PAGE = {"Accept": "text/html"}


def measure(folder: Path, small: bool) -> Measured:
    """60 requests of the overview and 60 of a project's page, idle and beside a cycle, twice (5 of 2 projects with 200
    tasks, once, when ``small``)."""
    projects, tasks, requests, repetitions = (2, 200, 5, 1) if small else (20, 10_000, 60, 2)
    own = folder / "page"
    state = State.for_settings(Settings(model_dir=str(own)))
    for number in range(1, projects + 1):
        fill(state, own, number, tasks)
    busy: dict[str, list[float]] = {"/": [], "/projects/1": []}
    idle: dict[str, list[float]] = {"/": [], "/projects/1": []}
    server = BackendServer(own, "http://127.0.0.1:9", "", worker=False)
    with server:
        for _ in range(repetitions):
            for path in idle:
                idle[path].append(p95(server.url + path, requests))
            cycle = subprocess.Popen([sys.executable, "-m", __name__, str(own), str(tasks)], stdout=subprocess.PIPE)
            try:
                assert cycle.stdout is not None and cycle.stdout.readline(), "the cycle did not begin"
                for path in busy:
                    busy[path].append(p95(server.url + path, requests))
                if cycle.poll() is not None:
                    raise RuntimeError("the cycle ended before the pages were measured")
            finally:
                cycle.kill()
                cycle.wait()
    state.close()
    words = {"/": "p95 of the overview beside a cycle", "/projects/1": "p95 of a project's page beside a cycle"}
    return Measured(
        "page",
        f"p95 of a project's page while a cycle runs ÷ while idle, {projects} projects of {tasks:,} tasks",
        busy["/projects/1"],
        idle["/projects/1"],
        "ms",
        bounds=tuple(Bound(words[path], max(found), LIMIT_MILLISECONDS, "ms") for path, found in busy.items()),
        notes=(
            f"{requests} requests of each page, one after the other; the project's page with its map of "
            f"{min(tasks, pool_map.MOST):,} images",
            f"the overview idle: {max(idle['/']):.0f} ms",
        ),
    )


def p95(address: str, requests: int) -> float:
    """In milliseconds, after one request that does not count."""
    request = urllib.request.Request(address, headers=_PAGE)

    def ask() -> None:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    ask()
    return percentile([1000 * seconds_of(ask) for _ in range(requests)], 0.95)


def fill(state: State, folder: Path, number: int, tasks: int) -> None:
    """A project of so many tasks, after its cycles."""
    key = f"{number}.1700000000"
    state.projects.connect(number, key, _CONFIG, {}, "http://labels.example:8080", "")
    state.projects.update(number, title=f"Project {number}", refresh_seen=1, queue_tab=70 + number)
    state.leases.take(number, OWNER, 3_600)
    every = np.arange(1, tasks + 1)
    state.tasks.put(number, {task: f"/data/upload/{number}/{task}.png" for task in every.tolist()})
    state.labels.put(
        number, [StoredLabel(task, NAMES[task % 2], [[task, "monday"]], 1, 0) for task in range(1, LABELS + 1)]
    )
    state.tasks.keep_counts(number, OWNER, tasks, LABELS)
    for count in np.linspace(10, LABELS, CYCLES - 1).astype(int).tolist():
        row = state.cycles.start(number, OWNER, state.cycles.next_number(number), "margin", 0)
        state.cycles.report(row, "publish", 1, 1, labels=count)
        state.cycles.finish(row, number, OWNER, status="done", metrics=metrics(count))
    add_version(state, number, every)
    features = np.random.default_rng(number).normal(0, 1, (tasks + 1, FEATURES)).astype(np.float16)
    drawn = pool_map.drawn(lambda some: features[some], "bench", every, every[:LABELS], every[LABELS:], None)
    assert drawn is not None
    drawn.keep(project_folder(folder, key))


def metrics(labels: int) -> dict[str, object]:
    measured = {"train_cv_accuracy": 0.5 + labels / 300, "train_cv_labels": labels, "train_ece": 0.04}
    return {"task": "classification", "frame": [32, 32], "labels": labels, "seconds": {"train": 1.0}} | measured


def add_version(state: State, number: int, tasks: np.ndarray) -> Version:
    """A cycle that is done, and its version in use."""
    cycle = state.cycles.next_number(number)
    row = state.cycles.start(number, OWNER, cycle, "margin", 0)
    draw = np.random.default_rng(cycle)
    version = state.versions.add(
        number,
        OWNER,
        cycle=cycle,
        name=f"margin-c{cycle}-{number:08x}",
        sampler="margin",
        checkpoint=None,
        classes=NAMES,
        metrics=metrics(LABELS),
        task_ids=tasks,
        priority_score=draw.permutation(np.linspace(0.02, 0.98, len(tasks))),
        class_index=tasks % 2,
        confidence=draw.uniform(0.5, 1, len(tasks)),
    )
    state.versions.switch_to(version, OWNER)
    state.versions.update(version, OWNER, status="current")
    state.cycles.finish(row, number, OWNER, status="done", metrics=metrics(LABELS))
    return version


def cycles_without_end(folder: Path, tasks: int) -> None:
    """What is heavy in a cycle of project 1, again and again. The first line that is printed says that it has begun."""
    from backend.worker.device import share_cores

    share_cores(10)
    import torch

    state = State.for_settings(Settings(model_dir=str(folder)))
    row = state.cycles.start(1, OWNER, state.cycles.next_number(1), "margin", 0)
    net = torch.nn.Sequential(*(torch.nn.Conv2d(3 if not at else 64, 64, 3, padding=1) for at in range(6)))
    images = torch.rand(64, 3, 32, 32)
    began = False
    while True:
        until = time.monotonic() + 5
        done = 0
        while time.monotonic() < until:
            with torch.inference_mode():
                net(images)
            done += len(images)
            state.cycles.report(row, "score", min(done, tasks), tasks)
            if not began:
                print("begun", flush=True)
                began = True
        add_version(state, 1, np.arange(1, tasks + 1))


def main(arguments: Sequence[str]) -> None:
    cycles_without_end(Path(arguments[0]), int(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
