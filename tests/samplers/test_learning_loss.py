"""Both versions of learning loss: one module for training and scoring, the predicted loss as the score, one pass
(Yoo & Kweon, CVPR 2019; "learning loss v2" of TA-VAAL's supplement)."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.data import ClassTargets, CycleData, Runtime
from models.inference.predictions import predict
from models.losses.loss_prediction import LossPrediction, LossPredictor, margin_loss, ranking_loss
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers import build_sampler, loss_prediction_base
from samplers.base import NotFitted
from samplers.learning_loss import LearningLossOptions
from samplers.learning_loss_v2 import LearningLossV2Sampler
from samplers.loss_prediction_base import LossPredictionSampler

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
CLASSES, LABELED, POOL, SIZE = 3, 18, 30, 16
NAMES = pytest.mark.parametrize("name", ["learning-loss", "learning-loss-v2"])


@cache
def make_pixels() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 200, (LABELED + POOL, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (base + rng.integers(0, 56, base.shape)).astype(np.uint8)


def make_data() -> CycleData:
    rows = np.random.default_rng(1).permutation(LABELED + POOL)
    return CycleData(make_pixels(), rows[:LABELED], rows[LABELED:], ClassTargets(np.arange(LABELED) % CLASSES), CLASSES)


def make_net(width: int = 4) -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", CLASSES, SIZE, width), 0)


def make_sampler(name: str, **options: Any) -> LossPredictionSampler[Any]:
    given = {"learning_loss_width": 8} | options
    sampler = build_sampler(name, given, task="classification", num_classes=CLASSES, image_size=SIZE)
    assert isinstance(sampler, LossPredictionSampler)
    return sampler


def learn(sampler: LossPredictionSampler[Any], net: Classifier, epochs: int = 2) -> LossPrediction:
    data = make_data()
    objective = sampler.objective(net, data, RUNTIME)
    assert isinstance(objective, LossPrediction)
    train_network(net, data, objective, Recipe(epochs=epochs, batch_size=9, learning_rate=0.05), RUNTIME)
    sampler.fit(net, data, RUNTIME)
    return objective


@NAMES
def test_what_it_predicts_is_compared_with_the_networks_entropy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_prediction_base, "FEWEST_COMPARED", POOL)
    data, net, sampler = make_data(), make_net(), make_sampler(name)
    learn(sampler, net)
    figures = sampler.fit(net, data, RUNTIME)
    rows = np.sort(data.unlabeled)
    entropy = build_sampler("entropy", {}, task="classification", num_classes=CLASSES, image_size=SIZE)
    losses, entropies = (one.score(net, data.pixels, rows, RUNTIME).acquisition for one in (sampler, entropy))
    places = [np.argsort(np.argsort(values)) for values in (losses, entropies)]
    assert figures["ranker_correlation"] == pytest.approx(np.corrcoef(*places)[0, 1])


def predictor_of(sampler: LossPredictionSampler[Any]) -> LossPredictor:
    assert sampler.predictor is not None
    return sampler.predictor


@NAMES
def test_the_score_is_what_the_trained_module_predicts_from_the_taps(name: str) -> None:
    sampler, net, data = make_sampler(name), make_net(), make_data()
    objective = learn(sampler, net)
    assert sampler.predictor is objective.predictor  # the very module that was trained
    with torch.no_grad():
        _, taps = net.eval().features_and_taps(normalize(torch.from_numpy(data.pixels[data.unlabeled])))
        expected = predictor_of(sampler)(taps).double().numpy()
    scored = sampler.score(net, data.pixels, data.unlabeled, RUNTIME)
    np.testing.assert_allclose(scored.acquisition, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 1e-3


@NAMES
def test_the_largest_predicted_loss_comes_first(name: str) -> None:
    sampler, net, data = make_sampler(name), make_net(), make_data()
    learn(sampler, net)
    before = sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    with torch.no_grad():
        predictor_of(sampler).last.bias += 2.0
    np.testing.assert_allclose(sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition, before + 2.0)


@NAMES
def test_answers_and_scores_come_from_one_pass(name: str) -> None:
    sampler, net, data = make_sampler(name), make_net(), make_data()
    learn(sampler, net)
    seen: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(len(args[0]))

    hook = net.trunk.conv1.register_forward_hook(count)
    scored = sampler.score(net, data.pixels, data.unlabeled, Runtime(CPU, 0, eval_batch_size=20))
    hook.remove()
    assert seen == [20, 10]
    expected = predict(net, data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.predicted == expected.predicted).all()
    np.testing.assert_allclose(scored.predictions.confidence, expected.confidence, rtol=1e-5)


@NAMES
def test_training_moves_the_module_and_the_trunk_learns_otherwise_than_without_it(name: str) -> None:
    trunks = []
    for weight in (0.0, 1.0):
        sampler, net = make_sampler(name, learning_loss_weight=weight), make_net()
        before = predictor_of_fresh(name)
        learn(sampler, net)
        assert not torch.equal(predictor_of(sampler).last.weight, before)
        trunks.append(net.trunk.conv1.weight.detach().clone())
    assert not torch.equal(*trunks)


def predictor_of_fresh(name: str) -> torch.Tensor:
    sampler = make_sampler(name)
    sampler.fit(make_net(), make_data(), RUNTIME)
    return predictor_of(sampler).last.weight.detach().clone()


def test_the_first_version_keeps_a_margin_the_second_ranks() -> None:
    first = make_sampler("learning-loss", learning_loss_margin=0.7).pair_loss()
    assert isinstance(first, partial)
    assert (first.func, first.keywords) == (margin_loss, {"margin": 0.7})
    assert make_sampler("learning-loss-v2").pair_loss() is ranking_loss
    assert not hasattr(LearningLossV2Sampler.Options(), "learning_loss_margin")


@NAMES
def test_options_reach_the_objective_with_the_papers_defaults(name: str) -> None:
    net, data = make_net(), make_data()
    objective = make_sampler(name, learning_loss_weight=0.2, learning_loss_stop=0.5).objective(net, data, RUNTIME)
    assert isinstance(objective, LossPrediction)
    assert (objective.weight, objective.stop, objective.predictor.width) == (0.2, 0.5, 8)
    assert LearningLossOptions() == LearningLossOptions(1.0, 0.6, 128, learning_loss_margin=1.0)


@NAMES
def test_the_module_goes_on_from_the_last_cycle_where_it_fits(name: str) -> None:
    first = make_sampler(name)
    learn(first, make_net())
    state = first.state_dict()
    weight = predictor_of(first).last.weight

    second = make_sampler(name)
    second.load_state_dict(state)
    second.objective(make_net(), make_data(), Runtime(CPU, 9))
    assert torch.equal(predictor_of(second).last.weight, weight)
    assert predictor_of(second).last.weight is not weight

    wider = make_sampler(name, learning_loss_width=9)
    wider.load_state_dict(state)
    assert wider.predictor is None

    other_net = make_sampler(name)
    other_net.load_state_dict(state)
    other_net.objective(make_net(width=5), make_data(), RUNTIME)
    assert predictor_of(other_net).tap_channels == (5, 10, 20, 40)


@NAMES
def test_a_fresh_module_is_the_seeds(name: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        sampler = make_sampler(name)
        sampler.fit(make_net(), make_data(), Runtime(CPU, seed))
        weights.append(predictor_of(sampler).last.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@NAMES
def test_scores_without_a_module_for_this_network_are_refused(name: str) -> None:
    sampler, data = make_sampler(name), make_data()
    with pytest.raises(NotFitted, match=f"sampler {name}"):
        sampler.score(make_net(), data.pixels, data.unlabeled, RUNTIME)
    sampler.fit(make_net(), data, RUNTIME)
    with pytest.raises(NotFitted, match="for this network"):
        sampler.score(make_net(width=5), data.pixels, data.unlabeled, RUNTIME)


@NAMES
def test_images_that_are_hard_to_learn_come_first(name: str) -> None:
    """Two thirds of the images have a colour of their class, the others are noise with a label drawn at random."""
    rng = np.random.default_rng(5)
    count, size = 140, 8
    classes = rng.integers(0, 2, count)
    hard = np.arange(count) % 3 == 0
    pixels = rng.integers(90, 110, (count, size, size, 3))
    pixels[~hard, :, :, 0] += (120 * classes[~hard] - 60)[:, None, None]
    pixels[hard, :, :, 2] += rng.integers(40, 120, (hard.sum(), size, size))
    labeled, pool = np.arange(100), np.arange(100, count)
    data = CycleData(pixels.astype(np.uint8), labeled, pool, ClassTargets(classes[:100]), 2)
    net = CLASSIFICATION.build(NetConfig("resnet18", 2, size, 4), 0)
    sampler = build_sampler(name, {"learning_loss_width": 16}, task="classification", num_classes=2, image_size=size)
    recipe = Recipe(epochs=6, batch_size=16, learning_rate=0.05)
    train_network(net, data, sampler.objective(net, data, RUNTIME), recipe, RUNTIME)
    scores = sampler.score(net, data.pixels, pool, RUNTIME).acquisition
    first = pool[np.argsort(-scores)[: hard[pool].sum()]]
    assert hard[first].mean() > 0.7
