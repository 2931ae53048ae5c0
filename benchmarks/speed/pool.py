"""A pool without a source: random pixels in a real image cache, and a learner that has learned from some of them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch

from backend.images.cache import ImageCache
from backend.images.row_index import Index
from backend.learning.learner import Learner
from backend.settings.core import Settings
from models.data import ClassTargets, CycleData, MaskTargets, Runtime, Targets

SIZE = 32
CLASSES = tuple(f"class {number}" for number in range(10))
_AT_A_TIME = 2_000


def fill_cache(directory: Path, count: int, seed: int = 0, frame: int | tuple[int, int] = SIZE) -> ImageCache:
    """An image cache with tasks 1..``count``, as a sync would leave it, but with noise for pixels: 3 KiB a task.

    ``frame`` as :class:`~backend.images.cache.ImageCache` takes it: (H, W) of whole images, for masks, whose originals
    then count as twice that size.
    """
    directory.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    shape = (frame, frame) if isinstance(frame, int) else frame
    row_bytes = 3 * math.prod(shape)
    pixels = directory / "pixels.u8"
    with pixels.open("wb") as file:
        for start in range(0, count, _AT_A_TIME):
            rows = min(_AT_A_TIME, count - start)
            file.write(draw.integers(0, 256, rows * row_bytes, dtype=np.uint8).tobytes())
    if not isinstance(frame, int):
        (directory / "sizes.u32").write_bytes(np.tile(np.array(shape, "<u4") * 2, (count, 1)).tobytes())
    kept = frame if isinstance(frame, int) else list(frame)
    index = Index(directory / "index", kept, lambda: pixels.stat().st_size // row_bytes)
    for task in range(1, count + 1):
        index.place(task, hashlib.blake2b(str(task).encode(), digest_size=16).digest())
    index.save()
    return ImageCache(directory, frame)


def trained_learner(
    cache: ImageCache, settings: Settings, labels: int = 64, *, masks: bool = False
) -> tuple[Learner, Runtime]:
    """A learner of ``settings`` after the shortest training that leaves every part of it in use, on the CPU. With
    ``masks`` a segmenter, which learned one class for each row of pixels."""
    runtime = Runtime(device=torch.device("cpu"), seed=0)
    pixels = cache.pixels
    labels = min(labels, len(pixels) // 2)
    rows = np.arange(len(pixels), dtype=np.int64)
    stripes = np.arange(cache.frame[0], dtype=np.uint8) % (1 + len(CLASSES))
    targets: Targets = ClassTargets(rows[:labels] % len(CLASSES))
    if masks:
        targets = MaskTargets(np.broadcast_to(stripes[:, None], (1, *cache.frame)), np.zeros(labels, np.int64))
    data = CycleData(
        pixels=pixels,
        labeled=rows[:labels],
        unlabeled=rows[labels : 2 * labels],
        targets=targets,
        num_classes=len(CLASSES) + masks,
    )
    learner = Learner.fresh(settings, CLASSES, cache.frame, runtime.device, seed=0, task=data.task)
    learner.learn(data, settings, runtime)
    return learner, runtime
