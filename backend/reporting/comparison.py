"""Comparisons for a sceptic: paired by trial, corrected for how many there are, with intervals. Pure functions.

Axis letters: T trials, K stages (one training each).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.reporting.learning_curves import BASELINE, MeanStd, area_under_curve, labels_to_reach

FEWEST = 5
"""Trials that a comparison needs. Of 5, all of one sign, Wilcoxon's two-sided p is 2/2⁵ = 0.06; of 10, 0.002."""
LEVEL = 0.05
DRAWS = 2_000
"""Resamples of the trials for an interval."""

Curves = Mapping[str, Mapping[int, Sequence[float]]]
"""Arm -> trial -> accuracy (K,)."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """An arm against random, over the trials that both have.

    gain: the area under its curve less random's. p: of Wilcoxon's signed-rank test on these. corrected: by Holm, over
    all arms of the table. reached: labels to the accuracy that random has at ``at``; None where the mean curve does not
    come to it. saved: the share of ``at`` labels that need not be given; 0 where it is not reached.
    """

    arm: str
    gain: MeanStd
    p: float
    corrected: float
    reached: float | None
    saved: Interval

    @property
    def verdict(self) -> str:
        """``+`` or ``−`` where the corrected test says so, ``~`` else."""
        if self.corrected >= LEVEL:
            return "~"
        return "+" if self.gain.mean > 0 else "−"


def compared(labels: Sequence[int], curves: Curves, at: int) -> list[Comparison]:
    """Every arm but random against random, in the order of ``curves``; those with too few common trials are left out.

    ``at``: one of ``labels``.
    """
    base = curves.get(BASELINE, {})
    places, gains = {}, {}
    for arm, trials in curves.items():
        common = sorted(base.keys() & trials.keys())
        if arm != BASELINE and len(common) >= FEWEST:
            places[arm] = common
            gains[arm] = _areas(labels, trials, common) - _areas(labels, base, common)
    p = {arm: signed_rank_p(values) for arm, values in gains.items()}
    corrected = holm(p)
    found = []
    for arm, common in places.items():
        ours = np.array([curves[arm][trial] for trial in common])
        randoms = np.array([base[trial] for trial in common])
        reached, saved = labels_saved(labels, ours, randoms, at)
        found.append(Comparison(arm, MeanStd.of(gains[arm]), p[arm], corrected[arm], reached, saved))
    return found


def _areas(labels: Sequence[int], trials: Mapping[int, Sequence[float]], common: Sequence[int]) -> np.ndarray:
    return np.array([area_under_curve(labels, trials[trial]) for trial in common])


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945) that ``differences`` (T,) are symmetric around 0: exact, with
    equal ranks and zeros by permutation. 1 where all are 0."""
    from scipy.stats import wilcoxon  # here: slow to import

    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (1979): the i-th smallest of m times m - i + 1, never less than the one before it, at
    most 1."""
    corrected, least = {}, 0.0
    for place, name in enumerate(sorted(p, key=lambda name: p[name])):
        least = max(least, min(1.0, (len(p) - place) * p[name]))
        corrected[name] = least
    return corrected


def wins(labels: Sequence[int], curves: Curves) -> tuple[list[str], np.ndarray]:
    """The arms, best mean area first, and a matrix: of the trials that two arms have in common, the share in which the
    one of the row has the larger area than the one of the column, a tie counting half; NaN for itself and without a
    common trial."""
    areas = {arm: {t: area_under_curve(labels, curve) for t, curve in of.items()} for arm, of in curves.items()}
    names = sorted(areas, key=lambda arm: (-float(np.mean(list(areas[arm].values()))), arm))
    table = np.full((len(names), len(names)), math.nan)
    for row, ours in enumerate(names):
        for column, theirs in enumerate(names):
            common = sorted(areas[ours].keys() & areas[theirs].keys())
            if row != column and common:
                gains = np.array([areas[ours][trial] - areas[theirs][trial] for trial in common])
                table[row, column] = float(((gains > 0) + 0.5 * (gains == 0)).mean())
    return names, table


def labels_saved(
    labels: Sequence[int], ours: np.ndarray, randoms: np.ndarray, at: int, seed: int = 0
) -> tuple[float | None, Interval]:
    """How many labels an arm needs for the accuracy that random has at ``at``, and the share of ``at`` that it saves.

    ours, randoms (T, K), paired by trial. Both figures are of the mean curves, straight between their stages. The
    interval: percentiles of the same figure over resamples of the trials (Efron 1979).
    """
    draw = np.random.default_rng([seed, 8])
    resampled = draw.integers(0, len(ours), (DRAWS, len(ours)))
    shares = [_saved(labels, ours[some].mean(axis=0), randoms[some].mean(axis=0), at)[1] for some in resampled]
    reached, share = _saved(labels, ours.mean(axis=0), randoms.mean(axis=0), at)
    low, high = np.quantile(shares, (0.025, 0.975))
    return reached, Interval(share, float(low), float(high))


def _saved(labels: Sequence[int], ours: np.ndarray, randoms: np.ndarray, at: int) -> tuple[float | None, float]:
    target = float(randoms[list(labels).index(at)])
    reached = labels_to_reach(labels, ours.tolist(), target)
    return reached, 0.0 if reached is None else max(0.0, 1 - reached / at)


@dataclass(frozen=True)
class Needed:
    """Labels to an accuracy, read off a mean curve, and the 95 % interval of that; None: not within the curve."""

    value: float | None
    low: float | None
    high: float | None


def labels_needed(labels: Sequence[int], ours: np.ndarray, targets: np.ndarray, seed: int = 0) -> Needed:
    """How many labels an arm needs for an accuracy.

    ours (T, K), targets (T,), paired by trial. Of the mean curve, straight between its stages, and the mean target; the
    interval is that of the same figure over resamples of the trials (Efron 1979).
    """
    draw = np.random.default_rng([seed, 9])
    found = []
    for some in draw.integers(0, len(ours), (DRAWS, len(ours))):
        reached = labels_to_reach(labels, ours[some].mean(axis=0).tolist(), float(targets[some].mean()))
        found.append(math.inf if reached is None else reached)
    low, high = np.quantile(found, (0.025, 0.975), method="nearest").tolist()
    value = labels_to_reach(labels, ours.mean(axis=0).tolist(), float(targets.mean()))
    return Needed(value, *(None if math.isinf(end) else float(end) for end in (low, high)))


def paired_interval(differences: np.ndarray) -> Interval:
    """Mean of ``differences`` (T,) and its interval by Student's t."""
    found = MeanStd.of(differences)
    return Interval(found.mean, found.mean - found.margin, found.mean + found.margin)
