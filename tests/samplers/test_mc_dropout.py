"""MC-dropout: which figure orders the pool, and how ties are broken (Gal, Islam & Ghahramani, ICML 2017)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data import ClassTargets, CycleData, Runtime
from models.inference.dropout import draw_masks
from models.inference.predictions import embed
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from samplers.mc_dropout import McDropoutOptions, McDropoutSampler
from tests.models.plain_figures import max_entropy, mean_std, variation_ratio

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 3)
COUNT, DRAWS = 40, 10


def make_pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)


def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", 3, 16, 4), 0)
    with torch.no_grad():
        images = normalize(torch.from_numpy(make_pixels()))
        net(images)
        net.head.weight.mul_(4.0)
        net.head.bias.sub_(net.eval()(images).mean(dim=0))
    return net.eval()


def score(kind: str, rate: float = 0.5, rows: np.ndarray | None = None) -> np.ndarray:
    options = McDropoutOptions(rate, DRAWS, mc_dropout_score=kind)
    sampler = McDropoutSampler(options, task="classification", num_classes=3, image_size=16)
    return sampler.score(make_net(), make_pixels(), np.arange(COUNT) if rows is None else rows, RUNTIME).acquisition


def opinions() -> torch.Tensor:
    """(K, N, C) one network at a time."""
    net, rows = make_net(), np.arange(COUNT)
    masks = draw_masks(DRAWS, 32, 0.5, RUNTIME.generator("dropout draws"))
    features = torch.from_numpy(embed(net, make_pixels(), rows, RUNTIME))
    with torch.no_grad():
        return torch.stack([net.head(features * mask).log_softmax(dim=-1) for mask in masks])


@pytest.mark.parametrize(("kind", "figure"), [("max-entropy", max_entropy), ("mean-std", mean_std)])
def test_it_is_the_figure_asked_for(kind: str, figure: object) -> None:
    assert callable(figure)
    np.testing.assert_allclose(score(kind), figure(opinions()).numpy(), atol=1e-6)


def test_the_variation_ratio_keeps_its_levels_and_orders_each_by_chance() -> None:
    found, levels = score("variation-ratio"), variation_ratio(opinions()).numpy()
    above = found - levels
    assert (above > 0).all()
    assert (above < 1 / DRAWS).all()
    assert len(np.unique(found)) == COUNT > 3 * len(np.unique(levels)) > 3
    some = np.array([17, 4, 30])
    np.testing.assert_allclose(score("variation-ratio", rows=some), found[some], rtol=1e-12)


def test_without_dropout_the_draws_agree() -> None:
    np.testing.assert_allclose(score("mean-std", rate=0.0), 0.0, atol=1e-7)
    assert score("variation-ratio", rate=0.0).max() < 1 / DRAWS


def test_it_trains_with_dropout_and_scores_without_any_fit() -> None:
    data = CycleData(make_pixels(), np.arange(6), np.arange(6, COUNT), ClassTargets(np.arange(6) % 3), 3)
    sampler = McDropoutSampler(McDropoutOptions(dropout_rate=0.2), task="classification", num_classes=3, image_size=16)
    objective = sampler.objective(make_net(), data, RUNTIME)
    assert isinstance(objective, DropoutCrossEntropy)
    assert objective.rate == 0.2
    assert sampler.state_dict() == {}
