"""Predictive entropy against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from samplers.entropy import predictive_entropy


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)], [7.0, 7.0]])
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert predictive_entropy(logits).tolist() == pytest.approx([math.log(2), quarter, math.log(2)], rel=1e-6)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 1000])
def test_uniform_is_log_c_and_the_largest(num_classes: int) -> None:
    logits = torch.randn(50, num_classes, generator=torch.Generator().manual_seed(0))
    logits[0] = 3.0
    entropy = predictive_entropy(logits)
    assert entropy[0].item() == pytest.approx(math.log(num_classes), abs=1e-4)
    assert entropy.max() <= entropy[0] + 1e-5
    assert entropy.min() >= -1e-6


def test_certain_answers_have_none_and_no_nan() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e30, 1e30, 0.0]])
    assert predictive_entropy(logits).tolist() == [0.0, 0.0]
