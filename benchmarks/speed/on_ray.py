"""What two processes of Ray gain over one: a sampler's order of a million rows of kept features, as a worker asks.

One thread in each process, so that one process computes on one core and two on two. A Ray of this machine, as
EXECUTOR=ray starts it. Measured is the whole pass, from the call to the last score, once actors run: they stay from
pass to pass. The first pass, in which they start and load torch, is told apart.

A row costs margin, which orders by the head alone, hardly more than reading it, which one process does in a thread of
its own; the networks of VAAL, and the draws of BALD, cost several times as much.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from backend.engine.executor import RayExecutor
from backend.engine.session import RaySession
from backend.learning.learner import Learner
from benchmarks.speed.heads import CPU, EMBEDDED_SIDE, SCORED, SETTINGS, clusters, no_pixels
from benchmarks.speed.measuring import Measured, seconds_of
from benchmarks.speed.pool import CLASSES
from models.data import ClassTargets, CycleData, Runtime

LIMITS, PROCESSES = {"bald": 0.6, "vaal": 0.6, "margin": None}, 2
_BLOCK, _LABELED, _REPETITIONS = 10_000, 500, 3


def measure(sampler: str, folder: Path, small: bool) -> Measured:
    """Ray on two processes ÷ one process, in turns."""
    learner, block = _trained(sampler, _BLOCK // 10 if small else _BLOCK)
    count, path = (2 * len(block) if small else SCORED), folder / "features-ray.f16"
    with path.open("wb") as file:
        for _ in range(count // len(block)):
            file.write(block.tobytes())
    kept = np.memmap(path, np.float16, "r", shape=(count, block.shape[1]))
    runtime, rows, pixels = Runtime(CPU, 0, features=kept), np.arange(count), no_pixels(count)
    default = torch.get_num_threads()
    session = RaySession("", cores=PROCESSES)
    there = replace(runtime, executor=RayExecutor(session, fewest=(0, 0)))
    over: list[float] = []
    under: list[float] = []
    try:
        with _threads(1):
            session.connect()
            for _ in range(2 if small else 1 + _REPETITIONS):
                scores: list[bytes] = []
                for times, one in ((over, there), (under, runtime)):
                    started = time.perf_counter()
                    scores.append(learner.score(pixels, rows, one)[0].tobytes())
                    times.append(time.perf_counter() - started)
                assert scores[0] == scores[1]
        with _threads(default):
            whole = seconds_of(lambda: learner.score(pixels, rows, runtime))
    finally:
        session.end()
        path.unlink()
    cold, over, under = over[0], over[1:], under[1:]
    notes = (
        f"{count:,} rows of {block.shape[1]:,} numbers in float16; the same bits; the first pass, in which actors "
        f"start, took {cold:.1f} s and is not counted; one process with its {default} threads takes {whole:.1f} s",
    )
    title = f"{sampler}: scoring kept features by Ray on {PROCESSES} processes ÷ one process"
    return Measured(f"ray-{sampler}", title, over, under, "s", LIMITS[sampler], notes=notes)


def _trained(sampler: str, count: int) -> tuple[Learner, np.ndarray]:
    """A head and the sampler's networks, and the features (N, E) that they learned from."""
    _, block, targets = clusters(count)
    settings, rows = replace(SETTINGS, sampler=sampler), np.arange(count)
    learner = Learner.fresh(settings, CLASSES, EMBEDDED_SIDE, CPU, seed=0)
    labeled = ClassTargets(targets[:_LABELED])
    data = CycleData(no_pixels(count), rows[:_LABELED], rows[_LABELED:], labeled, len(CLASSES))
    learner.learn(data, settings, Runtime(CPU, 0, features=block))
    return learner, block


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
