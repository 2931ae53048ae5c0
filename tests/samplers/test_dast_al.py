"""DAST-AL: its table from the labeled rows, its score from one pass (Chen et al., ECCV 2022, section 3.2)."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.inference.predictions import embed, measure, predict
from models.losses.isda import ISDA
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from samplers.base import NonFiniteScores
from samplers.dast_al import DastAlOptions, DastAlSampler

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
NOBODY = np.empty(0, dtype=np.int64)
CLASSES, LABELED, POOL = 4, 21, 60
KINDS = pytest.mark.parametrize("kind", ["diag", "full"])


@cache
def make_pixels() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 200, (LABELED + POOL, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (base + rng.integers(0, 56, base.shape)).astype(np.uint8)


@cache
def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", CLASSES, 32, 4), 0)
    with torch.no_grad():
        images = normalize(torch.from_numpy(make_pixels()))
        net(images)  # batch statistics that fit the images
        net.head.weight.mul_(3.0)
        net.head.bias.sub_(net.eval()(images).mean(dim=0))  # every class is predicted somewhere
    return net


def make_data() -> CycleData:
    """Class 2 has one labeled row, class 3 none."""
    rows = np.random.default_rng(1).permutation(LABELED + POOL)
    targets = np.array([2, *(np.arange(LABELED - 1) % 2)])
    return CycleData(make_pixels(), rows[:LABELED], rows[LABELED:], ClassTargets(targets), CLASSES)


def classes_of(data: CycleData) -> np.ndarray:
    return targets_of(data, ClassTargets).classes


def fitted(kind: str = "diag", data: CycleData | None = None, net: Classifier | None = None) -> DastAlSampler:
    sampler = DastAlSampler(DastAlOptions(covariance=kind), task="classification", num_classes=CLASSES, image_size=32)
    sampler.fit(net or make_net(), data or make_data(), RUNTIME)
    return sampler


def by_definition(kind: str) -> np.ndarray:
    """The table by NumPy and loops, from the features of the labeled rows as they are shown."""
    data, net = make_data(), make_net()
    features = embed(net, data.pixels, data.labeled, RUNTIME).astype(np.float64)
    weight = net.head.weight.detach().double().numpy()
    table = np.zeros((CLASSES, CLASSES))
    for k in range(2):  # classes 2 and 3 have fewer than two rows
        covariance = np.cov(features[classes_of(data) == k].T, bias=True)
        if kind == "diag":
            covariance = np.diag(np.diag(covariance))
        for j in range(CLASSES):
            table[k, j] = (weight[j] - weight[k]) @ covariance @ (weight[j] - weight[k])
    return table


@KINDS
def test_the_table_is_that_of_the_labeled_rows(kind: str) -> None:
    expected = by_definition(kind)
    assert expected[:2].max() > 0.05  # large enough to matter
    np.testing.assert_allclose(fitted(kind).table.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_with_draws_the_score_is_below_the_bound_and_goes_through_a_checkpoint() -> None:
    data, net = make_data(), make_net()
    options = DastAlOptions(epmcm_draws=500)
    sampler = DastAlSampler(options, task="classification", num_classes=CLASSES, image_size=32)
    sampler.fit(net, data, RUNTIME)
    drawn = sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    bound = fitted().score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    assert (drawn < bound).all()
    assert np.corrcoef(drawn, bound)[0, 1] > 0.7  # the same order, more or less
    other = DastAlSampler(options, task="classification", num_classes=CLASSES, image_size=32)
    other.load_state_dict(sampler.state_dict())
    assert (other.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition == drawn).all()


@KINDS
def test_the_score_is_the_logarithm_of_the_bound(kind: str) -> None:
    data, net = make_data(), make_net()
    (logits,) = measure(net, data.pixels, data.unlabeled, RUNTIME, lambda _, logits: (logits,))
    table, predicted = by_definition(kind), logits.argmax(axis=1)
    exponents = logits - logits.max(axis=1, keepdims=True) + 0.5 * table[predicted]
    bound = np.exp(exponents.astype(np.float64)).sum(axis=1) - 1.0  # equation 7
    scored = fitted(kind).score(net, data.pixels, data.unlabeled, RUNTIME)
    np.testing.assert_allclose(scored.acquisition, np.log(bound), rtol=1e-4, atol=1e-4)
    plain = np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1) - 1.0)
    assert not np.allclose(scored.acquisition, plain, atol=0.01)  # the covariance has a say


def test_the_answers_are_the_networks_own() -> None:
    data, net = make_data(), make_net()
    scored = fitted().score(net, data.pixels, data.unlabeled, RUNTIME)
    expected = predict(net, data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.predicted == expected.predicted).all()
    assert (scored.predictions.confidence == expected.confidence).all()


def test_rows_of_a_class_with_fewer_than_two_labels_are_ordered_by_plain_confidence() -> None:
    data, net = make_data(), make_net()
    sampler = fitted()
    scored = sampler.score(net, data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    published = 1.0 / (1.0 + np.exp(scored.acquisition))
    same = np.isclose(published, scored.predictions.confidence, rtol=1e-4)
    assert (same == (scored.predictions.predicted >= 2)).all()
    assert 0 < same.sum() < len(same)
    assert (published <= scored.predictions.confidence * (1 + 1e-4)).all()  # augmentation only adds doubt


def test_figures_of_the_fit() -> None:
    sampler = DastAlSampler(task="classification", num_classes=CLASSES, image_size=32)
    figures = sampler.fit(make_net(), make_data(), RUNTIME)
    assert figures["classes_without_covariance"] == 2
    assert figures["largest_semantic_term"] == sampler.table.max().item()
    assert figures["seconds"] > 0


def test_the_pool_takes_no_part_in_the_table() -> None:
    data = make_data()
    sampler = fitted()
    before = sampler.table.clone()
    sampler.score(make_net(), data.pixels, data.unlabeled, RUNTIME)
    assert torch.equal(sampler.table, before)
    assert torch.equal(fitted(data=dataclasses.replace(data, unlabeled=NOBODY)).table, before)


def test_the_table_is_rebuilt_in_each_cycle() -> None:
    sampler, data = fitted(), make_data()
    sampler.fit(
        make_net(), dataclasses.replace(data, targets=ClassTargets(1 - np.minimum(classes_of(data), 1))), RUNTIME
    )
    sampler.fit(make_net(), data, RUNTIME)
    assert torch.equal(sampler.table, fitted().table)


def test_without_labels_it_is_plain_confidence() -> None:
    data = dataclasses.replace(make_data(), labeled=NOBODY, targets=ClassTargets(NOBODY))
    scored = fitted(data=data).score(make_net(), data.pixels, data.unlabeled, RUNTIME)
    assert scored.predictions is not None
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(scored.acquisition)), scored.predictions.confidence, rtol=1e-4)


def test_scoring_runs_the_trunk_once_for_each_row() -> None:
    data, net, sampler = make_data(), make_net(), fitted()
    rows_seen: list[int] = []

    def count(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        rows_seen.append(len(args[0]))

    hook = net.trunk.register_forward_hook(count)
    try:
        sampler.score(net, data.pixels, data.unlabeled, Runtime(CPU, 0, eval_batch_size=25))
    finally:
        hook.remove()
    assert rows_seen == [25, 25, 10]


def test_it_trains_on_isda() -> None:
    options = DastAlOptions(isda_lambda=1.5, covariance="full")
    sampler = DastAlSampler(options, task="classification", num_classes=CLASSES, image_size=32)
    objective = sampler.objective(make_net(), make_data(), RUNTIME)
    assert isinstance(objective, ISDA)
    assert (objective.strength, objective.kind) == (1.5, "full")


def test_a_single_class_gives_equal_scores_and_broken_weights_an_error() -> None:
    net = CLASSIFICATION.build(NetConfig("resnet18", 1, 32, 4), 0)
    data = make_data()
    data = CycleData(data.pixels, data.labeled, data.unlabeled, ClassTargets(np.zeros(LABELED, dtype=np.int64)), 1)
    sampler = DastAlSampler(task="classification", num_classes=1, image_size=32)
    sampler.fit(net, data, RUNTIME)
    assert (sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition == 0.0).all()
    with torch.no_grad():
        net.head.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteScores, match="dast-al"):
        sampler.score(net, data.pixels, data.unlabeled, RUNTIME)


def test_a_table_of_other_classes_is_not_taken_over() -> None:
    sampler = DastAlSampler(task="classification", num_classes=CLASSES + 1, image_size=32)
    sampler.load_state_dict(fitted().state_dict())
    assert sampler.table.shape == (CLASSES + 1, CLASSES + 1)
    assert sampler.table.abs().max() == 0.0
