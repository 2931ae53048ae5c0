"""What a cycle keeps of the labels that its training left out in turn: which may be wrong, what is taken for what, and
how far confidences can be believed. Read by :mod:`backend.reporting.judged`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backend.learning.learner import Learner
from models.data import CycleData
from models.training.calibration import NEVER

DOUBTS_KEPT = 30
CONFUSION_CLASSES = 20
"""Of more classes, no table of what is taken for what is kept: nobody reads it."""


def judged_figures(learner: Learner, tasks: Sequence[int], data: CycleData) -> dict[str, Any]:
    """For the metrics of the cycle, as JSON; nothing where no label was left out. ``tasks`` (L,): those that the
    ``data`` is of, on which the learner was trained."""
    judged = learner.net.judged
    if judged is None:
        return {}
    real = np.asarray(tasks) if data.synthetic is None else np.asarray(tasks)[~data.synthetic]
    doubts, names = judged.doubts(), learner.classes
    found: dict[str, Any] = {
        "judged": len(judged.given),
        "doubts": len(doubts),
        "sure": judged.sure_from < NEVER,
        "doubted": [
            [int(real[one.place]), names[one.given], names[one.suggested], *_rounded(*one[3:])]
            for one in doubts[:DOUBTS_KEPT]
        ],
        "reliability": [[*_rounded(said, right), count] for said, right, count in judged.reliability()],
    }
    if len(names) <= CONFUSION_CLASSES:
        found["confusion"] = judged.confusion().tolist()
    return {"judged": found}


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]
