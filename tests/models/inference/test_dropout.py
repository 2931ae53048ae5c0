"""Dropout before the head: masks, the objective, and thinned heads against doing it one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.inference.disagreement import StreamingBald, StreamingMaxEntropy
from models.inference.dropout import draw_masks, predict_and_disagree, thinned_opinions
from models.inference.predictions import embed, predict
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from tests.models.plain_figures import bald

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
CLASSES, COUNT = 3, 30


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)


def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", CLASSES, 16, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_pixels())))
        net.head.weight.mul_(4.0)
    return net.eval()


def make_data() -> CycleData:
    rows = np.arange(COUNT)
    return CycleData(make_pixels(), rows[:12], rows[12:], ClassTargets(rows[:12] % CLASSES), CLASSES)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_drop_the_rate_and_keep_the_mean(rate: float) -> None:
    masks = draw_masks(2000, 50, rate, generator())
    assert sorted(set(masks.flatten().tolist())) == pytest.approx([0.0, 1 / (1 - rate)])
    # 100,000 draws: five standard errors of the share, and of the mean
    error = 5 * (rate * (1 - rate) / masks.numel()) ** 0.5
    assert (masks == 0).double().mean().item() == pytest.approx(rate, abs=error)
    assert masks.mean().item() == pytest.approx(1.0, abs=error / (1 - rate))


def test_without_dropout_masks_are_ones() -> None:
    assert (draw_masks(5, 7, 0.0, generator()) == 1).all()


@pytest.mark.parametrize("chunk", [1, 40, 1 << 22])
def test_thinned_heads_are_the_head_on_masked_features(chunk: int) -> None:
    head = nn.Linear(6, CLASSES)
    features, masks = torch.randn(8, 6, generator=generator()), draw_masks(9, 6, 0.4, generator(1))
    parts = list(thinned_opinions(features, head, masks, chunk))
    expected = torch.stack([head(features * mask).log_softmax(dim=-1) for mask in masks])
    torch.testing.assert_close(torch.cat(parts), expected)
    assert len(parts) == {1: 9, 40: 9, 1 << 22: 1}[chunk]


def test_a_part_is_no_larger_than_it_may_be() -> None:
    """1000 classes and 1024 rows: never more than four draws in 2²² numbers, instead of the 100 at once."""
    head, masks = nn.Linear(8, 1000), draw_masks(100, 8, 0.5, generator())
    first = next(thinned_opinions(torch.zeros(1024, 8), head, masks))
    assert first.shape == (4, 1024, 1000)


def test_the_objective_is_cross_entropy_of_the_masked_features() -> None:
    data, net = make_data(), make_net()
    objective = DropoutCrossEntropy(0.5)
    objective.begin(net, data, RUNTIME)
    images = normalize(torch.from_numpy(data.pixels[:12]))
    targets = torch.from_numpy(targets_of(data, ClassTargets).classes)
    first, second = (objective.loss(net, images, targets, 0.0) for _ in range(2))
    masks = draw_masks(12, 32, 0.5, RUNTIME.generator("dropout"))
    assert len(masks.unique(dim=0)) > 1, "each image has a mask of its own"
    expected = functional.cross_entropy(net.head(net.features(images) * masks), targets)
    torch.testing.assert_close(first, expected)
    assert second != first, "each step has masks of its own"
    plain = DropoutCrossEntropy(0.0)
    plain.begin(net, data, RUNTIME)
    torch.testing.assert_close(plain.loss(net, images, targets, 0.0), functional.cross_entropy(net(images), targets))


def test_the_figure_is_that_of_the_masked_networks_and_the_answers_are_the_whole_ones() -> None:
    net, pixels, rows = make_net(), make_pixels(), np.arange(5, 25)
    predictions, values = predict_and_disagree(net, pixels, rows, RUNTIME, StreamingBald, 7, 0.3)
    masks = draw_masks(7, 32, 0.3, RUNTIME.generator("dropout draws"))
    features = torch.from_numpy(embed(net, pixels, rows, RUNTIME))
    with torch.no_grad():
        log_p = torch.stack([net.head(features * mask).log_softmax(dim=-1) for mask in masks])
    np.testing.assert_allclose(values, bald(log_p).numpy(), atol=1e-6)
    assert values.max() > 0.01
    expected = predict(net, pixels, rows, RUNTIME)
    assert (predictions.predicted == expected.predicted).all()
    assert (predictions.confidence == expected.confidence).all()


def test_the_seed_decides_and_without_dropout_nothing_does() -> None:
    net, pixels, rows = make_net(), make_pixels(), np.arange(COUNT)

    def values(seed: int, rate: float) -> np.ndarray:
        return predict_and_disagree(net, pixels, rows, Runtime(CPU, seed), StreamingBald, 7, rate)[1]

    assert (values(1, 0.5) == values(1, 0.5)).all()
    assert not np.isclose(values(1, 0.5), values(2, 0.5)).any()
    np.testing.assert_allclose(values(1, 0.0), 0.0, atol=1e-6)


def test_certain_networks_give_no_nan() -> None:
    net = make_net()
    with torch.no_grad():
        net.head.weight.mul_(1e6)
    for figure in (StreamingBald, StreamingMaxEntropy):
        values = predict_and_disagree(net, make_pixels(), np.arange(COUNT), RUNTIME, figure, 5, 0.5)[1]
        assert np.isfinite(values).all()


def test_the_trunk_runs_once_and_its_statistics_stay() -> None:
    net, seen = make_net().train(), []

    def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(len(args[0]))

    net.trunk.register_forward_hook(count)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    runtime = Runtime(CPU, 0, eval_batch_size=20)
    predict_and_disagree(net, make_pixels(), np.arange(COUNT), runtime, StreamingBald, 50, 0.5)
    assert seen == [20, 10]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training
