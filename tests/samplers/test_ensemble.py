"""Ensembles: the committee's life over the cycles, and its variation ratio (Beluch et al., CVPR 2018)."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from torch import nn

from models.data import ClassTargets, CycleData, Runtime
from models.inference.predictions import measure, predict
from models.networks.classifier import Classifier, NetConfig
from models.tasks import CLASSIFICATION
from samplers.base import NotFitted
from samplers.committee_base import CommitteeOptions
from samplers.ensemble import EnsembleSampler
from tests.models.plain_figures import variation_ratio

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 3)
CONFIG = NetConfig("resnet18", 3, 16, 4)
COUNT = 40
ROWS = np.arange(COUNT)


def make_data() -> CycleData:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    return CycleData(pixels, ROWS[:9], ROWS[9:], ClassTargets(ROWS[:9] % 3), 3)


def make_net(seed: int = 0) -> Classifier:
    return CLASSIFICATION.build(CONFIG, seed).eval()


def make_sampler(size: int = 3, **changes: float) -> EnsembleSampler:
    options = CommitteeOptions(ensemble_size=size, epochs=1, batch_size=8, learning_rate=0.01)
    return EnsembleSampler(dataclasses.replace(options, **changes), task="classification", num_classes=3, image_size=16)


def fitted(size: int = 3) -> EnsembleSampler:
    sampler = make_sampler(size)
    sampler.fit(make_net(), make_data(), RUNTIME)
    return sampler


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_it_is_the_variation_ratio_of_task_network_and_members() -> None:
    net, data, sampler = make_net(), make_data(), fitted()
    nets = [net, *sampler.committee()]
    assert len(nets) == sampler.size == 3
    logits = [measure(one, data.pixels, ROWS, RUNTIME, lambda _, logits: (logits,))[0] for one in nets]
    levels = variation_ratio(torch.from_numpy(np.stack(logits)).log_softmax(dim=-1)).numpy()
    scored = sampler.score(net, data.pixels, ROWS, RUNTIME)
    above = scored.acquisition - levels
    assert (above > 0).all()
    assert (above < 1 / 3).all()
    assert len(np.unique(levels)) > 1
    assert len(np.unique(scored.acquisition)) == COUNT
    expected = predict(net, data.pixels, ROWS, RUNTIME)
    assert scored.predictions is not None
    assert (scored.predictions.predicted == expected.predicted).all()
    assert (scored.predictions.confidence == expected.confidence).all()


def test_members_that_are_the_task_network_leave_nothing_but_the_tie_break() -> None:
    net, data, sampler = make_net(), make_data(), fitted()
    for member in sampler.committee():
        member.load_state_dict(net.state_dict())
    assert sampler.score(net, data.pixels, ROWS, RUNTIME).acquisition.max() < 1 / 3


def test_a_row_that_splits_the_votes_comes_before_one_that_does_not() -> None:
    """Heads that answer by their bias alone: the members agree on everything, or each has a class of its own."""
    net, data, sampler = make_net(), make_data(), fitted()
    with torch.no_grad():
        for winner, one in enumerate([net, *sampler.committee()]):
            one.head.weight.zero_()
            one.head.bias.copy_(torch.eye(3)[winner])
    split = sampler.score(net, data.pixels, ROWS, RUNTIME).acquisition
    with torch.no_grad():
        for one in sampler.committee():
            one.head.bias.copy_(net.head.bias)
    unanimous = sampler.score(net, data.pixels, ROWS, RUNTIME).acquisition
    assert 2 / 3 < split.min() < split.max() < 1
    assert 0 < unanimous.min() < unanimous.max() < 1 / 3


def test_the_size_follows_the_device_unless_it_is_set() -> None:
    assert fitted(0).size == 3
    assert fitted(2).size == 2


def test_the_recipe_is_the_settings() -> None:
    slow, fast = make_sampler(2), make_sampler(2, learning_rate=0.05)
    for sampler in (slow, fast):
        sampler.fit(make_net(), make_data(), RUNTIME)
    start = weights(CLASSIFICATION.build(CONFIG, slow.seeds[0]))
    steps = [(weights(sampler.members) - start).norm() for sampler in (slow, fast)]
    assert slow.seeds == fast.seeds
    assert 0 < 2 * steps[0] < steps[1]


def test_members_go_on_from_where_they_were(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    straight, loaded = fitted(), make_sampler()
    before = weights(straight.members)
    loaded.load_state_dict(straight.state_dict())
    assert torch.equal(weights(loaded.members), before)
    assert loaded.seeds == straight.seeds
    for sampler in (straight, loaded):
        sampler.fit(make_net(), make_data(), Runtime(CPU, 4))
    assert torch.equal(weights(straight.members), weights(loaded.members))
    assert not torch.equal(weights(straight.members), before)
    fresh = make_sampler()
    fresh.fit(make_net(), make_data(), Runtime(CPU, 4))
    assert not torch.equal(weights(straight.members), weights(fresh.members))
    assert [line.split(",")[1].strip() for line in caplog.messages] == [
        "2 of them new (ensemble_size)",
        "0 of them new (ensemble_size)",
        "0 of them new (ensemble_size)",
        "2 of them new (ensemble_size)",
    ]


@pytest.mark.parametrize("size", [2, 4])
def test_a_committee_of_another_size_is_cut_or_filled_up(size: int) -> None:
    sampler = make_sampler(size)
    sampler.load_state_dict(fitted(3).state_dict())
    assert sampler.size == 3, "it can score with what it was given"
    assert np.isfinite(sampler.score(make_net(), make_data().pixels, ROWS, RUNTIME).acquisition).all()
    sampler.fit(make_net(), make_data(), RUNTIME)
    assert sampler.size == len(sampler.seeds) + 1 == size


def test_a_larger_committee_keeps_its_members_and_adds_the_one_that_a_fresh_one_would_have() -> None:
    state, runtime = fitted(3).state_dict(), Runtime(CPU, 4)
    same, larger, fresh = make_sampler(3), make_sampler(4), make_sampler(4)
    same.load_state_dict(state)
    larger.load_state_dict(state)
    for sampler in (same, larger, fresh):
        sampler.fit(make_net(), make_data(), runtime)
    found = [weights(member) for member in larger.committee()]
    expected = [*same.committee(), fresh.committee()[2]]
    assert all(torch.equal(one, weights(other)) for one, other in zip(found, expected, strict=True))


def test_another_architecture_means_fresh_members() -> None:
    sampler = fitted()
    wider = CLASSIFICATION.build(dataclasses.replace(CONFIG, width=6), 0)
    sampler.fit(wider, make_data(), RUNTIME)
    assert all(member.config == wider.config for member in sampler.committee())


@pytest.mark.parametrize("classes", [2, 4])
def test_a_committee_of_other_classes_is_not_taken_over(classes: int) -> None:
    sampler = EnsembleSampler(task="classification", num_classes=classes, image_size=16)
    sampler.load_state_dict(fitted().state_dict())
    assert sampler.state_dict() == {}
    assert sampler.knows_classes


def test_without_a_committee_there_is_no_score() -> None:
    with pytest.raises(NotFitted, match="ensemble"):
        make_sampler().score(make_net(), make_data().pixels, ROWS, RUNTIME)
