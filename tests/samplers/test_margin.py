"""The margin of the two largest probabilities against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from samplers.entropy import predictive_entropy
from samplers.least_confidence import log_odds_of_error
from samplers.margin import log_odds_of_no_margin

TINY = torch.finfo(torch.float64).tiny


def probabilities(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_by_hand() -> None:
    logits = probabilities([0.6, 0.3, 0.1], [0.1, 0.75, 0.15], [0.2, 0.2, 0.6])
    expected = [math.log(0.7 / 0.3), math.log(0.4 / 0.6), math.log(0.6 / 0.4)]
    assert log_odds_of_no_margin(logits).tolist() == pytest.approx(expected, abs=1e-12)


def test_it_is_the_margin_of_probabilities_not_of_their_logarithms() -> None:
    # p_1 - p_2 = 0.2 and 0.15, yet p_1 / p_2 = 1.67 and 1.75: the two scales disagree about which is closer.
    logits = probabilities([0.5, 0.3, 0.2, 0.0, 0.0], [0.35, 0.2, 0.15, 0.15, 0.15])
    first, second = log_odds_of_no_margin(logits)
    assert second > first
    assert logits[1, 0] - logits[1, 1] > logits[0, 0] - logits[0, 1]


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
def test_the_published_score_is_the_margin(num_classes: int) -> None:
    logits = 5 * torch.randn(200, num_classes, generator=torch.Generator().manual_seed(0))
    best = logits.double().softmax(1).topk(2).values
    published = 1.0 / (1.0 + log_odds_of_no_margin(logits).exp())
    torch.testing.assert_close(published, best[:, 0] - best[:, 1], rtol=1e-9, atol=1e-14)


def test_no_margin_at_all_is_the_soonest_and_finite() -> None:
    values = log_odds_of_no_margin(torch.tensor([[2.0, 2.0, -1.0], [0.0, 0.0, 0.0], [2.0, 1.9999, -1.0]]))
    assert values[:2].tolist() == pytest.approx([-math.log(TINY)] * 2)
    assert values[2] < values[0]


def test_saturated_and_nearly_equal_logits_still_differ() -> None:
    top = torch.arange(20.0, 2000.0)  # in float32 the margin is 1.0 for all of them
    values = log_odds_of_no_margin(torch.stack([top, torch.zeros_like(top), torch.zeros_like(top)], dim=1))
    assert (values.diff() < 0).all() and values.isfinite().all()
    gaps = torch.tensor([0.0, 1e-30, 1e-20, 1e-10])  # in float32, probabilities would be equal for all of them
    values = log_odds_of_no_margin(torch.stack([torch.zeros(4), -gaps], dim=1))
    assert (values.diff() < 0).all() and values.isfinite().all()


def test_a_single_class_is_never_in_doubt_and_nan_stays() -> None:
    values = log_odds_of_no_margin(torch.tensor([[3.0], [-50.0], [torch.nan]]))
    assert values[:2].tolist() == [0.0, 0.0]
    assert values[2].isnan()
    assert log_odds_of_no_margin(torch.tensor([[1.0, torch.nan, 0.0]])).isnan().all()


def test_with_two_classes_all_three_criteria_give_one_order() -> None:
    # Each is a falling function of |z_1 - z_2| then (Settles 2009, section 3.1). Differences that float32 tells apart.
    gaps = torch.linspace(0.05, 12.0, 60)[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    logits = torch.stack([torch.zeros(60), gaps * (-1.0) ** torch.arange(60)], dim=1)
    order = gaps.argsort().tolist()
    for criterion in (log_odds_of_error, log_odds_of_no_margin, predictive_entropy):
        assert criterion(logits).argsort(descending=True).tolist() == order
