"""What a table of learning curves shows of each sampler. Pure functions.

What is called accuracy here is whatever the curves are of, from 0 to 1: mean IoU works just as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.reporting.learning_curves import BASELINE, MeanStd, area_under_curve, labels_to_reach


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
