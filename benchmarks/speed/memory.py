"""Peak memory of scoring a large pool ÷ that of scoring a small one: does memory stay flat as the pool grows?

Each pool is scored in a process of its own (``python -m benchmarks.speed.memory DIRECTORY TASKS CHECKPOINT
[masks]``), because a process never gives its peak back. With ``masks`` it also predicts all masks, which the worker
takes batch by batch. Two peaks are taken there. VmHWM is all that was resident, mapped pages of the pool's file
included; RssAnon, sampled every few milliseconds, is what the process allocated, which the system could not take back
under pressure. Mapped pages are no cost of that kind, but a reader of `ps` sees them: the ratio in the table is that of
VmHWM, the harder one, and the other is in the notes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from backend.settings.core import Settings
from benchmarks.speed.measuring import Measured
from tests.rig.processes import REPOSITORY, clean_environment

SAMPLE_SECONDS = 0.005
LIMIT = 1.2
SIDE = 32  # of the images that are classified
REPETITIONS = 2


def measure(folder: Path, small: bool) -> Measured:
    """Score ten times as many images, 100,000 against 10,000 (2,000 against 200 when ``small``), twice each."""
    few = 200 if small else 10_000
    return _measured("memory", folder, (few, 10 * few), SIDE, 1 if small else REPETITIONS)


def measure_masks(folder: Path, small: bool) -> Measured:
    """Score and segment four times as many images of 512 × 1024 px: as many that they would show if they stayed."""
    few, frame = (4, (32, 64)) if small else (48, (512, 1024))
    return _measured("memory-masks", folder, (few, 4 * few), frame, 1 if small else REPETITIONS)


def _measured(
    key: str, folder: Path, counts: tuple[int, int], frame: int | tuple[int, int], repetitions: int
) -> Measured:
    from benchmarks.speed.pool import fill_cache, trained_learner

    masks = not isinstance(frame, int)
    few, many = counts
    checkpoint = folder / f"{key}.pt"
    directories = {count: folder / f"{key}-pool-{count}" for count in counts}
    for count, directory in directories.items():
        cache = fill_cache(directory, count, frame=frame)
        if count == few:
            # As narrow as it gets: what is asked is what grows with the pool, and a network does not.
            settings = Settings(sampler="dast-al", task_width=1 if masks else 4, epochs=1)
            learner, _ = trained_learner(cache, settings, 2 if masks else 64, masks=masks)
            learner.save(checkpoint)
    peaks: dict[int, list[dict[str, int]]] = {count: [] for count in counts}
    for number in range(repetitions):
        for count in sorted(counts, reverse=number % 2 == 1):
            peaks[count].append(_in_a_process(directories[count], count, checkpoint, masks))
    resident = {count: [peak["resident"] / 2**20 for peak in taken] for count, taken in peaks.items()}
    anonymous = {count: max(peak["anonymous"] for peak in taken) / 2**20 for count, taken in peaks.items()}
    before = max(peak["before"] for taken in peaks.values() for peak in taken) / 2**20
    what = "scoring"
    if not isinstance(frame, int):
        what = f"scoring and segmenting at {frame[0]} × {frame[1]},"
    return Measured(
        key,
        f"peak memory, {what} {many:,} cached images ÷ {few:,}",
        resident[many],
        resident[few],
        "MiB",
        LIMIT,
        notes=(
            "peak resident set (VmHWM) of a fresh process with the dast-al sampler; of it allocated (peak RssAnon): "
            f"{anonymous[many]:.0f} ÷ {anonymous[few]:.0f} MiB = {anonymous[many] / anonymous[few]:.3f}; "
            f"up to {before:.0f} MiB before the first image, most of it torch",
        ),
    )


def _in_a_process(directory: Path, count: int, checkpoint: Path, masks: bool) -> dict[str, int]:
    arguments = [str(directory), str(count), str(checkpoint), *(["masks"] if masks else [])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.memory", *arguments],
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


def _score(directory: Path, count: int, checkpoint: Path, masks: bool) -> dict[str, int]:
    """What the worker does between training and publishing, and the memory it took."""
    import torch

    from backend.images.cache import ImageCache
    from backend.learning.learner import Learner
    from models.data import Runtime
    from models.inference.predictions import predict_masks

    learner = Learner.load(checkpoint, torch.device("cpu"))
    if not masks:
        torch.set_num_threads(1)  # memory is asked for, not time; so narrow a net gains nothing from more
    before = status_bytes("VmRSS")
    sampler = PeakAnonymous()
    sampler.start()
    cache = ImageCache(directory, learner.frame if masks else learner.frame[0])
    rows, runtime = cache.rows(range(1, count + 1)), Runtime(device=learner.device, seed=0)
    acquisition, _ = learner.score(cache.pixels, rows, runtime)
    predicted = count
    if masks:
        predicted = sum(len(part) for part, _, _ in predict_masks(learner.net, cache.pixels, rows, runtime))
    if not len(acquisition) == predicted == count:
        raise RuntimeError(f"{len(acquisition)} scores and {predicted} predictions for {count} tasks")
    return {"before": before, "anonymous": sampler.stop(), "resident": status_bytes("VmHWM")}


if __name__ == "__main__":
    print(json.dumps(_score(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["masks"])))
