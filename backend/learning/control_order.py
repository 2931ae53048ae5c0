"""The control arm in a published order: see :mod:`backend.control`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backend.control import Arm, interleaved
from backend.learning.pool import ScoredPool
from backend.learning.scores import LOWEST, priority_scores
from models.inference.predictions import Predictions


def with_drawn(chosen: ScoredPool, drawn: ScoredPool, fraction: float, seed: int) -> ScoredPool:
    """One pool of the tasks that the sampler put in order, and of those ``drawn`` by chance, which are in the order in
    which they are to be served, whatever their acquisition: :func:`backend.control.interleaved`.

    The former keep their acquisition. Each of the latter gets that of the task before it, and its place behind it.
    """
    if not len(drawn.tasks):
        return chosen
    ahead = np.argsort(chosen.priority_scores(seed))
    order = np.array(interleaved(range(len(ahead)), range(len(ahead), len(ahead) + len(drawn.tasks)), fraction))
    is_chosen = order < len(ahead)
    acquisition = np.zeros(len(order))
    if len(ahead):  # the first of any order is chosen
        last = np.maximum.accumulate(np.where(is_chosen, np.arange(len(order)), 0))
        acquisition = chosen.acquisition[ahead[order[last]]]
    rows = np.concatenate([ahead, np.arange(len(ahead), len(order))])[order]
    tasks = np.concatenate([chosen.tasks, drawn.tasks])[rows]
    return ScoredPool(tasks, acquisition, _joined(chosen, drawn, rows), np.arange(len(order)))


def in_drawn_places(joining: ScoredPool, arm: Arm, published: np.ndarray, seed: int) -> ScoredPool:
    """Tasks that join an order whose priority scores are ``published`` (M,), ascending: those of the arm have the place
    there that they would have had from the beginning, and not that of their acquisition.

    In a whole order, the task of the arm with the place u stands about where the share u / fraction of it ends.
    """
    is_drawn = np.isin(joining.tasks, arm.of(joining.tasks))
    others = priority_scores(joining.acquisition[~is_drawn], seed)
    scale = np.sort(np.concatenate([published, others]))
    share = arm.places(joining.tasks[is_drawn]) / arm.fraction
    acquisition = joining.acquisition.copy()
    score = share
    if len(scale):
        ends = np.append(scale, (1.0 + scale[-1]) / 2)  # the last part is behind all others
        score = np.interp(share * len(scale), np.arange(len(ends)), ends)
    score = np.clip(score, LOWEST, 1.0 - 2.0**-53)
    acquisition[is_drawn] = np.log1p(-score) - np.log(score)
    return replace(joining, acquisition=acquisition)


def _joined(first: ScoredPool, second: ScoredPool, rows: np.ndarray) -> Predictions | None:
    """The predictions of both, one after the other, in the order of ``rows`` (N,)."""
    found = [pool.predictions for pool in (first, second) if pool.predictions is not None]
    if not found:
        return None
    predicted = np.concatenate([one.predicted for one in found])
    return Predictions(predicted[rows], np.concatenate([one.confidence for one in found])[rows])
