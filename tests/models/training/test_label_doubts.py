"""Labels that may be wrong (Northcutt, Jiang & Chuang, JAIR 2021), by hand and with errors that were put there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.training.calibration import NEVER, Calibration, LeftOut
from models.training.label_doubts import Doubt, Judged


def judged(probabilities: list[list[float]], given: list[int], sure_from: float = 0.5) -> Judged:
    return Judged(10 + np.arange(len(given)), np.array(probabilities), np.array(given), sure_from)


def test_only_predictions_that_are_mostly_right_doubt_a_label() -> None:
    said = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6], [0.5, 0.5]]
    assert [len(judged(said, [0, 0, 0, 1, 1], above).doubts()) for above in (0.6, 0.61, NEVER)] == [1, 0, 0]


def test_by_hand() -> None:
    """Class 0 is usually told at 0.7, class 1 at 0.55. The third label is told 0.6 of class 1, and is in doubt."""
    found = judged([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6], [0.5, 0.5]], [0, 0, 0, 1, 1])
    assert found.doubts() == [Doubt(12, 0, 1, 0.4, 0.6)]
    assert found.confusion().tolist() == [[2, 1], [1, 1]]  # of equal ones the first
    assert found.reliability() == [
        (pytest.approx(0.5), 0.0, 1),
        (pytest.approx(0.6), 0.5, 2),
        (pytest.approx(0.8), 1.0, 1),
        (pytest.approx(0.9), 1.0, 1),
    ]


def test_a_class_that_is_always_told_hesitantly_is_not_suspected_for_that() -> None:
    """The labels of class 1 are told at 0.45, less than class 0's 0.55, but that is as much as it ever is."""
    hesitant = judged([[0.9, 0.1]] * 4 + [[0.55, 0.45]] * 4, [0] * 4 + [1] * 4)
    assert hesitant.doubts() == []


def test_the_most_doubtful_is_the_first() -> None:
    found = judged([[0.8, 0.2]] * 5 + [[0.2, 0.8]] * 5 + [[0.15, 0.85], [0.01, 0.99]], [0] * 5 + [1] * 5 + [0, 0])
    assert [one.place for one in found.doubts()] == [21, 20]


def test_a_class_without_labels_is_never_suggested() -> None:
    assert judged([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]], [0, 0, 1]).doubts() == []


def test_errors_that_were_put_there_are_found() -> None:
    """60 labels, 6 of them changed: what is in doubt are those, nearly alone."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    given = truth.copy()
    wrong = rng.choice(60, 6, replace=False)
    given[wrong] = (given[wrong] + 1) % 3
    logits = torch.from_numpy(6.0 * np.eye(3)[truth] + rng.normal(size=(60, 3)))
    targets = functional.one_hot(torch.from_numpy(given), 3).float()
    left_out = LeftOut(logits.float(), targets, True)
    found = Judged.of(left_out, np.arange(60), Calibration(preannotate_above=0.5))
    assert found is not None
    places = {one.place for one in found.doubts()}
    assert set(wrong.tolist()) <= places and len(places) <= 8
    assert all(one.suggested == truth[one.place] for one in found.doubts() if one.place in wrong)


def test_of_several_choices_nothing_is_said() -> None:
    assert Judged.of(LeftOut(torch.zeros(3, 2), torch.zeros(3, 2), False), np.arange(3), Calibration()) is None
