"""Passes over small pools, computed here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.settings.core import Settings
from models.data import Runtime
from models.inference.executors import Computed, Executor, Pass
from models.inference.predictions import Predictions

CPU = torch.device("cpu")
HEAD = Settings(task_net="test_efficientnet", weights="none", training="head", sampler="margin")
WHOLE = Settings(task_net="resnet18", weights="none", sampler="margin", task_width=4, epochs=1)


@dataclass
class Counting:
    """An executor that counts what it is asked for and what comes back."""

    inner: Executor
    passes: int = 0
    batches: list[np.ndarray] = field(default_factory=list)
    after_batch: Callable[[tuple[np.ndarray, ...]], None] = lambda values: None

    def computed(self, work: Pass) -> Computed | None:
        found = self.inner.computed(work)
        if found is None:
            return None
        self.passes += 1
        return self._counted(found)

    def _counted(self, found: Computed) -> Computed:
        for part, values in found:
            self.batches.append(part)
            self.after_batch(values)
            yield part, values


def pool_of_images(folder: Path, count: int, side: int = 32) -> ImageCache:
    """An image cache of tasks 1..count, of noise."""
    rng = np.random.default_rng(0)
    cache = ImageCache(folder / f"images-{side}", side)
    with cache._writing(), cache._batch() as batch:
        for task in range(1, count + 1):
            batch.add(task, task.to_bytes(16, "big"), rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
    return cache


def pool_of_features(folder: Path, count: int, width: int) -> np.ndarray:
    """A read-only memory map (count, width) float16 of noise."""
    written = np.memmap(folder / "rows.f16", np.float16, "w+", shape=(count, width))
    written[:] = np.random.default_rng(0).standard_normal((count, width)).astype(np.float16)
    written.flush()
    return np.memmap(folder / "rows.f16", np.float16, "r", shape=(count, width))


def scores(
    learner: Learner, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, executor: Executor | None
) -> tuple[np.ndarray, Predictions]:
    return learner.score(pixels, rows, replace(runtime, executor=executor))


def no_pixels(count: int) -> np.ndarray:
    """As many images as there are features, which nobody reads."""
    return np.broadcast_to(np.zeros((1, 32, 32, 3), np.uint8), (count, 32, 32, 3))


def assert_same_bits(ours: tuple[np.ndarray, Predictions], theirs: tuple[np.ndarray, Predictions]) -> None:
    for one, other in [
        (ours[0], theirs[0]),
        (ours[1].confidence, theirs[1].confidence),
        (ours[1].predicted, theirs[1].predicted),
    ]:
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
