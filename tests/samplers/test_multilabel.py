"""What samplers say of an image with any number of classes: each class is a question of its own, yes or no."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from models.data import CycleData, Runtime
from models.inference.dropout import draw_masks
from models.inference.predictions import embed
from models.networks.classifier import Classifier
from models.pixels import normalize
from models.tasks import MULTILABEL
from models.training.adversarial_trainers import RelabelingTrainer
from samplers.dropout_base import DropoutSampler
from samplers.ensemble import EnsembleSampler
from samplers.qbc import QbcSampler
from samplers.sraal import SraalSampler
from tests.samplers.worlds import CPU, UNLABELED, data_for, make_net, sampler_for

CLASSES = 3
RUNTIME = Runtime(CPU, 3, eval_batch_size=10)


@cache
def world() -> tuple[Classifier, CycleData]:
    """A network that finds and misses each of the classes somewhere."""
    net, data = make_net(CLASSES, task="multilabel"), data_for("multilabel", CLASSES)
    with torch.no_grad():
        assert net.head.bias is not None
        net.head.bias.sub_(net.eval()(normalize(torch.from_numpy(data.pixels))).mean(dim=0))
    found = probabilities(net) > 0.5
    assert (found.sum(axis=0) > 0).all() and (found.sum(axis=0) < UNLABELED).all()
    return net, data


def logits_of(net: Classifier) -> np.ndarray:
    """(U, C) float64 of a plain pass over the unlabeled images as they are."""
    data = data_for("multilabel", CLASSES)
    with torch.no_grad():
        images = normalize(torch.from_numpy(data.pixels[data.unlabeled]))
        logits: np.ndarray = net.eval()(images).double().numpy()
    return logits


def probabilities(net: Classifier) -> np.ndarray:
    return sigmoid(logits_of(net))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logits))


def binary_entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(p) + (1.0 - p) * np.log1p(-p))


def score(name: str, **options: object) -> np.ndarray:
    net, data = world()
    sampler = sampler_for(name, data, **options)
    return sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition


# --- one network's predictions ---

BY_HAND = {
    "entropy": math.log(2.0) - 0.8 * math.log(0.8) - 0.2 * math.log(0.2) - 0.1 * math.log(0.1) - 0.9 * math.log(0.9),
    "margin": math.log(8.0 / 7.0),  # distances from ½ are 0, 0.3 and 0.4; twice their mean is 7/15
    "least-confidence": math.log(4.0 / 11.0),  # max(p, 1 - p) are 0.5, 0.8 and 0.9; their mean is 11/15
    "max-prob": math.log(11.0 / 4.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    """A network that answers (0.5, 0.8, 0.1) whatever it sees."""
    net, data = make_net(CLASSES, task="multilabel"), data_for("multilabel", CLASSES)
    with torch.no_grad():
        assert net.head.bias is not None
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([0.0, math.log(4.0), -math.log(9.0)]))
    scored = sampler_for(name, data).score(net, data.pixels, data.unlabeled[:4], RUNTIME)
    assert scored.acquisition.tolist() == pytest.approx([BY_HAND[name]] * 4, rel=1e-6)
    assert scored.predictions is not None
    np.testing.assert_allclose(scored.predictions.predicted, [[0.5, 0.8, 0.1]] * 4, rtol=1e-6)
    np.testing.assert_allclose(scored.predictions.confidence, 11.0 / 15.0, rtol=1e-6)


def log_odds(share: np.ndarray) -> np.ndarray:
    return np.log(share / (1.0 - share))


OF_PROBABILITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": lambda p: binary_entropy(p).sum(axis=1),
    "margin": lambda p: log_odds(1.0 - np.abs(2.0 * p - 1.0).mean(axis=1)),
    "least-confidence": lambda p: log_odds(np.minimum(p, 1.0 - p).mean(axis=1)),
    "max-prob": lambda p: -log_odds(np.minimum(p, 1.0 - p).mean(axis=1)),
}


@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_the_score_is_made_of_all_classes_of_an_image(name: str) -> None:
    expected = OF_PROBABILITIES[name](probabilities(world()[0]))
    assert expected.std() > 1e-2
    np.testing.assert_allclose(score(name), expected, rtol=1e-4, atol=1e-5)


# --- several opinions ---

RATE, DRAWS = 0.4, 9


def thinned() -> np.ndarray:
    """(K, U, C) probabilities of one thinned head after the other."""
    net, data = world()
    masks = draw_masks(DRAWS, net.feature_channels, RATE, RUNTIME.generator("dropout draws")).numpy()
    features = embed(net, data.pixels, data.unlabeled, RUNTIME).astype(np.float64)
    assert net.head.bias is not None
    weight, bias = net.head.weight.detach().double().numpy(), net.head.bias.detach().double().numpy()
    return sigmoid(np.einsum("nf,kf,cf->knc", features, masks, weight) + bias)


@pytest.mark.parametrize("name", ["bald", "mc-dropout"])
def test_disagreement_under_dropout_is_the_sum_over_the_classes(name: str) -> None:
    p = thinned()
    expected = binary_entropy(p.mean(axis=0)).sum(axis=1)
    if name == "bald":
        expected = expected - binary_entropy(p).mean(axis=0).sum(axis=1)
    assert isinstance(sampler_for(name, world()[1]), DropoutSampler)
    assert expected.std() > 1e-3
    found = score(name, dropout_rate=RATE, dropout_draws=DRAWS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def votes(sampler: EnsembleSampler | QbcSampler) -> np.ndarray:
    """(U, C) share of three networks that find a class, after a moment of training."""
    net, data = world()
    sampler.fit(net, data, RUNTIME)
    members = [member for member in sampler.committee() if isinstance(member, Classifier)]
    assert len(members) == 2 and all(member.task is MULTILABEL for member in members)
    return np.stack([logits_of(one) > 0.0 for one in (net, *members)]).mean(axis=0)


def test_a_committee_votes_on_each_class() -> None:
    net, data = world()
    sampler = sampler_for("ensemble", data, ensemble_size=3)
    assert isinstance(sampler, EnsembleSampler)
    share = votes(sampler)
    expected = np.minimum(share, 1.0 - share).sum(axis=1)
    above = sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition - expected
    assert len(np.unique(expected.round(6))) > 1
    assert (above > 0.0).all() and (above < 1.0 / 3.0).all()  # what orders rows with the same votes


def test_vote_entropy_is_the_sum_over_the_classes() -> None:
    net, data = world()
    sampler = sampler_for("qbc", data, ensemble_size=3)
    assert isinstance(sampler, QbcSampler)
    share = votes(sampler)
    logarithms = [np.log(part, out=np.zeros_like(part), where=part > 0) for part in (share, 1.0 - share)]
    expected = -(share * logarithms[0] + (1.0 - share) * logarithms[1]).sum(axis=1)
    found = sampler.score(net, data.pixels, data.unlabeled, RUNTIME).acquisition
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_committee_goes_on_from_a_state_as_networks_for_several_classes() -> None:
    net, data = world()
    first, second = sampler_for("ensemble", data), sampler_for("ensemble", data)
    first.fit(net, data, RUNTIME)
    second.load_state_dict(first.state_dict())
    assert isinstance(second, EnsembleSampler)
    assert [member.task for member in second.committee()] == [MULTILABEL]


# --- SRAAL ---


def test_sraal_learns_shares_of_the_chosen_classes_and_relabels_by_the_mean_over_the_classes() -> None:
    """Of two answers to one question SRAAL's indicator is 1 - max(p, 1 - p)."""
    net, data = world()
    sampler = sampler_for("sraal", data)
    assert isinstance(sampler, SraalSampler)
    sampler.fit(net, data, RUNTIME)
    trainer = sampler.trainer(net, data, sampler.options.recipe(), RUNTIME)
    assert isinstance(trainer, RelabelingTrainer)
    p = probabilities(net)
    np.testing.assert_allclose(trainer._uncertainty.numpy(), np.minimum(p, 1.0 - p).mean(axis=1), rtol=1e-3, atol=1e-5)
    targets = trainer._targets.numpy()
    np.testing.assert_allclose(targets[3], [0.0, 0.0, 0.0])  # nothing was chosen
    np.testing.assert_allclose(targets[5], [1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
