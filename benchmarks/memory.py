"""Peak memory of scoring a large pool ÷ that of scoring a small one: does memory stay flat as the pool grows?

Each pool is scored in a process of its own (``python -m benchmarks.memory DIRECTORY TASKS CHECKPOINT``), because a
process never gives its peak back. Two peaks are taken there. VmHWM is all that was resident, mapped pages of the pool's
file included; RssAnon, sampled every few milliseconds, is what the process allocated, which the system could not take
back under pressure. Mapped pages are no cost of that kind, but a reader of `ps` sees them: the ratio in the table is
that of VmHWM, the harder one, and the other stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from backend.settings import Settings
from benchmarks.measuring import Measured
from benchmarks.processes import REPOSITORY, clean_environment

SAMPLE_SECONDS = 0.005
LIMIT = 1.2


def measure(folder: Path, small: bool) -> Measured:
    """Score ten times as many images, 100,000 against 10,000 (2,000 against 200 when ``small``), twice each."""
    from benchmarks.pool import fill_cache, trained_learner

    few, repetitions = (200, 1) if small else (10_000, 2)
    checkpoint = folder / "memory.pt"
    directories = {count: folder / f"pool-{count}" for count in (few, 10 * few)}
    for count, directory in directories.items():
        cache = fill_cache(directory, count)
    # As narrow as it gets: what is asked is what grows with the pool, and a network does not.
    learner, _ = trained_learner(cache, Settings(sampler="dast-al", task_width=4, epochs=1))
    learner.save(checkpoint)
    peaks: dict[int, list[dict[str, int]]] = {count: [] for count in directories}
    for number in range(repetitions):
        for count in sorted(directories, reverse=number % 2 == 1):
            peaks[count].append(_in_a_process(directories[count], count, checkpoint))
    resident = {count: [peak["resident"] / 2**20 for peak in taken] for count, taken in peaks.items()}
    anonymous = {count: max(peak["anonymous"] for peak in taken) / 2**20 for count, taken in peaks.items()}
    before = max(peak["before"] for taken in peaks.values() for peak in taken) / 2**20
    return Measured(
        "memory",
        f"peak memory, scoring {10 * few:,} cached images ÷ {few:,}",
        resident[10 * few],
        resident[few],
        "MiB",
        LIMIT,
        notes=(
            "peak resident set (VmHWM) of a fresh process with the dast-al sampler; of it allocated (peak RssAnon): "
            f"{anonymous[10 * few]:.0f} ÷ {anonymous[few]:.0f} MiB = {anonymous[10 * few] / anonymous[few]:.3f}; "
            f"up to {before:.0f} MiB before the first image, most of it torch",
        ),
    )


def _in_a_process(directory: Path, count: int, checkpoint: Path) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(directory), str(count), str(checkpoint)],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"scoring {count} images ended with {done.returncode}: {done.stderr[-2000:]}")
    peaks: dict[str, int] = json.loads(done.stdout)
    return peaks


def status_bytes(field: str) -> int:
    """A line of /proc/self/status that counts kB, such as VmHWM or RssAnon, in bytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


class PeakAnonymous(threading.Thread):
    """Samples RssAnon until stopped; ``peak`` in bytes."""

    def __init__(self) -> None:
        super().__init__(name="memory", daemon=True)
        self.peak = 0
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            self.peak = max(self.peak, status_bytes("RssAnon"))
            time.sleep(SAMPLE_SECONDS)

    def stop(self) -> int:
        self._stop_asked.set()
        self.join()
        return max(self.peak, status_bytes("RssAnon"))


def _score(directory: Path, count: int, checkpoint: Path) -> dict[str, int]:
    """What the worker does between training and publishing, and what it took."""
    import torch

    from backend.images import ImageCache
    from backend.learner import Learner
    from models.data import Runtime

    torch.set_num_threads(1)  # memory is asked for, not time; so narrow a net gains nothing from more
    learner = Learner.load(checkpoint, torch.device("cpu"))
    before = status_bytes("VmRSS")
    sampler = PeakAnonymous()
    sampler.start()
    cache = ImageCache(directory, learner.net_config.image_size)
    acquisition, _ = learner.score(
        cache.pixels, cache.rows(range(1, count + 1)), Runtime(device=learner.device, seed=0)
    )
    if len(acquisition) != count:
        raise RuntimeError(f"{len(acquisition)} scores for {count} tasks")
    return {"before": before, "anonymous": sampler.stop(), "resident": status_bytes("VmHWM")}


if __name__ == "__main__":
    print(json.dumps(_score(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
