"""How good the predictions of a version are, as far as its cycle measured it, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.intervals import wilson_interval

CONFIDENCE = 1.959964
"""Standard errors that a normal distribution exceeds in 5 % of all cases, on either side."""

ACCURACY, MEAN_IOU = "accuracy", "mean IoU"


@dataclass(frozen=True)
class Accuracy:
    """How good answers are on labels that were left out of the training, in [0, 1]: of one or several classes an image
    the share of right ones, of masks the mean IoU (``measure``).

    ``n``: how many labeled images were asked; None where the version does not say. ``low`` and ``high``: the ends of
    the 95 % interval of a share of so many; None where that is not known, and of a mean IoU, which is no share.

    Of several choices per image, an answer is a choice, and n still counts images: the choices of an image are not
    independent of each other, and the interval is as wide as if they always agreed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    measure: str = ACCURACY

    def as_json(self) -> dict[str, float | int | str | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "measure": self.measure}


def accuracy_of(metrics: Mapping[str, Any]) -> Accuracy | None:
    """The accuracy in the metrics of a version or a cycle; None if none was measured, as of networks that are trained
    from scratch."""
    count = metrics.get("train_cv_labels")
    n = int(count) if isinstance(count, int | float) and 1 <= count < math.inf else None
    if (mean_iou := _share(metrics.get("train_mean_iou"))) is not None:
        return Accuracy(mean_iou, n=n, measure=MEAN_IOU)
    if (value := _share(metrics.get("train_cv_accuracy"))) is None:
        return None
    if n is None:
        return Accuracy(value)
    low, high = wilson_interval(np.array(value), np.array(n), CONFIDENCE)
    return Accuracy(value, float(low), float(high), n)


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %"


def points(difference: float, digits: int = 1) -> str:
    """A difference of shares as people read it, in points."""
    return f"{100 * difference:+.{digits}f}".replace("-", "−")
