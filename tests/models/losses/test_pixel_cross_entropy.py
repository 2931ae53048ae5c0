"""models.losses.pixel_cross_entropy: what nobody labeled has no say, and rare classes have more."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models import IGNORE
from models.losses.pixel_cross_entropy import image_cross_entropy, inverse_log_weights, pixel_cross_entropy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_loss_by_hand() -> None:
    """p = (1/4, 3/4) at every pixel; classes 0, 1, 1 and one that nobody labeled."""
    logits = torch.tensor([0.0, math.log(3.0)]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    masks = torch.tensor([[[0, 1], [1, IGNORE]]], dtype=torch.uint8)
    expected = (math.log(4) + 2 * math.log(4 / 3)) / 3
    assert pixel_cross_entropy(logits, masks).item() == pytest.approx(expected)
    # weights 3 and 1: (3 ln 4 + 2 ln 4/3) / 5
    weighted = pixel_cross_entropy(logits, masks, torch.tensor([3.0, 1.0])).item()
    assert weighted == pytest.approx((3 * math.log(4) + 2 * math.log(4 / 3)) / 5)


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0, 7.0])])
def test_loss_is_pytorchs_where_that_is_defined(weight: Tensor | None) -> None:
    logits = torch.randn(3, 4, 5, 6, generator=seeded())
    masks = torch.randint(0, 4, (3, 5, 6), generator=seeded(1), dtype=torch.uint8)
    masks[0, :2] = IGNORE
    expected = functional.cross_entropy(logits, masks.long(), weight, ignore_index=IGNORE)
    torch.testing.assert_close(pixel_cross_entropy(logits, masks, weight), expected)


def test_ignored_pixels_get_no_gradient_and_change_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=seeded(), requires_grad=True)
    masks = torch.randint(0, 3, (1, 4, 4), generator=seeded(1), dtype=torch.uint8)
    masks[:, 1] = IGNORE
    loss = pixel_cross_entropy(logits, masks)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 1] == 0).all()
    assert (logits.grad[:, :, 0] != 0).all()
    elsewhere = logits.detach().clone()
    elsewhere[:, :, 1] = 1e4
    assert torch.equal(pixel_cross_entropy(elsewhere, masks), loss.detach())


@pytest.mark.parametrize("weight", [None, torch.ones(3)])
def test_a_batch_without_a_labeled_pixel_costs_nothing(weight: Tensor | None) -> None:
    """PyTorch's own mean is NaN here."""
    logits = torch.randn(2, 3, 4, 4, generator=seeded(), requires_grad=True)
    masks = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = pixel_cross_entropy(logits, masks, weight)
    assert loss.item() == 0.0
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_loss_of_each_image() -> None:
    logits = torch.randn(3, 4, 5, 6, generator=seeded())
    masks = torch.randint(0, 4, (3, 5, 6), generator=seeded(1), dtype=torch.uint8)
    masks[0, :2] = IGNORE
    masks[2] = IGNORE
    losses = image_cross_entropy(logits, masks)
    for row in (0, 1):
        torch.testing.assert_close(losses[row], pixel_cross_entropy(logits[row : row + 1], masks[row : row + 1]))
    assert losses[2].item() == 0.0


def test_weights_of_enet() -> None:
    """Half, half of the rest twice, and a class that is nowhere: 1 / ln 1.52, 1 / ln 1.27 twice, 1 / ln 1.02."""
    weights = inverse_log_weights(torch.tensor([100, 50, 50, 0]))
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([2.38828, 4.18379, 4.18379, 50.49835], rel=1e-5)
    assert inverse_log_weights(torch.zeros(2, dtype=torch.int64)).tolist() == pytest.approx([50.49835] * 2)
    # 2 ** 24 + 1 is no float32: counts of a whole data set must not pass through one
    million = inverse_log_weights(torch.tensor([2**40, 2**40]))
    assert million.tolist() == pytest.approx([1 / math.log(1.52)] * 2)
