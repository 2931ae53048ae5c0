"""Discriminators other than VAAL's, and SRAAL's loss by hand. Source: models/networks/discriminator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.networks.discriminator import (
    adversarial_loss,
    build_discriminator,
    build_image_discriminator,
    discriminator_loss,
    relabeled_loss,
)
from models.networks.vae import VAEConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_relabeled_losses_by_hand() -> None:
    """D = ½ for all: 2 log 2 whatever u. D(z_L) = D(z_U) = ¾: -log ¾ for the labeled; of the unlabeled -log ¼ where
    u = 1, -log ¾ where u = 0, half of each where u = ½.
    """
    even, three = torch.zeros(3), torch.full((1,), math.log(3.0))
    assert relabeled_loss(even, even, torch.tensor([0.0, 0.3, 1.0])).item() == pytest.approx(2 * math.log(2))
    for u, expected in ((1.0, -math.log(0.25)), (0.0, -math.log(0.75)), (0.5, -0.5 * math.log(0.25 * 0.75))):
        loss = relabeled_loss(three, three, torch.tensor([u])).item()
        assert loss == pytest.approx(-math.log(0.75) + expected)


def test_relabeled_losses_lie_between_vaals_two() -> None:
    """u = 1 for all is VAAL's discriminator, u = 0 what VAAL's encoder wants; else binary cross entropy with 1 - u."""
    left, right = torch.randn(2, 50, generator=seeded()).mul(20.0).unbind()
    u = torch.rand(50, generator=seeded(1))
    torch.testing.assert_close(relabeled_loss(left, right, torch.ones(50)), discriminator_loss(left, right))
    torch.testing.assert_close(relabeled_loss(left, right, torch.zeros(50)), adversarial_loss(left, right))
    cross_entropy = functional.binary_cross_entropy_with_logits
    expected = cross_entropy(left, torch.ones(50)) + cross_entropy(right, 1 - u)
    torch.testing.assert_close(relabeled_loss(left, right, u), expected)


def test_with_relabeled_states_the_uncertain_look_least_labeled() -> None:
    """Two clouds of unlabeled codes, as far from the labeled ones: u = 1 in one and 0 in the other."""
    generator = seeded()
    discriminator = build_discriminator(2, generator, hidden=4)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=5e-4)

    def cloud(x: float, y: float) -> Tensor:
        return 0.5 * torch.randn(32, 2, generator=generator) + torch.tensor([x, y])

    u = torch.cat([torch.ones(32), torch.zeros(32)])
    for _ in range(30):
        unlabeled = discriminator(torch.cat([cloud(3.0, 0.0), cloud(-3.0, 0.0)]))
        loss = relabeled_loss(discriminator(cloud(0.0, 3.0)), unlabeled, u)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        uncertain, certain = discriminator(cloud(3.0, 0.0)), discriminator(cloud(-3.0, 0.0))
    assert uncertain.max() < certain.min()


@pytest.mark.parametrize("size", [32, 64])
def test_the_discriminator_of_images_answers_one_logit_a_row(size: int) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (build_image_discriminator(VAEConfig(size, 4, 1), seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.last.weight, other.last.weight)
    logits = first(torch.randn(3, 3, size, size, generator=seeded()))
    assert logits.shape == (3,)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
