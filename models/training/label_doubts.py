"""Which labels may be wrong, and what is taken for what, by heads that did not learn from these labels.

Northcutt, Jiang & Chuang, Confident Learning (JAIR 2021), "CL" below.

Axis letters: L labels that were left out, C classes that exclude each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from models.training.calibration import NEVER, Calibration, LeftOut


class Doubt(NamedTuple):
    """A label that may be wrong. place: of it among the L; given, suggested: classes; given_probability,
    suggested_probability: of each."""

    place: int
    given: int
    suggested: int
    given_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class Judged:
    """Labels, and what heads that did not learn from them say of them.

    places (L,) int64: which labels of the training they are. probabilities (L, C) float64, calibrated; given (L,)
    int64, the classes of the labels. sure_from: the probability from which on 9 in 10 of these are right
    (`models.training.calibration.Calibration.preannotate_above`), `NEVER` if none is.
    """

    places: np.ndarray
    probabilities: np.ndarray
    given: np.ndarray
    sure_from: float

    @classmethod
    def of(cls, left_out: LeftOut, places: np.ndarray, calibration: Calibration) -> Judged | None:
        """None where classes do not exclude each other. ``places`` (L,): of the labels, in their order;
        ``calibration``: what the same labels say of the probabilities."""
        if not left_out.exclusive:
            return None
        logits = left_out.logits.double() / calibration.temperature
        said, given = torch.softmax(logits, dim=1), left_out.targets.argmax(dim=1)
        return cls(places, said.cpu().numpy(), given.cpu().numpy(), calibration.preannotate_above)

    def doubts(self) -> list[Doubt]:
        """The labels that are likely errors, the most doubtful first.

        A class counts as told of a label where its probability is at least its mean over the labels of that class
        (CL, equation 2), so that a class that is always told hesitantly is not suspected for that. A label is in doubt
        where the most probable class that counts as told is another one (the off-diagonal of CL's confident joint),
        with a probability of at least ``sure_from``: a network that is often wrong, as with few labels, and hard ones,
        would doubt a third of them. Their order is by given − suggested probability (CL's normalized margin).
        """
        count, classes = self.probabilities.shape
        usual = np.full(classes, np.inf)
        for name in np.unique(self.given):
            usual[name] = self.probabilities[self.given == name, name].mean()
        told = np.where(self.probabilities >= usual, self.probabilities, -1.0)
        suggested = told.argmax(axis=1)
        wrong = (told.max(axis=1) >= self.sure_from) & (self.sure_from < NEVER) & (suggested != self.given)
        own = self.probabilities[np.arange(count), self.given]
        others = self.probabilities[np.arange(count), suggested]
        order = np.flatnonzero(wrong)[np.argsort((own - others)[wrong], kind="stable")]
        return [
            Doubt(int(self.places[i]), int(self.given[i]), int(suggested[i]), float(own[i]), float(others[i]))
            for i in order
        ]

    def confusion(self) -> np.ndarray:
        """(C, C) int64: how many labels of the class of the row are told as the class of the column."""
        classes = self.probabilities.shape[1]
        cells = self.given * classes + self.probabilities.argmax(axis=1)
        return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)

    def reliability(self, bins: int = 10) -> list[tuple[float, float, int]]:
        """(mean confidence, share that is right, how many) in bins of equal width of the confidence, lowest first,
        without empty ones: the reliability diagram (Guo et al. 2017)."""
        confidence = self.probabilities.max(axis=1)
        right = self.probabilities.argmax(axis=1) == self.given
        place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
        return [
            (float(confidence[place == one].mean()), float(right[place == one].mean()), int((place == one).sum()))
            for one in np.unique(place)
        ]
