"""ADS: the two classifiers that were trained are those that score, by the mean of their entropies (Fu et al., AAAI
2021)."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.data import ClassTargets, CycleData, Runtime
from models.inference.predictions import embed, predict
from models.losses.agreement_discrepancy import AgreementDiscrepancy
from models.networks.classifier import Classifier, NetConfig
from models.networks.two_classifiers import TwoClassifiers
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers.ads import AdsOptions, AdsSampler
from samplers.base import NonFiniteScores, NotFitted

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
CLASSES, LABELED, POOL, SIZE = 3, 18, 30, 16
OPTIONS = AdsOptions(epochs=2, batch_size=9, learning_rate=0.02)


@cache
def make_pixels() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 200, (LABELED + POOL, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (base + rng.integers(0, 56, base.shape)).astype(np.uint8)


def make_data(num_classes: int = CLASSES) -> CycleData:
    rows = np.random.default_rng(1).permutation(LABELED + POOL)
    return CycleData(
        make_pixels(), rows[:LABELED], rows[LABELED:], ClassTargets(np.arange(LABELED) % num_classes), num_classes
    )


def make_net(num_classes: int = CLASSES, width: int = 4) -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", num_classes, SIZE, width), 0)


def make_sampler(options: AdsOptions = OPTIONS, num_classes: int = CLASSES) -> AdsSampler:
    return AdsSampler(options, task="classification", num_classes=num_classes, image_size=SIZE)


@cache
def learned(num_classes: int = CLASSES) -> tuple[AdsSampler, Classifier]:
    sampler, net, data = make_sampler(num_classes=num_classes), make_net(num_classes), make_data(num_classes)
    objective = sampler.objective(net, data, RUNTIME)
    assert isinstance(objective, AgreementDiscrepancy)
    train_network(net, data, objective, Recipe(epochs=2, batch_size=9, learning_rate=0.02), RUNTIME)
    sampler.fit(net, data, RUNTIME)
    assert sampler.classifiers is objective.classifiers  # the very ones that were trained
    return sampler, net


def classifiers_of(sampler: AdsSampler) -> TwoClassifiers:
    assert sampler.classifiers is not None
    return sampler.classifiers


def test_the_score_is_the_mean_entropy_of_the_normalized_answers_in_bits() -> None:
    (sampler, net), data = learned(), make_data()
    features = torch.from_numpy(embed(net, data.pixels, data.unlabeled, RUNTIME))
    expected = np.zeros(POOL)
    for logits in classifiers_of(sampler)(features):
        y = 1.0 / (1.0 + np.exp(-logits.detach().double().numpy()))
        share = y / y.sum(axis=1, keepdims=True)
        expected += -(share * np.log2(share)).sum(axis=1) / 2
    scored = sampler.score(net, data.pixels, data.unlabeled, RUNTIME)
    np.testing.assert_allclose(scored.acquisition, expected, rtol=1e-3, atol=1e-5)
    assert np.ptp(expected) > 0.02


def test_an_image_that_no_class_stands_out_for_comes_first() -> None:
    """All prototypes alike give each class the same ŷ: the largest uncertainty there is."""
    (sampler, net), data = learned(), make_data()
    before = sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    flat = make_sampler()
    flat.load_state_dict(sampler.state_dict())
    with torch.no_grad():
        for classifier in (classifiers_of(flat).first, classifiers_of(flat).second):
            classifier.prototypes.fill_(1.0)
    level = flat.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    np.testing.assert_allclose(level, np.log2(CLASSES), rtol=1e-5)
    assert (before < level).all()


def test_answers_are_the_linear_heads_from_the_same_pass() -> None:
    (sampler, net), data = learned(), make_data()
    seen: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(len(args[0]))

    hook = net.trunk.register_forward_hook(count)
    scored = sampler.score(net, data.pixels, data.unlabeled, Runtime(CPU, 0, eval_batch_size=20))
    hook.remove()
    assert seen == [20, 10]
    expected = predict(net, data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.predicted == expected.predicted).all()
    np.testing.assert_allclose(scored.predictions.confidence, expected.confidence, rtol=1e-5)


def test_options_reach_the_training_with_the_papers_defaults() -> None:
    paper = AdsOptions()
    assert (paper.ads_prototypes, paper.ads_alpha, paper.ads_tau) == (3, 0.05, 0.1)
    own = {"ads_prototypes": 2, "ads_alpha": 0.1, "ads_tau": 0.3}
    options = AdsOptions(**own, epochs=7, batch_size=4, learning_rate=0.2, momentum=0.5, weight_decay=0.01)
    sampler = make_sampler(options)
    objective = sampler.objective(make_net(), make_data(), RUNTIME)
    assert isinstance(objective, AgreementDiscrepancy)
    assert objective.tau == 0.3
    assert objective.recipe == Recipe(7, 4, 0.2, 0.5, 0.01)
    assert classifiers_of(sampler).first.prototypes.shape == (CLASSES, 2, 32)
    assert classifiers_of(sampler).second.alpha == 0.1


def test_the_classifiers_go_on_from_the_last_cycle_where_they_fit() -> None:
    state = learned()[0].state_dict()
    weight = classifiers_of(learned()[0]).first.prototypes
    second = make_sampler()
    second.load_state_dict(state)
    second.objective(make_net(), make_data(), Runtime(CPU, 9))
    assert torch.equal(classifiers_of(second).first.prototypes, weight)
    assert classifiers_of(second).first.prototypes is not weight
    for other in (make_sampler(num_classes=4), make_sampler(dataclasses.replace(OPTIONS, ads_prototypes=2))):
        other.load_state_dict(state)
        assert other.classifiers is None
    second.objective(make_net(width=5), make_data(), RUNTIME)
    assert classifiers_of(second).num_features == 40
    assert AdsSampler.knows_classes


@pytest.mark.parametrize("num_classes", [1, 2])
def test_few_classes(num_classes: int) -> None:
    (sampler, net), data = learned(num_classes), make_data(num_classes)
    scores = sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    assert scores.min() >= 0.0
    assert scores.max() <= np.log2(num_classes) + 1e-5


def test_scores_without_classifiers_for_this_network_are_refused_and_broken_ones_an_error() -> None:
    sampler, data = make_sampler(), make_data()
    with pytest.raises(NotFitted, match="sampler ads"):
        sampler.score(make_net(), data.pixels, data.unlabeled, RUNTIME)
    sampler.fit(make_net(), data, RUNTIME)
    with pytest.raises(NotFitted, match="for this network"):
        sampler.score(make_net(width=5), data.pixels, data.unlabeled, RUNTIME)
    with torch.no_grad():
        classifiers_of(sampler).second.linear.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteScores, match="ads"):
        sampler.score(make_net(), data.pixels, data.unlabeled, RUNTIME)
