"""The figures of learning curves: areas, paired differences to random, labels needed. Pure functions.

What is called accuracy here is whatever the curves are of, from 0 to 1: mean IoU works just as well.

Axis letters: T trials, K stages (one training each).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BASELINE = "random"

# 97.5 % quantiles of Student's t for 1 to 10 degrees of freedom
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


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
        degrees = self.n - 1
        quantile = _T[degrees - 1] if degrees <= len(_T) else 1.96 + 2.5 / degrees
        return quantile * self.std / math.sqrt(self.n)


@dataclass(frozen=True)
class Summary:
    """One sampler over its trials. ``gain``: its area less random's, paired by trial; None without a common trial."""

    sampler: str
    trials: int
    area: MeanStd
    final: MeanStd
    gain: MeanStd | None
    labels_to_random: float | None

    @property
    def verdict(self) -> str:
        """baseline, unknown, behind (mean gain ≤ 0), noise (the gain's 95 % interval holds 0) or ahead."""
        if self.sampler == BASELINE:
            return "baseline"
        if self.gain is None:
            return "unknown"
        if self.gain.mean <= 0:
            return "behind"
        return "ahead" if self.gain.mean > self.gain.margin else "noise"


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


def summaries(labels: Sequence[int], curves: Mapping[str, Mapping[int, Sequence[float]]]) -> list[Summary]:
    """One for each sampler, the greatest mean area first. curves: sampler → trial → accuracy (K,) at ``labels`` (K,).

    The labels to reach random's final accuracy are read off the mean curve.
    """
    areas = {
        name: {trial: area_under_curve(labels, curve) for trial, curve in trials.items()}
        for name, trials in curves.items()
    }
    means = {name: np.mean(list(trials.values()), axis=0) for name, trials in curves.items()}
    rows = []
    for name, trials in curves.items():
        common = sorted(areas.get(BASELINE, {}).keys() & areas[name].keys())
        gains = [areas[name][trial] - areas[BASELINE][trial] for trial in common]
        reached = labels_to_reach(labels, means[name].tolist(), float(means[BASELINE][-1])) if common else None
        rows.append(
            Summary(
                sampler=name,
                trials=len(trials),
                area=MeanStd.of(list(areas[name].values())),
                final=MeanStd.of([curve[-1] for curve in trials.values()]),
                gain=MeanStd.of(gains) if gains else None,
                labels_to_random=reached,
            )
        )
    return sorted(rows, key=lambda row: (-row.area.mean, row.sampler))
