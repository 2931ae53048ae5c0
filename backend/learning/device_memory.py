"""Training and scoring where the device's memory does not suffice: the same again, in batches of half the size."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from backend.errors import OwnerError
from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from models.data import CycleData, Runtime
from models.inference.streaming import eval_batch_size

log = logging.getLogger(__name__)

BATCHES = ("batch_size", "vaal_batch_size")
"""The settings that say how many images are on the device at once."""

FEWEST = 4
"""Images in the smallest batch that is tried: batch normalization needs some."""

T = TypeVar("T")


def trained(
    settings: Settings, classes: Sequence[str], data: CycleData, runtime: Runtime, previous: Learner | None
) -> tuple[Learner, dict[str, float]]:
    """:meth:`Learner.trained`, from its beginning for each size of the batches. Raises OwnerError where not even small
    ones fit."""

    sizes = {name: int(getattr(settings, name)) for name in BATCHES}

    def train(batch: int) -> tuple[Learner, dict[str, float]]:
        smaller: dict[str, Any] = {name: min(size, batch) for name, size in sizes.items()}
        return Learner.trained(replace(settings, **smaller), classes, data, runtime, previous)

    return _in_batches(train, max(sizes.values()), "training")


def scored(learner: Learner, cache: ImageCache, tasks: np.ndarray, runtime: Runtime) -> ScoredPool:
    """:meth:`ScoredPool.scored`, likewise."""

    def score(batch: int) -> ScoredPool:
        return ScoredPool.scored(learner, cache, tasks, replace(runtime, eval_batch_size=batch))

    height, width = cache.pixels.shape[1:3]
    return _in_batches(score, eval_batch_size(runtime, (height, width)), "scoring")


def _in_batches(work: Callable[[int], T], batch: int, what: str) -> T:
    while True:
        try:
            return work(batch)
        except torch.OutOfMemoryError as error:
            words = str(error).split(". ")[0]
        # Only here, behind the except block, is nothing left that refers to the tensors of the attempt.
        gc.collect()
        torch.cuda.empty_cache()
        if batch // 2 < FEWEST:
            raise OwnerError(
                f"The GPU's memory does not suffice for {what}, not even in batches of {batch} ({words}): free some of "
                "it, or set a smaller image_size or task_width, or DEVICE=cpu."
            )
        batch //= 2
        log.warning("The GPU's memory does not suffice for %s (%s): trying batches of %d", what, words, batch)
