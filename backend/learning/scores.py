"""From acquisition to ``priority_score``, the score Label Studio sorts by: the only module that knows the direction.

Label Studio serves the *lowest* prediction score first. A sampler's acquisition ``a`` is any finite real number on the
scale of log-odds, higher = label sooner; the priority score is ``1 / (1 + exp(a))``. For VAAL that is the
discriminator's output ``D(mu)`` (a = -logit D). For EPMCM it is ``1 / (1 + bound)`` (a = log bound): the softmax
confidence in the predicted class with the augmentation averaged in, or plain softmax confidence at zero covariance.
"""

from __future__ import annotations

import math

import numpy as np

from backend.errors import BackendError

LOWEST = 1e-300  # well above the denormals, which some databases and JSON readers round to zero
_ONE_BITS = int(np.float64(1.0).view(np.int64))


def priority_scores(acquisition: np.ndarray, seed: int, places: np.ndarray | None = None) -> np.ndarray:
    """Priority scores in (0, 1], (N,) float64: all different, and strictly decreasing in ``acquisition`` (N,).

    Equal acquisitions are ordered by their ``places`` (N,), or else at random, by ``seed``, so that ties do not favor
    the oldest tasks. Where the formula
    underflows, or rounds different acquisitions to the same number, neighboring scores are moved apart by one unit in
    the last place: the bit patterns of positive floats, read as integers, sort like the floats themselves.

    Raises:
        BackendError: an acquisition is not finite.
    """
    values = np.asarray(acquisition, dtype=np.float64)
    if not np.isfinite(values).all():
        raise BackendError(f"{int((~np.isfinite(values)).sum())} of {values.size} acquisition values are not finite")
    if values.size == 0:
        return np.empty(0, dtype=np.float64)
    tie_break = np.random.default_rng(seed).permutation(values.size) if places is None else places
    order = np.lexsort((tie_break, -values))  # soonest first, so ascending in priority score
    raw = np.clip(np.exp(-np.logaddexp(0.0, values[order])), LOWEST, 1.0)
    steps = np.arange(values.size, dtype=np.int64)
    bits = np.maximum.accumulate(raw.view(np.int64) - steps) + steps  # each at least one unit above the one before
    bits = np.minimum(bits, _ONE_BITS - steps[::-1])  # and none above 1
    scores = np.empty_like(values)
    scores[order] = bits.view(np.float64)
    return scores


def acquisition_of(priority_score: float) -> float:
    """The acquisition that such a score is of, but for the units by which scores were moved apart."""
    return math.log1p(-priority_score) - math.log(priority_score) if priority_score < 1.0 else -math.inf


def joining_priority_scores(acquisition: np.ndarray, taken: np.ndarray, seed: int) -> np.ndarray:
    """Priority scores (N,) of tasks that join a published order: by the same formula, but none of those already
    ``taken`` (M,)."""
    scores = priority_scores(acquisition, seed)
    used = set(np.asarray(taken, dtype=np.float64).tolist())
    for place in np.flatnonzero(np.isin(scores, np.asarray(taken, dtype=np.float64))):  # rare: only exact collisions
        value = float(scores[place])
        while value in used or np.count_nonzero(scores == value) > 1:
            value = float(np.nextafter(value, 0.0 if value > 0.5 else 1.0))
            scores[place] = value
        used.add(value)
    return scores
