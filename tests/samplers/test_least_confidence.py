"""Least confidence, and max-prob as its reverse, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.data import Runtime
from models.networks.classifier import NetConfig
from models.tasks import CLASSIFICATION
from samplers.least_confidence import LeastConfidenceSampler, log_odds_of_error
from samplers.max_prob import MaxProbSampler

CPU = torch.device("cpu")


def probabilities(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_by_hand() -> None:
    logits = probabilities([0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [1 / 3, 1 / 3, 1 / 3])
    expected = [0.0, math.log(0.2 / 0.8), math.log(2.0)]
    assert log_odds_of_error(logits).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_the_published_score_is_the_confidence(num_classes: int) -> None:
    logits = 5 * torch.randn(200, num_classes, generator=torch.Generator().manual_seed(0))
    published = 1.0 / (1.0 + log_odds_of_error(logits).exp())
    torch.testing.assert_close(published, logits.double().softmax(1).max(1).values, rtol=1e-12, atol=0)


def test_very_sure_answers_still_differ() -> None:
    top = torch.arange(20.0, 2000.0)  # float32 confidence is 1.0 for all of them
    values = log_odds_of_error(torch.stack([top, torch.zeros_like(top)], dim=1))
    assert (values == -top.double()).all()
    neighbours = torch.tensor([[30.0, 0.0], [torch.nextafter(torch.tensor(30.0), torch.tensor(31.0)), 0.0]])
    first, second = log_odds_of_error(neighbours)
    assert second < first
    assert log_odds_of_error(torch.tensor([[3e38, -3e38]])).isfinite().all()


def test_a_single_class_is_never_in_doubt_and_nan_stays() -> None:
    values = log_odds_of_error(torch.tensor([[3.0], [-50.0], [torch.nan]]))
    assert values[:2].tolist() == [0.0, 0.0]
    assert values[2].isnan()
    assert log_odds_of_error(torch.tensor([[1.0, torch.nan]])).isnan().all()


def test_max_prob_is_exactly_the_reverse_order() -> None:
    net = CLASSIFICATION.build(NetConfig("resnet18", 5, 16, 4), 0)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    least, most = (
        sampler(task="classification", num_classes=5, image_size=16).score(net, pixels, np.arange(40), Runtime(CPU, 0))
        for sampler in (LeastConfidenceSampler, MaxProbSampler)
    )
    assert (most.acquisition == -least.acquisition).all()
    assert least.predictions is not None and most.predictions is not None
    soonest = int(np.argmax(most.acquisition))
    assert most.predictions.confidence[soonest] == most.predictions.confidence.max()
    assert least.predictions.confidence[int(np.argmax(least.acquisition))] == least.predictions.confidence.min()
    assert "negative control" in MaxProbSampler.summary
