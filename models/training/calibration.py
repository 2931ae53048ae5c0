"""Whether probabilities can be believed, by labels that were left out: the temperature that makes them so, how far off
they still are, and from which one on they are right often enough.

Axis letters: L labels that were left out, C classes, A answers: of each label or, where a label has any number of
classes, of each class of each label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.intervals import wilson_interval

RIGHT_ENOUGH = 0.9
"""The share of the ticked answers that has to be right."""
DOUBT = 1.2816
"""Standard errors that the share may be off by, and is enough all the same: 9 times in 10."""
NEVER = 1.0
"""The threshold under which nothing is ticked."""
BINS = 10

EXPECTED = 0.2
"""How far the logarithm of a temperature is from 0, before any label was asked."""
_FARTHEST = 4.0  # the same, of any
_HALVINGS = 40


@dataclass(frozen=True)
class LeftOut:
    """What heads say of labels that they were not trained on.

    logits (L, C) float32; targets (L, C) float, rows of one 1 where classes are exclusive. At least one label.
    """

    logits: Tensor
    targets: Tensor
    exclusive: bool


@dataclass(frozen=True)
class Calibration:
    """What labels that were left out say of a head's probabilities.

    temperature: its logits are to be divided by it. accuracy: the share of answers that are right. error: the expected
    calibration error of the probabilities then. preannotate_above: the smallest probability from which on answers are
    right often enough, or `NEVER`. labels: how many of them were asked.
    """

    temperature: float = 1.0
    accuracy: float = math.nan
    error: float = math.nan
    preannotate_above: float = NEVER
    labels: int = 0

    @classmethod
    def of(cls, left_out: LeftOut | None) -> Calibration:
        """None: nothing is known, so that nothing is right often enough."""
        if left_out is None:
            return cls()
        temperature = fitted_temperature(left_out)
        logits = left_out.logits / temperature
        truth = left_out.targets > 0
        if left_out.exclusive:
            top, said = logits.softmax(dim=1).max(dim=1)
            right = truth.gather(1, said[:, None])[:, 0]
            ticked, ticked_right = top, right
        else:
            ticked, ticked_right = logits.sigmoid().flatten(), truth.flatten()
            top, right = torch.maximum(ticked, 1 - ticked), (ticked >= 0.5) == ticked_right
        confidence, is_right = top.double().cpu().numpy(), right.cpu().numpy()
        return cls(
            temperature,
            float(is_right.mean()),
            expected_calibration_error(confidence, is_right),
            tick_from(ticked.double().cpu().numpy(), ticked_right.cpu().numpy()),
            len(truth),
        )

    def figures(self) -> dict[str, float]:
        """The metrics to log of it: those that are known."""
        found = {"temperature": self.temperature, "preannotate_above": self.preannotate_above}
        return found | (
            {"cv_accuracy": self.accuracy, "ece": self.error, "cv_labels": self.labels} if self.labels else {}
        )


def fitted_temperature(left_out: LeftOut) -> float:
    """The T under which softmax(z / T), or σ(z / T) of each class, tells the labels best, by their cross entropy.

    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (ICML 2017), section 4.2. Under a normal
    prior of log T with mean 0 and deviation `EXPECTED`: a head whose penalty was chosen by the same labels is about
    calibrated, so that a few labels are not to say otherwise, and labels that are all told right are not to make it
    certain.
    """
    logits, targets = left_out.logits.double(), left_out.targets.double()
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2  # of log 1 / T
        scaled = math.exp(middle) * logits
        said = scaled.softmax(dim=1) if left_out.exclusive else scaled.sigmoid()
        slope = float(((said - targets) * scaled).sum()) + middle / EXPECTED**2
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """How far off answers are from how sure they are, on average: Σ_b n_b / A · |accuracy_b - confidence_b|
    over `BINS` bins of equal width (Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al. 2017, equation 3).

    confidence (A,) in [0, 1], right (A,) bool. With few answers it is above 0 for probabilities that are right, too.
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def tick_from(confidence: np.ndarray, right: np.ndarray) -> float:
    """The smallest confidence from which on answers are right in `RIGHT_ENOUGH` of all cases; `NEVER` if none is.

    confidence (A,), right (A,) bool. The share counts as what Wilson's interval of `DOUBT` standard errors reaches down
    to, so that a few right answers are not enough: it takes 15, all of them right.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    asked = np.arange(1, len(order) + 1)
    least, _ = wilson_interval(np.cumsum(right[order]) / asked, asked, DOUBT)
    enough = least >= RIGHT_ENOUGH - 1e-9
    enough[:-1] &= sure[:-1] > sure[1:]  # of equal ones, all are ticked or none is
    places = np.flatnonzero(enough)
    return float(sure[places[-1]]) if len(places) else NEVER
