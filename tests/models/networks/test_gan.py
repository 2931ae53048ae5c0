"""Generators and critics: sizes, losses worked out by hand, and the gradient penalty (Gulrajani et al., equation 3)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.networks.gan import (
    KINDS,
    SIZES,
    GANConfig,
    as_pixels,
    build_gan,
    critic_loss,
    gan_size,
    generator_loss,
    gradient_penalty,
)

B = 6


def config(kind: str = "wgan-gp", size: int = 32, channels: int = 3) -> GANConfig:
    return GANConfig(kind, size, channels, width=4, latent=8)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_size_come_out_and_go_in(kind: str, size: int, channels: int) -> None:
    generator, critic = build_gan(config(kind, size, channels), torch.Generator().manual_seed(0))
    images = generator(noise(B, 8))
    assert images.shape == (B, 3, size, size) and images.abs().max() <= 1
    assert critic(images).shape == (B,) and critic.features(images).shape == (B, critic.last.in_features)
    if channels == 1:
        assert (images == images[:, :1]).all()


def test_the_smallest_size_that_is_large_enough_is_worked_at() -> None:
    assert [gan_size(size) for size in (8, 28, 29, 32, 33, 64, 224)] == [28, 28, 32, 32, 64, 64, 64]


@pytest.mark.parametrize("wrong", [{"kind": "gan"}, {"image_size": 40}, {"channels": 2}, {"width": 0}, {"latent": 0}])
def test_what_does_not_exist_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        GANConfig(**(config().to_dict() | wrong))  # type: ignore[arg-type]


def test_the_same_seed_builds_the_same_networks() -> None:
    first, second = (build_gan(config(), torch.Generator().manual_seed(3)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all((a == b).all() for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


class Linear(nn.Module):
    """D(x) = wᵀx, whose gradient is w everywhere."""

    def __init__(self, length: float) -> None:
        super().__init__()
        weight = noise(3 * 4 * 4)
        self.weight = nn.Parameter(weight / weight.norm() * length)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize("length", [0.25, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_its_lengths_distance_from_one(length: float) -> None:
    critic = Linear(length)
    penalty = gradient_penalty(critic, noise(B, 3, 4, 4), noise(B, 3, 4, 4) + 1, torch.Generator().manual_seed(0))
    assert penalty.item() == pytest.approx((length - 1) ** 2, abs=1e-5)
    (gradient,) = torch.autograd.grad(penalty, critic.weight)
    assert torch.allclose(gradient, 2 * (length - 1) * critic.weight / length, atol=1e-5)


def test_the_penalized_critic_judges_each_image_alone() -> None:
    """Gulrajani et al., section 4: no batch normalization, or the penalty is not one of each image."""
    _, critic = build_gan(config(), torch.Generator().manual_seed(0))
    images = noise(B, 3, 32, 32).requires_grad_()
    (gradient,) = torch.autograd.grad(critic.train()(images)[2], images)
    others = torch.arange(B) != 2
    assert gradient[2].abs().max() > 0 and gradient[others].abs().max() == 0


def test_losses_worked_out_by_hand() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -1.0])
    assert critic_loss(config(), real, fake).item() == pytest.approx(-0.5 - 2.0)
    assert generator_loss(config(), fake).item() == pytest.approx(0.5)

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    smoothed = sum(0.9 * softplus(-x) + 0.1 * softplus(x) for x in (1.0, 3.0)) / 2
    of_fake = (softplus(0.0) + softplus(-1.0)) / 2
    assert critic_loss(config("dcgan"), real, fake).item() == pytest.approx(smoothed + of_fake, rel=1e-5)
    assert generator_loss(config("dcgan"), fake).item() == pytest.approx((softplus(0.0) + softplus(1.0)) / 2, rel=1e-5)


def test_images_become_pixels() -> None:
    values = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert as_pixels(values).tolist() == [[[[0, 128, 255]]]]
