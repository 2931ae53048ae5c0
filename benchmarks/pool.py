"""A pool without a source: random pixels in a real image cache, and a learner that has learnt from some of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from backend.imageindex import Index
from backend.images import ImageCache
from backend.learner import Learner
from backend.settings import Settings
from models.data import CycleData, Runtime

SIZE = 32
CLASSES = tuple(f"class {number}" for number in range(10))
_AT_A_TIME = 2_000


def fill_cache(directory: Path, count: int, seed: int = 0) -> ImageCache:
    """An image cache with tasks 1..``count``, as a sync would leave it, but with noise for pixels: 3 KiB a task."""
    directory.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    pixels = directory / "pixels.u8"
    with pixels.open("wb") as file:
        for start in range(0, count, _AT_A_TIME):
            rows = min(_AT_A_TIME, count - start)
            file.write(draw.integers(0, 256, rows * SIZE * SIZE * 3, dtype=np.uint8).tobytes())
    index = Index(directory / "index", SIZE, lambda: pixels.stat().st_size // (SIZE * SIZE * 3))
    for task in range(1, count + 1):
        index.place(task, hashlib.blake2b(str(task).encode(), digest_size=16).digest())
    index.save()
    return ImageCache(directory, SIZE)


def trained_learner(cache: ImageCache, settings: Settings, labels: int = 64) -> tuple[Learner, Runtime]:
    """A learner of ``settings`` after the shortest training that leaves every part of it in use, on the CPU."""
    device = torch.device("cpu")
    runtime = Runtime(device=device, seed=0)
    pixels = cache.pixels
    labels = min(labels, len(pixels) // 2)
    rows = np.arange(len(pixels), dtype=np.int64)
    data = CycleData(
        pixels=pixels,
        labelled=rows[:labels],
        targets=np.arange(labels, dtype=np.int64) % len(CLASSES),
        unlabelled=rows[labels : 2 * labels],
        num_classes=len(CLASSES),
    )
    learner = Learner.fresh(settings, CLASSES, SIZE, device, seed=0)
    learner.learn(data, settings, runtime)
    return learner, runtime
