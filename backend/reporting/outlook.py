"""What more labels would bring: the learning curve goes on as an inverse power law, with an interval, and where that is
less than the measurement can show, labeling may stop.

The curve is that of Figueroa et al. 2012 (BMC Medical Informatics and Decision Making 12:8), accuracy = a - b / n ** c
for n labels, fitted by least squares, weighted by how many labels each accuracy was measured on. Intervals are
from fits to redrawn accuracies. Stopping is advised as Optuna's terminator does: when even the upper end of what is
expected is below the error of the measurement.

Axis letters: P points of the curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.reporting.accuracy import ACCURACY, accuracy_of
from backend.reporting.control import control_of
from backend.state import Cycle

CURVE_CYCLES = 100
"""The last cycles, which a learning curve is of."""
NEXT = 50
"""Labels that the expectation is for."""
FEWEST_POINTS = 4
LEAST_GROWTH = 2.0
"""How many times as many labels the last point has as the first: less of a curve has no shape."""
FEWEST_ASKED, ENOUGH_ASKED = 20, 50
"""Random images that nothing learned from: for a point of their curve, and for its last one. Of 50 a share is known to
a standard error of 7 points at most; with fewer, "below the error of the measurement" would say stop too soon."""
CONTROL, LEFT_OUT = "control", "left-out labels"
"""What a curve was measured on."""
DRAWS = 1_000
FARTHEST = 100.0
"""A target that is met only with so many times as many labels as there are is not in sight."""
_POWERS = np.geomspace(0.05, 2.0, 60)  # of c


@dataclass(frozen=True)
class CurvePoint:
    """An accuracy that was measured on ``asked`` labels, of a network that learned from ``labels``."""

    labels: int
    accuracy: float
    asked: int


def point_of(metrics: Mapping[str, Any], labels: int) -> CurvePoint | None:
    """The point of a cycle with these metrics; None where it measured none."""
    accuracy = accuracy_of(metrics)
    if accuracy is None or accuracy.measure != ACCURACY or not accuracy.n or labels < 1:
        return None
    return CurvePoint(labels, accuracy.value, accuracy.n)


def control_point_of(metrics: Mapping[str, Any], labels: int) -> CurvePoint | None:
    """The same by the labels that the control arm keeps out of all training; None where they are too few to count."""
    control = control_of(metrics)
    if control is None or control.value is None or control.measure != ACCURACY:
        return None
    return None if control.n < FEWEST_ASKED or labels < 1 else CurvePoint(labels, control.value, control.n)


def prospects(
    cycles: Sequence[Cycle], metrics: Mapping[str, Any], labels: int, target: float, label_seconds: float | None
) -> dict[str, Any] | None:
    """:func:`outlook` by the curve that a cycle with these ``metrics``, which learned from so many ``labels``, is the
    last point of; ``cycles``: those before it, newest first. None where nothing tells.

    By random images that nothing learned from, where enough of them are labeled to show that the curve rises, and else
    by labels that were left out of the training, which the sampler chose; ``by`` says which.
    """
    every = []
    for by, find in ((CONTROL, control_point_of), (LEFT_OUT, point_of)):
        now = find(metrics, labels)
        if now is None or (by == CONTROL and now.asked < ENOUGH_ASKED):
            continue
        points = [*(point for point in points_of(cycles, find) if point.labels < now.labels), now]
        if (found := outlook(points, target, label_seconds)) is not None:
            every.append(found | {"by": by})
    return next((one for one in every if one["rises"]), every[0] if every else None)


def points_of(
    cycles: Sequence[Cycle], find: Callable[[Mapping[str, Any], int], CurvePoint | None] = point_of
) -> list[CurvePoint]:
    """The points of the cycles, newest first, that measured a share of right answers: fewest labels first, and of the
    same number of labels the last. ``find``: :func:`point_of` or :func:`control_point_of`."""
    found: dict[int, CurvePoint] = {}
    for cycle in cycles:
        point = find(cycle.metrics, cycle.labels) if cycle.status == "done" else None
        if point is not None:
            found.setdefault(point.labels, point)
    return sorted(found.values(), key=lambda point: point.labels)


def outlook(points: Sequence[CurvePoint], target: float, label_seconds: float | None) -> dict[str, Any] | None:
    """What stands in the metrics of a version, as JSON; None where the points are too few.

    Args:
        points: (P,), fewest labels first.
        target: the accuracy that is wanted; 0: none.
        label_seconds: how long a label takes; None: not known.

    Returns:
        ``labels``, the last point's; ``next``; ``gain``, ``low`` and ``high``: what the next ``next`` labels add to the
        accuracy, with the 95 % interval; ``twice``: what as many labels again add; ``error``: the standard error of the
        last accuracy; ``rises``: whether the fitted curve rose by more than that; ``seconds`` for the next labels;
        ``ahead``: (labels, accuracy, low, high) on the way to twice as many labels;
        ``target``, and ``target_labels`` with ``target_low`` and ``target_high``: None where it is not in sight.
    """
    if len(points) < FEWEST_POINTS or points[-1].labels < LEAST_GROWTH * points[0].labels:
        return None
    labels, accuracy, asked = (np.array(of, dtype=np.float64) for of in zip(*map(_values, points), strict=True))
    curve = fitted(labels, accuracy[None, :], asked)[0]
    fits = fitted(labels, _redrawn(law(labels, *curve), asked), asked)
    now = float(labels[-1])
    gains = [_gain(fit, now, NEXT) for fit in fits]
    low, high = _ends(np.array(gains))
    error = measurement_error(points[-1])
    found = {
        "labels": int(now),
        "next": NEXT,
        "gain": _gain(curve, now, NEXT),
        "low": low,
        "high": high,
        "twice": _gain(curve, now, now),
        "ahead": [[count, float(law(count, *curve)), *_ends(law(count, *fits.T))] for count in _ahead(now)],
        "error": error,
        "rises": _gain(curve, float(labels[0]), now - float(labels[0])) > error,
        "seconds": None if label_seconds is None else NEXT * label_seconds,
        "target": target,
    }
    if target:
        reached = [labels_to(fit, target, now) for fit in fits]
        ends = np.quantile(reached, (0.025, 0.975), method="nearest").tolist()
        values = (labels_to(curve, target, now), *ends)
        found |= dict(zip(("target_labels", "target_low", "target_high"), map(_finite, values), strict=True))
    return found


def fitted(labels: np.ndarray, accuracy: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(a, b, c) of the laws that are nearest to ``accuracy`` (D, P) at ``labels`` (P,), (D, 3), with 0 <= b and a <= 1;
    each point is as sure as a share of ``asked`` (P,) cases.

    For a given c the law is linear in a and b, so these are known, and c is the best of :data:`_POWERS`.
    """
    smooth = (accuracy * asked + 1) / (asked + 2)  # a share of 0 or 1 has an error, too
    weight = asked / (smooth * (1 - smooth))  # (D, P)
    weight /= weight.sum(axis=1, keepdims=True)
    below = labels[None, :] ** -_POWERS[:, None]  # (G, P): accuracy = a - b * below
    mean_x, mean_y = weight @ below.T, (weight * accuracy).sum(axis=1, keepdims=True)  # (D, G), (D, 1)
    square = weight @ (below**2).T
    product = (weight * accuracy) @ below.T
    free = (mean_x * mean_y - product) / np.maximum(square - mean_x**2, 1e-300)
    b = np.maximum(free, 0.0)
    a = mean_y + b * mean_x
    capped = np.maximum((mean_x - product) / square, 0.0)  # b where a is 1
    a, b = np.where(a > 1, 1.0, a), np.where(a > 1, capped, b)
    off = (weight[:, None, :] * (a[..., None] - b[..., None] * below - accuracy[:, None, :]) ** 2).sum(axis=2)
    best = off.argmin(axis=1)[:, None]
    parts = (a, b, np.broadcast_to(_POWERS, a.shape))
    return np.concatenate([np.take_along_axis(part, best, axis=1) for part in parts], axis=1)


def law(labels: np.ndarray | float, a: float, b: float, c: float) -> Any:
    """The accuracy with so many labels."""
    return a - b * np.power(labels, -c)


def labels_to(curve: np.ndarray, target: float, now: float) -> float:
    """With how many labels the curve comes to ``target``, at least ``now`` of them; infinite where that is out of
    sight."""
    a, b, c = curve.tolist()
    if float(law(now, a, b, c)) >= target:
        return now
    if a <= target or b <= 0:
        return math.inf
    logarithm = math.log(b / (a - target)) / c
    return math.exp(logarithm) if logarithm <= math.log(FARTHEST * now) else math.inf


def measurement_error(point: CurvePoint) -> float:
    """The standard error of a measured share, as if one more case had been right and one wrong."""
    share = (point.accuracy * point.asked + 1) / (point.asked + 2)
    return math.sqrt(share * (1 - share) / point.asked)


def _values(point: CurvePoint) -> tuple[float, float, float]:
    return point.labels, point.accuracy, point.asked


def _gain(curve: np.ndarray, labels: float, more: float) -> float:
    return float(law(labels + more, *curve) - law(labels, *curve))


def _redrawn(expected: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Accuracies (DRAWS, P) that could have been measured as well: shares of so many cases."""
    draw = np.random.default_rng(len(expected))
    counts = asked.astype(np.int64)
    return draw.binomial(counts, expected.clip(0, 1), (DRAWS, len(expected))) / counts


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The ends of the 95 % interval."""
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return low, high


def _ahead(now: float) -> list[int]:
    return [round(now * share) for share in (1.0, 1.25, 1.5, 1.75, 2.0)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
