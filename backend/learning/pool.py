"""A pool with its scores: what a cycle hands from the sampler to the publisher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.learning.scores import to_published
from models.data import Runtime
from models.inference.predictions import Predictions


@dataclass(frozen=True)
class ScoredPool:
    """``tasks`` (N,) with their ``acquisition`` (N,) float64, higher = label sooner, and what the network predicts for
    them, where a network was asked."""

    tasks: list[int]
    acquisition: np.ndarray
    predictions: Predictions | None = None

    @classmethod
    def scored(cls, learner: Learner, cache: ImageCache, tasks: Sequence[int], runtime: Runtime) -> ScoredPool:
        """``tasks``, which have rows in ``cache``, scored by the learner's sampler."""
        if not tasks:
            return cls([], np.empty(0))
        return cls(list(tasks), *learner.score(cache.pixels, cache.rows(tasks), runtime))

    @classmethod
    def ranked(cls, tasks: Sequence[int], rank: np.ndarray) -> ScoredPool:
        """``tasks`` in an order of their own: published scores evenly spaced in (0, 1) by ``rank`` (N,), 0 = first."""
        share = (rank + 0.5) / max(1, len(rank))
        return cls(list(tasks), np.log1p(-share) - np.log(share))

    @property
    def confidence(self) -> np.ndarray | None:
        return None if self.predictions is None else self.predictions.confidence

    def head(self, count: int | None, seed: int) -> list[int]:
        """The first ``count`` tasks of the published order; None: all of them."""
        order = np.argsort(to_published(self.acquisition, seed))
        return [self.tasks[place] for place in order[:count]]
