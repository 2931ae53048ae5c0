"""Committees: members that differ, follow from the seed, train under the recipe and are asked in one pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.data import ClassTargets, CycleData, DataError, Runtime
from models.inference.disagreement import StreamingBald, StreamingVariationRatio
from models.inference.predictions import measure, predict
from models.losses.objectives import CrossEntropy
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from models.training.committee import member_seeds, place_member, predict_and_disagree, train_members
from models.training.schedule import Recipe
from models.training.task_network import train_network
from tests.models.plain_figures import bald

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
CONFIG = NetConfig("resnet18", 3, 16, 4)
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.01)
COUNT = 30


def make_data() -> CycleData:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    rows = np.arange(COUNT)
    return CycleData(pixels, rows[:12], rows[12:], ClassTargets(rows[:12] % 3), 3)


def make_net(seed: int = 0) -> Classifier:
    """With batch statistics of the images, and predictions that are neither certain nor all alike."""
    net = place_member(CLASSIFICATION, CONFIG, seed, CPU).train()
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_data().pixels)))
        net.head.weight.mul_(4.0)
    return net.eval()


def weights(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_seeds_differ_follow_from_the_cycles_and_not_from_the_number_of_members() -> None:
    seeds = member_seeds(50, RUNTIME)
    assert len({*seeds, RUNTIME.seed}) == 51
    assert member_seeds(3, RUNTIME) == seeds[:3]
    assert not set(member_seeds(50, Runtime(CPU, 1))) & set(seeds)


def test_members_differ_and_come_out_the_same_again() -> None:
    def trained() -> list[Classifier]:
        seeds = member_seeds(2, RUNTIME)
        members = [place_member(CLASSIFICATION, CONFIG, seed, CPU) for seed in seeds]
        train_members(members, seeds, make_data(), RECIPE, RUNTIME)
        return members

    first, again = trained(), trained()
    assert not torch.isclose(weights(first[0]), weights(first[1])).all()
    for one, other in zip(first, again, strict=True):
        assert torch.equal(weights(one), weights(other))
        assert not one.training


def test_from_the_same_weights_members_still_part_by_the_order_of_the_images() -> None:
    members = [place_member(CLASSIFICATION, CONFIG, 7, CPU) for _ in range(2)]
    train_members(members, member_seeds(2, RUNTIME), make_data(), RECIPE, RUNTIME)
    assert not torch.equal(weights(members[0]), weights(members[1]))


def test_a_member_is_trained_as_the_task_network_is_with_another_seed() -> None:
    (seed,) = member_seeds(1, RUNTIME)
    member, expected = place_member(CLASSIFICATION, CONFIG, seed, CPU), place_member(CLASSIFICATION, CONFIG, seed, CPU)
    figures = train_members([member], [seed], make_data(), RECIPE, RUNTIME)
    single = train_network(expected, make_data(), CrossEntropy(), RECIPE, Runtime(CPU, seed))
    assert torch.equal(weights(member), weights(expected))
    assert figures["members"] == 1
    assert figures["loss"] == single["loss"]


def test_progress_runs_over_all_members_and_stops_them() -> None:
    reports: list[tuple[str, int, int]] = []
    members = [place_member(CLASSIFICATION, CONFIG, seed, CPU) for seed in range(3)]
    runtime = Runtime(CPU, 0, lambda *report: reports.append(report))
    train_members(members, [1, 2, 3], make_data(), RECIPE, runtime)
    assert reports == [("fit", done, 6) for done in range(1, 7)]

    def stop(phase: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    before = weights(members[2])
    with pytest.raises(KeyboardInterrupt):
        train_members(members, [1, 2, 3], make_data(), RECIPE, Runtime(CPU, 0, stop))
    assert torch.equal(weights(members[2]), before), "stopped in the second member's first epoch"


def test_without_labels_there_is_nothing_to_train_on() -> None:
    nobody = np.empty(0, dtype=np.int64)
    data = dataclasses.replace(make_data(), labeled=nobody, targets=ClassTargets(nobody))
    with pytest.raises(DataError, match="no labeled row"):
        train_members([place_member(CLASSIFICATION, CONFIG, 0, CPU)], [0], data, RECIPE, RUNTIME)


def test_the_figure_is_that_of_all_networks_and_the_answers_are_the_first_ones() -> None:
    nets, data = [make_net(seed) for seed in range(3)], make_data()
    rows = data.unlabeled[::-1].copy()
    predictions, values = predict_and_disagree(nets[0], nets[1:], data.pixels, rows, RUNTIME, StreamingBald)
    logits = [measure(net, data.pixels, rows, RUNTIME, lambda _, logits: (logits,))[0] for net in nets]
    log_p = torch.from_numpy(np.stack(logits)).log_softmax(dim=-1)
    np.testing.assert_allclose(values, bald(log_p).numpy(), atol=1e-6)
    assert values.min() > 0.01
    expected = predict(nets[0], data.pixels, rows, RUNTIME)
    assert (predictions.predicted == expected.predicted).all()
    assert (predictions.confidence == expected.confidence).all()


def test_members_equal_to_the_task_network_never_disagree() -> None:
    net, data = make_net(), make_data()
    for figure in (StreamingBald, StreamingVariationRatio):
        values = predict_and_disagree(net, [net, net], data.pixels, data.unlabeled, RUNTIME, figure)[1]
        np.testing.assert_allclose(values, 0.0, atol=1e-6)


def test_asking_leaves_modes_and_batch_statistics_alone() -> None:
    nets, data = [make_net(seed) for seed in range(2)], make_data()
    expected = predict_and_disagree(nets[0], nets[1:], data.pixels, data.unlabeled, RUNTIME, StreamingBald)[1]
    for net in nets:
        net.train()
    nets[1].trunk.bn1.eval()
    modes = [[module.training for module in net.modules()] for net in nets]
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in nets]
    found = predict_and_disagree(nets[0], nets[1:], data.pixels, data.unlabeled, RUNTIME, StreamingBald)[1]
    assert (found == expected).all()
    assert [[module.training for module in net.modules()] for net in nets] == modes
    for net, state in zip(nets, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
