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


def exact_interval(right: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Lower and upper end of the interval of a share of which `right` of `count` > 0 independent cases were seen
    (Clopper & Pearson, 1934, Biometrika 26, pages 404 to 413): it covers the share in `level` of all cases or more,
    however few they are.
    """
    from scipy.special import betaincinv  # here: the web process does without

    tail = (1 - level) / 2
    low = 0.0 if right == 0 else float(betaincinv(right, count - right + 1, tail))
    high = 1.0 if right == count else float(betaincinv(right + 1, count - right, 1 - tail))
    return low, high


def student_deviations(freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to either side, by Student's t with `freedom` > 0 degrees."""
    from scipy.special import stdtrit  # here: the web process does without

    return float(stdtrit(freedom, 0.975))
