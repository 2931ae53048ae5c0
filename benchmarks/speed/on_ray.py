"""What two processes of Ray gain over one: margin's order of a million rows of kept features, as a worker asks.

One thread in each process, so that one process has one core and two have two. A Ray of this machine, as EXECUTOR=ray
starts it: its processes have loaded torch before, as they have in a worker after its first pass. Measured is the whole
pass, from the call to the last score. These rows are the hardest case: a row's 2,560 bytes are read, copied into Ray's
memory and read there by another process, for 12,800 multiplications.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from backend.engine.executor import RayExecutor
from backend.engine.session import RaySession
from benchmarks.speed.heads import CPU, SCORED, clusters, no_pixels
from benchmarks.speed.measuring import Measured, seconds_of
from models.data import Runtime
from models.inference.executors import Computed, Pass

LIMIT, PROCESSES = 0.6, 2
_BLOCK, _REPETITIONS = 10_000, 3


@dataclass
class _Timed:
    """The executor, and after how many seconds the first result came."""

    inner: RayExecutor
    first: list[float] = field(default_factory=list)

    def computed(self, work: Pass) -> Computed | None:
        found = self.inner.computed(work)
        assert found is not None
        return self._timed(found)

    def _timed(self, found: Computed) -> Computed:
        started, came = time.perf_counter(), False
        with closing(found):
            for one in found:
                if not came:
                    self.first.append(time.perf_counter() - started)
                came = True
                yield one


def measure(folder: Path, small: bool) -> Measured:
    """Ray on two processes ÷ one process, in turns."""
    learner, block, _ = clusters(_BLOCK // 10 if small else _BLOCK)
    count, path = (2 * len(block) if small else SCORED), folder / "features-ray.f16"
    with path.open("wb") as file:
        for _ in range(count // len(block)):
            file.write(block.tobytes())
    kept = np.memmap(path, np.float16, "r", shape=(count, block.shape[1]))
    runtime, rows, pixels = Runtime(CPU, 0, features=kept), np.arange(count), no_pixels(count)
    default = torch.get_num_threads()
    session = RaySession("", cores=PROCESSES)
    timed = _Timed(RayExecutor(session, fewest=(0, 0), warm=False))
    there = replace(runtime, executor=timed)
    over: list[float] = []
    under: list[float] = []
    try:
        with _threads(1):
            session.connect()
            for number in range(1 if small else 1 + _REPETITIONS):
                _warm()
                scores: list[bytes] = []
                for times, one in ((over, there), (under, runtime)):
                    started = time.perf_counter()
                    scores.append(learner.score(pixels, rows, one)[0].tobytes())
                    times.append(time.perf_counter() - started)
                assert scores[0] == scores[1]
                if number == 0 and not small:  # not counted
                    for found in (over, under, timed.first):
                        found.clear()
        with _threads(default):
            whole = seconds_of(lambda: learner.score(pixels, rows, runtime))
    finally:
        session.end()
        path.unlink()
    notes = (
        f"{count:,} rows of {block.shape[1]:,} numbers in float16; the same bits; of Ray's seconds "
        f"{statistics.median(timed.first):.1f} until the first result, in which actors start; one process with its "
        f"{default} threads takes {whole:.1f} s",
    )
    title = f"scoring kept features by Ray on {PROCESSES} processes ÷ one process"
    return Measured("ray", title, over, under, "s", LIMIT, notes=notes)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warm() -> None:
    """As a worker's processes are after its last pass."""
    import ray

    from backend.engine.running import keep_warm

    ray.get(keep_warm(PROCESSES, 1))
