"""Whether a sampler learned anything: below a gate, the order that is published is another sampler's.

Axis letters: N pool rows, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.settings.core import Settings
from models.data import CycleData, Runtime
from models.inference.predictions import Predictions
from models.tasks import task_named

log = logging.getLogger(__name__)

FEWEST_PICKS = 20
"""So many images tell how many classes they are of."""
LEAST_SHARE = 1 / 3
"""Of the effective classes of as many random images: the gate of the picks."""
DRAWS = 20


def checked(
    learner: Learner,
    scored: ScoredPool,
    metrics: Mapping[str, float],
    data: CycleData,
    settings: Settings,
    runtime: Runtime,
) -> tuple[Learner, ScoredPool, dict[str, Any]]:
    """The learner, and its order or, where its sampler is below a gate, a stand-in's: with what is to be said of it,
    for the metrics of the cycle.

    data: its unlabeled rows are those of the scored tasks. metrics: of the training; see :meth:`Learner.learn`. The
    gates: what the sampler itself says of them (:meth:`samplers.base.Sampler.doubts`), and the number of effective
    classes among the first `budget` images.
    """
    found: dict[str, Any] = {"order": learner.sampler.name, "why": ""}
    baseline, replacement = not learner.sampler.spreads_first, learner.sampler.name == learner.standin_name
    if settings.health == "off" or baseline or replacement or not len(scored.tasks):
        return learner, scored, found
    rng, count = runtime.rng("health"), min(settings.budget, len(scored.tasks))
    picked = effective_classes(learner, scored, _head(scored, count))
    usual = float(np.mean([effective_classes(learner, scored, _some(rng, scored, count)) for _ in range(DRAWS)]))
    found |= {"effective_classes": round(picked, 2), "of_random_images": round(usual, 2)}
    doubts = learner.sampler.doubts({key.removeprefix("fit_"): value for key, value in metrics.items()})
    narrow = count >= FEWEST_PICKS and picked < LEAST_SHARE * usual
    if not doubts and not narrow:
        return learner, scored, found
    other = learner.with_standin(data, runtime)
    assert other.standin is not None
    ordered = ScoredPool(scored.tasks, *other.score(data.pixels, data.unlabeled, runtime))
    if not doubts and effective_classes(other, ordered, _head(ordered, count)) <= picked:
        return learner, scored, found  # the network tells no more classes apart
    if not doubts:
        doubts = f"its next {count} images are of {picked:.1f} classes, where {usual:.1f} are usual by chance"
    found |= {"order": other.standin.name, "why": doubts}
    log.warning(
        "The order is by %s, because that of %s is not to be trusted: %s",
        other.standin.name,
        learner.sampler.name,
        doubts,
    )
    return other, ordered, found


def effective_classes(learner: Learner, scored: ScoredPool, places: np.ndarray) -> float:
    """exp of the entropy of the classes that the network predicts for some of the pool, between 1 and C."""
    assert scored.predictions is not None
    some = Predictions(scored.predictions.predicted[places], scored.predictions.confidence[places])
    shares = task_named(learner.task).class_shares(some, learner.net.num_classes)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _head(scored: ScoredPool, count: int) -> np.ndarray:
    return np.argsort(-scored.acquisition, kind="stable")[:count]


def _some(rng: np.random.Generator, scored: ScoredPool, count: int) -> np.ndarray:
    return rng.choice(len(scored.tasks), count, replace=False)
