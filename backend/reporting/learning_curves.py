"""The figures of learning curves: areas under them, labels needed, means with their intervals. Pure functions.

What is called accuracy here is whatever the curves are of, from 0 to 1: mean IoU works just as well.

Axis letters: T trials, K stages (one training each).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.intervals import student_deviations

BASELINE = "random"
"""The sampler that all others are compared with."""


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation (n − 1; NaN for a single value) of ``n`` values."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> MeanStd:
        values = np.asarray(values, dtype=np.float64)
        return cls(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan, len(values))

    @property
    def margin(self) -> float:
        """Half of the 95 % interval of the mean, by Student's t; NaN for a single value."""
        if self.n < 2:
            return math.nan
        return student_deviations(self.n - 1) * self.std / math.sqrt(self.n)


def area_under_curve(labels: Sequence[float], accuracy: Sequence[float]) -> float:
    """Mean accuracy over the labels: the trapezoids under the curve ÷ (last − first); one stage's accuracy itself."""
    if len(labels) == 1:
        return float(accuracy[0])
    return float(np.trapezoid(accuracy, labels) / (labels[-1] - labels[0]))


def labels_to_reach(labels: Sequence[float], accuracy: Sequence[float], target: float) -> float | None:
    """Where the curve, straight between its stages, first comes to ``target``; None where it never does."""
    if accuracy[0] >= target:
        return float(labels[0])
    for place in range(1, len(labels)):
        low, high = accuracy[place - 1], accuracy[place]
        if high >= target:
            share = (target - low) / (high - low)
            return float(labels[place - 1] + share * (labels[place] - labels[place - 1]))
    return None
