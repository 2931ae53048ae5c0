"""Temperature, calibration error and the threshold of ticking, by values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.intervals import wilson_interval
from models.training.calibration import (
    DOUBT,
    NEVER,
    Calibration,
    LeftOut,
    expected_calibration_error,
    fitted_temperature,
    tick_from,
)


def drawn(count: int, factor: float, exclusive: bool) -> LeftOut:
    """Labels drawn from the probabilities of logits, and these logits times a factor."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(count, 4, generator=generator)
    if exclusive:
        classes = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
        targets = functional.one_hot(classes, 4).float()
    else:
        targets = torch.bernoulli(logits.sigmoid(), generator=generator)
    return LeftOut(factor * logits, targets, exclusive)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_of_the_logits(factor: float, exclusive: bool) -> None:
    assert fitted_temperature(drawn(10_000, factor, exclusive)) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("labels", [10, 10_000])
def test_the_temperature_of_two_classes_is_the_lowest_of_all(labels: int) -> None:
    """Four of five labels are told right, all by logits 3 and 0. Cross entropy and prior are written out for a list of
    temperatures. Without the prior it would be that with σ(3 / T) = 4/5, which many labels come close to.
    """
    right = labels * 4 // 5
    targets = torch.tensor([[1.0, 0.0]] * right + [[0.0, 1.0]] * (labels - right))
    found = fitted_temperature(LeftOut(torch.tensor([[3.0, 0.0]] * labels), targets, True))
    listed = np.geomspace(0.3, 5, 4000)
    probability = 1 / (1 + np.exp(-3 / listed))
    loss = -right * np.log(probability) - (labels - right) * np.log(1 - probability) + np.log(listed) ** 2 / (2 * 0.04)
    assert found == pytest.approx(listed[loss.argmin()], rel=2e-3)
    without = 3 / math.log(4)
    assert (found > 0.98 * without) == (labels > 10) and 1 < found < without


def test_labels_that_are_all_told_right_are_not_told_with_certainty() -> None:
    told = LeftOut(torch.tensor([[3.0, 0.0]] * 20), torch.tensor([[1.0, 0.0]] * 20), True)
    temperature = fitted_temperature(told)
    assert 0.7 < temperature < 1


def test_the_calibration_error_by_hand() -> None:
    """Two answers in one bin, told at 0.92 and 0.98, one of them right: |0.5 - 0.95| of half of the answers. One at 0.6
    that is right, one at 0.35 that is wrong, a quarter each: 0.4 / 4 and 0.35 / 4."""
    confidence = np.array([0.92, 0.98, 0.6, 0.35])
    right = np.array([True, False, True, False])
    assert expected_calibration_error(confidence, right) == pytest.approx(0.45 / 2 + 0.4 / 4 + 0.35 / 4)
    assert expected_calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0


def test_the_threshold_is_the_lowest_from_which_on_nine_in_ten_are_right() -> None:
    """40 answers: the 30 surest are right, of the next every other one. Wilson's bound, worked out below from its
    definition, falls under 0.9 with the second wrong one."""
    confidence = np.linspace(0.99, 0.6, 40)
    right = np.concatenate([np.ones(30, dtype=bool), np.arange(10) % 2 == 1])
    assert share_bound(31, 32) > 0.9 > share_bound(31, 33)
    assert tick_from(confidence, right) == confidence[31]


def test_wilsons_bound_solves_its_equation() -> None:
    count = np.array([9, 32])
    bound, _ = wilson_interval(np.array([5, 31]) / count, count, DOUBT)
    np.testing.assert_allclose(bound, [share_bound(5, 9), share_bound(31, 32)], atol=1e-9)


def share_bound(right: int, count: int) -> float:
    """The lower p with (right / count - p)² = z² p (1 - p) / count, by halving; 9 of 10 normal draws are below z."""
    share, low, high = right / count, 0.0, right / count
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if (share - p) ** 2 > 1.2816**2 * p * (1 - p) / count else (low, p)
    return low


def test_few_right_answers_are_not_enough() -> None:
    sure = np.linspace(0.99, 0.9, 15)
    assert tick_from(sure[:14], np.ones(14, dtype=bool)) == NEVER
    assert tick_from(sure, np.ones(15, dtype=bool)) == sure[-1]
    assert tick_from(sure, np.zeros(15, dtype=bool)) == NEVER


def test_of_equally_sure_answers_all_are_ticked_or_none() -> None:
    confidence = np.repeat([0.9, 0.8], [16, 20])
    right = np.concatenate([np.ones(26, dtype=bool), np.zeros(10, dtype=bool)])  # 0.8: the first ten are right
    assert tick_from(confidence, right) == 0.9


def test_what_is_not_known_is_not_among_the_figures() -> None:
    assert Calibration.of(None).figures() == {"temperature": 1.0, "preannotate_above": NEVER}
    known = Calibration.of(drawn(200, 3.0, True)).figures()
    assert set(known) == {"temperature", "preannotate_above", "cv_accuracy", "ece", "cv_labels"}
    assert known["cv_labels"] == 200 and 0 < known["cv_accuracy"] < 1


def test_several_choices_are_ticked_by_the_probability_of_each_class() -> None:
    """Classes at logits ±4 that are told right and at ±1/2 that are drawn by chance: what is ticked is the former, and
    the accuracy counts answers of no as well."""
    generator = torch.Generator().manual_seed(0)
    sure = torch.bernoulli(torch.full((100, 2), 0.5), generator=generator)
    unsure = torch.bernoulli(torch.full((100, 2), 0.5), generator=generator)
    signs = torch.bernoulli(torch.full((100, 2), 0.5), generator=generator)
    told = LeftOut(torch.cat([8 * sure - 4, signs - 0.5], dim=1), torch.cat([sure, unsure], dim=1), False)
    found = Calibration.of(told)
    low, high = ((torch.tensor([0.5, 4.0]) / found.temperature).sigmoid()).tolist()
    assert low < found.preannotate_above <= high + 1e-6
    assert found.accuracy == pytest.approx(0.75, abs=0.06)
