"""CEAL: its cycles, and what it is without pseudo-labels (Wang et al., TCSVT 2017)."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from backend.learning.learner import Learner
from backend.settings.core import Settings
from models import checkpoint
from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.losses.objectives import CrossEntropy
from models.losses.pseudo_labels import PseudoLabels, believed, threshold_at
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network
from samplers.base import Sampler
from samplers.ceal import CRITERIA, CealOptions, CealSampler
from samplers.entropy import EntropySampler, predictive_entropy
from samplers.least_confidence import LeastConfidenceSampler
from samplers.margin import MarginSampler

CPU = torch.device("cpu")
CLASSES, LABELED, POOL, SIZE = 3, 7, 40, 16
BASES: dict[str, type[Sampler]] = {
    "entropy": EntropySampler,
    "least-confidence": LeastConfidenceSampler,
    "margin": MarginSampler,
}
EVERYTHING = math.log(CLASSES) + 0.01
CRITERION = pytest.mark.parametrize("criterion", BASES)


@cache
def make_data() -> CycleData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (LABELED + POOL, 2, 2, 3)).repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2)
    rows = rng.permutation(LABELED + POOL)
    return CycleData(
        pixels.astype(np.uint8), rows[:LABELED], rows[LABELED:], ClassTargets(np.arange(LABELED) % CLASSES), CLASSES
    )


def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", CLASSES, SIZE, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_data().pixels)))
        net.head.weight.mul_(8.0)
    return net


def make_sampler(**options: Any) -> CealSampler:
    options = {"budget": 4, "ceal_delta": EVERYTHING, "ceal_decay": 0.1} | options
    return CealSampler(CealOptions(**options), task="classification", num_classes=CLASSES, image_size=SIZE)


def cycle(sampler: CealSampler, net: Classifier, seed: int = 0) -> dict[str, float]:
    data, runtime = make_data(), Runtime(CPU, seed)
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.01)
    train_network(net, data, sampler.objective(net, data, runtime), recipe, runtime)
    return sampler.fit(net, data, runtime)


def test_the_criteria_are_those_of_the_settings() -> None:
    assert set(CRITERIA) == set(BASES)
    assert CRITERIA[CealOptions().ceal_criterion] is predictive_entropy


@CRITERION
def test_the_queue_is_ordered_by_the_criterion(criterion: str) -> None:
    data, net, runtime = make_data(), make_net(), Runtime(CPU, 0)
    sampler = make_sampler(ceal_criterion=criterion)
    cycle(sampler, net)
    scored, base = (
        one.score(net, data.pixels, data.unlabeled, runtime)
        for one in (sampler, BASES[criterion](task="classification", num_classes=CLASSES, image_size=SIZE))
    )
    assert (scored.acquisition == base.acquisition).all()
    assert scored.predictions is not None and base.predictions is not None
    assert (scored.predictions.predicted == base.predictions.predicted).all()


def test_without_a_threshold_ceal_is_its_base_strategy() -> None:
    data, net, base = make_data(), make_net(), make_net()
    sampler = make_sampler(ceal_delta=0.0)
    for seed in range(2):
        assert cycle(sampler, net, seed)["pseudo_labels"] == 0
        recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.01)
        train_network(base, data, CrossEntropy(), recipe, Runtime(CPU, seed))
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), base.parameters(), strict=True))


@CRITERION
def test_nothing_that_is_about_to_be_asked_gets_a_pseudo_label(criterion: str) -> None:
    data, net = make_data(), make_net()
    sampler = make_sampler(ceal_criterion=criterion, budget=9)
    sampler.fits = 1
    scores = sampler.score(net, data.pixels, data.unlabeled, Runtime(CPU, 0)).acquisition
    queried = set(data.unlabeled[np.argsort(-scores, kind="stable")[:9]])
    objective = sampler.objective(net, data, Runtime(CPU, 0))
    assert isinstance(objective, PseudoLabels)
    rows, _ = believed(net, data, objective._score_rows, objective._threshold, objective._queried, Runtime(CPU, 0))
    assert not queried & set(rows)
    assert queried | set(rows) == set(data.unlabeled)  # the threshold is above ln C


def test_the_first_cycle_has_no_pseudo_labels_and_the_threshold_falls_from_the_second_on() -> None:
    sampler, net = make_sampler(ceal_decay=0.25, ceal_schedule="recursive"), make_net()
    figures = [cycle(sampler, net, seed) for seed in range(4)]
    assert figures[0] == {"pseudo_labels": 0.0, "delta": 0.0}
    expected = [threshold_at(t, EVERYTHING, 0.25, "recursive") for t in range(3)]
    assert [one["delta"] for one in figures[1:]] == expected
    assert expected[2] == pytest.approx(EVERYTHING - 0.75)
    assert figures[1]["pseudo_labels"] == POOL - 4


def test_the_count_of_cycles_survives_a_restart(tmp_path: Any) -> None:
    sampler, net = make_sampler(), make_net()
    for seed in range(3):
        cycle(sampler, net, seed)
    checkpoint.save(tmp_path / "s.pt", sampler.state_dict())
    restarted = make_sampler()
    restarted.load_state_dict(checkpoint.load(tmp_path / "s.pt"))
    assert restarted.threshold == sampler.threshold == threshold_at(2, EVERYTHING, 0.1, "linear")
    fresh = make_sampler()
    fresh.load_state_dict({})
    assert fresh.threshold == 0.0


def test_pseudo_labels_are_neither_labels_nor_state() -> None:
    data, sampler, net = make_data(), make_sampler(), make_net()
    classes = targets_of(data, ClassTargets).classes
    labeled, targets, unlabeled = data.labeled.copy(), classes.copy(), data.unlabeled.copy()
    for seed in range(2):
        figures = cycle(sampler, net, seed)
    assert figures["pseudo_labels"] > 0
    assert (data.labeled == labeled).all() and (classes == targets).all()
    assert (data.unlabeled == unlabeled).all()
    assert sampler.state_dict() == {"fits": 2}
    held = [value for value in vars(sampler).values() if isinstance(value, np.ndarray | torch.Tensor | PseudoLabels)]
    assert held == []


def test_fit_alone_counts_the_cycle() -> None:
    sampler, data = make_sampler(), dataclasses.replace(make_data(), unlabeled=np.empty(0, dtype=np.int64))
    assert sampler.fit(make_net(), data, Runtime(CPU, 0)) == {"pseudo_labels": 0.0, "delta": 0.0}
    assert sampler.fits == 1


@pytest.mark.parametrize("warm", [True, False])
def test_in_the_cycles_of_a_project_pseudo_labels_need_a_network_that_goes_on(warm: bool) -> None:
    data = make_data()
    settings = Settings(
        sampler="ceal",
        warm_start=warm,
        ceal_delta=20.0,
        budget=4,
        epochs=1,
        batch_size=4,
        learning_rate=0.01,
        task_width=4,
    )
    learner, counts = None, []
    for seed in range(2):
        learner, figures = Learner.trained(settings, ["a", "b", "c"], data, Runtime(CPU, seed), learner)
        counts.append(figures["fit_pseudo_labels"])
    assert counts == [0.0, POOL - 4 if warm else 0.0]
