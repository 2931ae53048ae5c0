"""Intervals of shares that were counted. Needs no torch: the web process shows some of them."""

from __future__ import annotations

import math

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
    tail = (1 - level) / 2
    low = 0.0 if right == 0 else _share_at(1 - tail, right - 1, count)
    high = 1.0 if right == count else _share_at(tail, right, count)
    return low, high


def _share_at(probability: float, right: int, count: int) -> float:
    """The share under which at most `right` successes in `count` cases have this probability."""
    cases = np.arange(right + 1)
    choose = np.concatenate([[0.0], np.log((count - cases[1:] + 1) / cases[1:]).cumsum()])
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        at_most = np.exp(choose + cases * math.log(share) + (count - cases) * math.log1p(-share)).sum()
        low, high = (share, high) if at_most > probability else (low, share)
    return (low + high) / 2
