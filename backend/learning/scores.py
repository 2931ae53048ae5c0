"""From acquisition to the score that Label Studio sorts by: the only place that knows Label Studio's direction.

Label Studio serves the *lowest* prediction score first. A sampler's acquisition ``a`` is any finite real, higher =
label sooner, on the scale of log-odds; the published score is ``1 / (1 + exp(a))``. That makes VAAL's the
discriminator's output ``D(mu)`` (a = -logit D) and EPMCM's ``1 / (1 + bound)`` (a = log bound): the softmax
confidence of the predicted class once augmentation is averaged in, and plain softmax confidence at zero covariance.
"""

from __future__ import annotations

import numpy as np

from backend.errors import BackendError

LOWEST = 1e-300  # far from the denormals that some databases and JSON readers round to zero
_ONE_BITS = int(np.float64(1.0).view(np.int64))


def to_published(acquisition: np.ndarray, seed: int) -> np.ndarray:
    """Scores in (0, 1], (N,) float64, all different, strictly falling as ``acquisition`` (N,) rises.

    Equal acquisitions are put in an order drawn from ``seed``, so that ties do not favor the oldest tasks. Where
    the formula underflows or rounds two different acquisitions to one number, neighbors move apart by one unit in the
    last place: the bit patterns of positive floats, read as integers, are in the order of the floats.

    Raises:
        BackendError: an acquisition is not finite.
    """
    values = np.asarray(acquisition, dtype=np.float64)
    if not np.isfinite(values).all():
        raise BackendError(f"{int((~np.isfinite(values)).sum())} of {values.size} acquisition values are not finite")
    if values.size == 0:
        return np.empty(0, dtype=np.float64)
    tie_break = np.random.default_rng(seed).permutation(values.size)
    order = np.lexsort((tie_break, -values))  # soonest first, so ascending in published score
    raw = np.clip(np.exp(-np.logaddexp(0.0, values[order])), LOWEST, 1.0)
    steps = np.arange(values.size, dtype=np.int64)
    bits = np.maximum.accumulate(raw.view(np.int64) - steps) + steps  # at least one unit above the one before
    bits = np.minimum(bits, _ONE_BITS - steps[::-1])  # and none above 1
    published = np.empty_like(values)
    published[order] = bits.view(np.float64)
    return published


def join_published(acquisition: np.ndarray, taken: np.ndarray, seed: int) -> np.ndarray:
    """Scores (N,) for tasks that join a published order: the same formula, moved off scores that are ``taken`` (M,)."""
    published = to_published(acquisition, seed)
    used = set(np.asarray(taken, dtype=np.float64).tolist())
    for place in np.flatnonzero(np.isin(published, np.asarray(taken, dtype=np.float64))):  # rare: only exact collisions
        value = float(published[place])
        while value in used or np.count_nonzero(published == value) > 1:
            value = float(np.nextafter(value, 0.0 if value > 0.5 else 1.0))
            published[place] = value
        used.add(value)
    return published
