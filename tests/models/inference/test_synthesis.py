"""Latents that move towards uncertainty: nothing else moves, and none ends up surer than it began."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from models.deadline import Deadline
from models.inference.synthesis import Synthesized, near_boundary, network_input, synthesize
from models.networks.gan import GANConfig, build_gan
from models.pixels import normalize
from samplers.entropy import predictive_entropy
from tests.samplers.worlds import make_net

SIZE, COUNT = 32, 7


def made(num_classes: int, restarts: int = 2, steps: int = 15):  # type: ignore[no-untyped-def]
    generator, _ = build_gan(GANConfig("wgan-gp", SIZE, 3, 4, 6), torch.Generator().manual_seed(0))
    for parameter in generator.parameters():  # so that the images differ
        parameter.data.mul_(20)
    generator.eval()
    net = make_net(num_classes).eval()
    measure = near_boundary if num_classes == 2 else predictive_entropy
    return generator, net, synthesize(generator, net, measure, SIZE, starts(restarts), restarts, steps)


def starts(restarts: int, count: int = COUNT, latent: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.randn((restarts * count, latent), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_classes", [2, 5])
def test_uncertainty_after_is_at_least_that_before(num_classes: int) -> None:
    generator, net, found = made(num_classes)
    assert (found.after >= found.before).all() and (found.after > found.before).any()
    assert (found.after.diff() <= 0).all()  # most uncertain first
    logits = net.head(net.features(network_input(generator(found.latent), SIZE)))
    measure = near_boundary if num_classes == 2 else predictive_entropy
    assert torch.allclose(measure(logits), found.after, atol=1e-4)
    assert len(found.latent.unique(dim=0)) == COUNT


def test_nothing_but_the_latents_moves() -> None:
    generator, net, _ = made(3, steps=0)
    before = [{name: value.clone() for name, value in part.state_dict().items()} for part in (generator, net)]
    synthesize(generator, net, predictive_entropy, SIZE, starts(1), 1, 5)
    for part, old in zip((generator, net), before, strict=True):
        assert all((value == old[name]).all() for name, value in part.state_dict().items())
        assert all(parameter.grad is None for parameter in part.parameters())


def test_more_restarts_never_make_it_worse() -> None:
    one, several = made(5, restarts=1)[2], made(5, restarts=4)[2]
    assert several.after.mean() >= one.after.mean()


def test_each_image_is_traced_to_where_it_began() -> None:
    generator, net, found = made(5, restarts=3)
    assert len(set((found.began % COUNT).tolist())) == COUNT  # one of the starts of each
    first = starts(3)[found.began]
    with torch.no_grad():
        began = predictive_entropy(net.head(net.features(network_input(generator(first), SIZE))))
    assert torch.allclose(began, found.before, atol=1e-4)
    unmoved = made(5, restarts=3, steps=0)[2]
    assert torch.equal(unmoved.latent, starts(3)[unmoved.began])


class LinearGenerator(nn.Module):
    """G(z) = A z, as images of which only the mean of each channel counts."""

    def __init__(self) -> None:
        super().__init__()
        self.config = GANConfig("wgan-gp", SIZE, 3, 4, 3)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return 0.2 * latent[:, :, None, None].expand(-1, -1, SIZE, SIZE)


class LinearNet(nn.Module):
    """Two classes, told apart by a plane in the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.head.bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def test_of_linear_networks_the_boundary_is_reached() -> None:
    start = starts(1, 9, 3, seed=2)
    found = synthesize(LinearGenerator(), LinearNet(), near_boundary, SIZE, start, 1, 300)  # type: ignore[arg-type]
    assert found.before.abs().min() > 0.02 and found.after.abs().max() < 0.02


def test_generated_images_reach_the_network_as_real_ones_do() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8))
    images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.allclose(network_input(images, SIZE), normalize(pixels), atol=1e-5)
    assert network_input(images, 48).shape == (3, 3, 48, 48)


def test_uncertainty_of_two_classes_is_the_distance_to_the_boundary() -> None:
    logits = torch.tensor([[1.0, 3.5], [2.0, 2.0]])
    assert near_boundary(logits).tolist() == [-2.5, 0.0]
    assert predictive_entropy(torch.zeros(1, 4)).item() == pytest.approx(math.log(4))


class Clock:
    """Moves on by a second each time it is looked at: each step then takes three of them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def moved_until(at: float, restarts: int, steps: int) -> tuple[Synthesized, list[tuple[int, int]]]:
    seen: list[tuple[int, int]] = []
    generator, net, _ = made(3, steps=0)
    found = synthesize(
        generator,
        net,
        predictive_entropy,
        SIZE,
        starts(restarts),
        restarts,
        steps,
        lambda done, total: seen.append((done, total)),
        Deadline(at, Clock()),
    )
    return found, seen


def test_time_enough_changes_nothing_and_every_step_is_reported() -> None:
    found, seen = moved_until(math.inf, 2, 15)
    assert torch.allclose(found.after, made(3)[2].after)
    assert seen == [(step * 2 * COUNT, 15 * 2 * COUNT) for step in range(1, 16)]


def test_where_time_is_short_the_best_starts_alone_are_moved_in_fewer_steps() -> None:
    found, seen = moved_until(60.0, 3, 1000)
    assert len(seen) < 30 and seen[-1] == (1000 * COUNT, 1000 * COUNT)
    unmoved = made(3, restarts=3, steps=0)[2]
    assert set(found.began.tolist()) == set(unmoved.began.tolist())
    assert (found.after >= found.before).all() and found.after.mean() > found.before.mean()


def test_without_any_time_left_the_starts_are_what_is_found() -> None:
    found, _ = moved_until(0.0, 2, 1000)
    assert len(found.images) == COUNT and torch.equal(found.after, found.before)
