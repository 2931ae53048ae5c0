"""A scored pool: what a cycle passes from the sampler to the publisher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.learning.scores import priority_scores
from models.data import Runtime
from models.inference.predictions import Predictions
from models.tasks import task_named

CLASSES_KEPT = 100
"""Of :func:`predicted_shares`, which stand in the history of every cycle."""


@dataclass(frozen=True)
class ScoredPool:
    """``tasks`` (N,) int64 with their ``acquisition`` (N,) float64, higher = label sooner, and the network's
    predictions for them, None where no network was involved. ``places`` (N,): what orders tasks of equal acquisition;
    None: chance."""

    tasks: np.ndarray
    acquisition: np.ndarray
    predictions: Predictions | None = None
    places: np.ndarray | None = None

    @classmethod
    def scored(cls, learner: Learner, cache: ImageCache, tasks: np.ndarray, runtime: Runtime) -> ScoredPool:
        """``tasks`` (N,), all of them in ``cache``, scored by the learner's sampler."""
        if not len(tasks):
            return cls(tasks, np.empty(0))
        return cls(tasks, *learner.score(cache.pixels, cache.rows(tasks), runtime))

    @classmethod
    def unordered(cls, tasks: np.ndarray) -> ScoredPool:
        """``tasks`` (N,) that something else puts in order, without predictions."""
        return cls(tasks, np.zeros(len(tasks)))

    @classmethod
    def ranked(cls, tasks: np.ndarray, rank: np.ndarray, within: tuple[float, float] = (0.0, 1.0)) -> ScoredPool:
        """``tasks`` (N,) in a given order: ``rank`` (N,), 0 = first. Their priority scores are evenly spaced between
        the two limits ``within`` (0, 1)."""
        low, high = within
        share = low + (high - low) * (rank + 0.5) / max(1, len(rank))
        return cls(tasks, np.log1p(-share) - np.log(share))

    @classmethod
    def shuffled(cls, tasks: np.ndarray, seed: int, within: tuple[float, float] = (0.0, 1.0)) -> ScoredPool:
        """``tasks`` (N,) in a random order; ``within`` as in :meth:`ranked`."""
        rng = np.random.default_rng([seed, int(tasks[0]) if len(tasks) else 0])
        return cls.ranked(tasks, rng.permutation(len(tasks)), within)

    @property
    def confidence(self) -> np.ndarray | None:
        return None if self.predictions is None else self.predictions.confidence

    def priority_scores(self, seed: int) -> np.ndarray:
        """(N,) float64: see :func:`backend.learning.scores.priority_scores`."""
        return priority_scores(self.acquisition, seed, self.places)

    def head(self, count: int | None, seed: int) -> list[int]:
        """The first ``count`` tasks in the order of their priority scores; None means all of them."""
        order = np.argsort(self.priority_scores(seed))
        return self.tasks[order[:count]].tolist()


def predicted_shares(learner: Learner, scored: ScoredPool) -> dict[str, float]:
    """Class → its share in what is predicted for the pool, the largest first: of the images, or, where they have
    several classes, of the sum of the probabilities. Without what is no label, such as the background."""
    if scored.predictions is None or not len(scored.tasks):
        return {}
    shares = task_named(learner.task).class_shares(scored.predictions, learner.net.num_classes)
    named = zip(learner.classes, shares[len(shares) - len(learner.classes) :].round(4).tolist(), strict=True)
    return dict(sorted(named, key=lambda pair: -pair[1])[:CLASSES_KEPT])
