"""A scored pool: what a cycle passes from the sampler to the publisher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.learning.scores import priority_scores
from models.data import Runtime
from models.inference.predictions import Predictions


@dataclass(frozen=True)
class ScoredPool:
    """``tasks`` (N,) with their ``acquisition`` (N,) float64, higher = label sooner, and the network's predictions for
    them, None where no network was involved."""

    tasks: list[int]
    acquisition: np.ndarray
    predictions: Predictions | None = None

    @classmethod
    def scored(cls, learner: Learner, cache: ImageCache, tasks: Sequence[int], runtime: Runtime) -> ScoredPool:
        """``tasks``, all of them in ``cache``, scored by the learner's sampler."""
        if not tasks:
            return cls([], np.empty(0))
        return cls(list(tasks), *learner.score(cache.pixels, cache.rows(tasks), runtime))

    @classmethod
    def ranked(cls, tasks: Sequence[int], rank: np.ndarray) -> ScoredPool:
        """``tasks`` in a given order: ``rank`` (N,), 0 = first. Their priority scores are evenly spaced in (0, 1)."""
        share = (rank + 0.5) / max(1, len(rank))
        return cls(list(tasks), np.log1p(-share) - np.log(share))

    @property
    def confidence(self) -> np.ndarray | None:
        return None if self.predictions is None else self.predictions.confidence

    def head(self, count: int | None, seed: int) -> list[int]:
        """The first ``count`` tasks in the order of their priority scores; None means all of them."""
        order = np.argsort(priority_scores(self.acquisition, seed))
        return [self.tasks[place] for place in order[:count]]
