"""Intervals of shares that were counted. Needs no torch: the web process shows some of them."""

from __future__ import annotations

import numpy as np


def wilson_interval(share: np.ndarray, count: np.ndarray, deviations: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends (N,) of the intervals of `share` (N,), each seen in `count` (N,) > 0 cases (Wilson, 1927,
    Journal of the American Statistical Association 22, pages 209 to 212).

    deviations: how many standard errors wide to either side. The ends stay within [0, 1], also where all cases are
    alike.
    """
    square = deviations**2 / count
    middle, half = share + square / 2, np.sqrt(square * (share * (1 - share) + square / 4))
    return np.maximum(0.0, (middle - half) / (1 + square)), np.minimum(1.0, (middle + half) / (1 + square))
