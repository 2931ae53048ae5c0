"""SRAAL: its indicator of uncertainty by hand and by its properties, and what the sampler makes of it (Zhang et al.,
CVPR 2020, section 3.3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.data import ClassTargets, Runtime, targets_of
from models.inference.predictions import measure
from models.networks.discriminator import Discriminator
from models.networks.vae import VAE
from models.training.adversarial_trainers import RelabelingTrainer
from samplers.sraal import SraalSampler, uncertainty
from tests.samplers.novelty import NET, UNLABELED, make_data, make_sampler

RUNTIME = Runtime(torch.device("cpu"), 0)


def probabilities(classes: int, rows: int = 200, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.softmax(scale * torch.randn(rows, classes, generator=generator), dim=1)


# --- the indicator ---


def test_the_indicator_by_hand() -> None:
    """(0.6, 0.4, 0): m = 0.6, minVar = 0.8² / 18 = 0.0356, Var = 0.52 / 3 - 1 / 9 = 0.0622, so u = 1 - 0.6 * 4 / 7.
    (0.6, 0.2, 0.2): minVar = Var, so u = 0.4.
    """
    p = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.2, 0.2], [0.0, 1.0, 0.0]])
    assert uncertainty(p).tolist() == pytest.approx([1 - 0.6 * 4 / 7, 0.4, 0.0], abs=1e-6)


def test_the_indicator_is_the_papers_formula() -> None:
    for classes in (3, 10, 100):
        p = probabilities(classes).double()
        p /= p.sum(dim=1, keepdim=True)  # to more digits than the softmax has
        m, variance = p.amax(dim=1), p.var(dim=1, correction=0)
        smallest = (classes * m - 1) ** 2 / (classes**2 * (classes - 1))
        torch.testing.assert_close(uncertainty(p), 1 - m * smallest / variance)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3, 1.0, 10.0, 1000.0])
def test_the_indicator_lies_between_one_minus_the_confidence_and_one(classes: int, scale: float) -> None:
    p = probabilities(classes, scale=scale)
    u = uncertainty(p)
    assert u.dtype == torch.float32
    assert (u >= 1 - p.amax(dim=1) - 1e-5).all()
    assert (u >= 0).all()
    assert (u <= 1).all()
    if classes == 2:
        torch.testing.assert_close(u, 1 - p.amax(dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 7, 1000])
def test_even_probabilities_have_the_limit_from_vectors_with_equal_others(classes: int) -> None:
    even = torch.full((1, classes), 1 / classes)
    assert uncertainty(even).item() == pytest.approx(1 - 1 / classes, abs=1e-6)
    near = even.double().clone()
    near[0, 0] += 1e-4 / classes
    near[0, 1:] -= 1e-4 / classes / (classes - 1)
    assert uncertainty(near).item() == pytest.approx(1 - 1 / classes, abs=1e-3)


def test_a_single_class_is_certain_and_nan_stays() -> None:
    assert uncertainty(torch.ones(3, 1)).tolist() == [0.0] * 3
    assert uncertainty(torch.full((1, 3), torch.nan)).isnan().all()


# --- the sampler ---


def test_it_relabels_the_unlabeled_by_the_task_networks_uncertainty_computed_once() -> None:
    data, sampler = make_data(), make_sampler("sraal")
    rows_seen: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...]) -> None:
        rows_seen.append(len(args[0]))

    hook = NET.trunk.register_forward_pre_hook(count)
    try:
        sampler.fit(NET, data, RUNTIME)
    finally:
        hook.remove()
    assert sum(rows_seen) == UNLABELED
    trainer = sampler.trainer(NET, data, sampler.options.recipe(), RUNTIME)
    assert isinstance(trainer, RelabelingTrainer)
    (logits,) = measure(NET, data.pixels, data.unlabeled, RUNTIME, lambda _, logits: (logits,))
    expected = uncertainty(torch.softmax(torch.from_numpy(logits), dim=1))
    torch.testing.assert_close(trainer._uncertainty, expected)
    assert trainer._targets.tolist() == targets_of(data, ClassTargets).classes.tolist()


def test_the_score_is_minus_the_logit_of_the_whole_code() -> None:
    data, sampler = make_data(), make_sampler("sraal")
    sampler.fit(NET, data, RUNTIME)
    vae, discriminator = sampler.part(VAE), sampler.part(Discriminator)
    assert discriminator.layers[0].in_features == vae.config.latent == 6  # type: ignore[union-attr]
    assert sum(isinstance(layer, nn.Linear) for layer in discriminator.layers) == 5
    scores = sampler.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition
    last = discriminator.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias += 1.0  # looks more like the labeled
    moved = sampler.score(NET, data.pixels, data.unlabeled, RUNTIME).acquisition
    np.testing.assert_allclose(moved, scores - 1.0, atol=1e-5)


def test_other_classes_mean_a_fresh_start() -> None:
    earlier = make_sampler("sraal")
    earlier.fit(NET, make_data(), RUNTIME)
    later = SraalSampler(earlier.options, task="classification", num_classes=3, image_size=32)
    later.load_state_dict(earlier.state_dict())
    assert later.networks is None
    assert SraalSampler.knows_classes
