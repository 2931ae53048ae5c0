"""Pseudo-labels: their threshold, which rows get one, and how they train."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import models.training.rows
from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.inference.predictions import measure, predict
from models.losses.objectives import CrossEntropy
from models.losses.pseudo_labels import PseudoLabels, believed, confident_positions, extra_rows, threshold_at
from models.networks.classifier import Classifier, NetConfig
from models.pixels import normalize
from models.tasks import CLASSIFICATION
from models.training.schedule import Recipe
from models.training.task_network import train_network

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
CLASSES, LABELED, POOL, SIZE = 3, 7, 40, 16
EVERYTHING = math.log(CLASSES) + 0.01  # no entropy reaches this


def score_rows(logits: Tensor) -> tuple[Tensor, Tensor]:
    log_p = functional.log_softmax(logits, dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    return entropy, entropy


@cache
def make_data() -> CycleData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (LABELED + POOL, 2, 2, 3)).repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2)
    rows = rng.permutation(LABELED + POOL)
    return CycleData(
        pixels.astype(np.uint8), rows[:LABELED], rows[LABELED:], ClassTargets(np.arange(LABELED) % CLASSES), CLASSES
    )


def classes_of(data: CycleData) -> Tensor:
    return torch.from_numpy(targets_of(data, ClassTargets).classes)


def make_net() -> Classifier:
    net = CLASSIFICATION.build(NetConfig("resnet18", CLASSES, SIZE, 4), 0)
    with torch.no_grad():
        net(normalize(torch.from_numpy(make_data().pixels)))  # batch statistics that fit the images
        net.head.weight.mul_(8.0)
    return net


# --- the threshold ---


def test_worked_values_of_both_schedules() -> None:
    # 0.05 / 0.0033: linear reaches 0.0005 at t = 15 and is used up at 16; recursive 0.0005 at 5 (15 steps), none at 6.
    linear = [threshold_at(t, 0.05, 0.0033, "linear") for t in range(60)]
    recursive = [threshold_at(t, 0.05, 0.0033, "recursive") for t in range(60)]
    assert linear[0] == recursive[0] == 0.05
    assert linear[1] == recursive[1] == pytest.approx(0.0467)
    assert linear[15] == recursive[5] == pytest.approx(0.0005)
    assert [t for t in range(60) if linear[t] > 0] == list(range(16))
    assert [t for t in range(60) if recursive[t] > 0] == list(range(6))


@pytest.mark.parametrize("schedule", ["linear", "recursive"])
def test_the_threshold_never_rises_and_never_falls_below_zero(schedule: str) -> None:
    values = [threshold_at(t, 0.7, 0.02, schedule) for t in range(100)]
    assert all(later <= sooner for sooner, later in pairwise(values))
    assert min(values) == 0.0
    assert {threshold_at(t, 0.3, 0.0, schedule) for t in range(50)} == {0.3}


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="geometric"):
        threshold_at(1, 0.05, 0.0033, "geometric")


# --- which rows ---


def test_sure_rows_without_the_most_uncertain_ones() -> None:
    entropy = np.array([0.4, 0.01, 0.0, 0.9, 0.04, 0.05])
    uncertainty = np.array([3.0, 9.0, 0.0, 4.0, 1.0, 2.0])
    assert confident_positions(entropy, uncertainty, 0.05, 0).tolist() == [1, 2, 4]
    assert confident_positions(entropy, uncertainty, 0.05, 1).tolist() == [2, 4]  # row 1 is for the annotator
    assert confident_positions(entropy, uncertainty, 0.05, 5).tolist() == [2]
    assert confident_positions(entropy, uncertainty, 0.05, 6).tolist() == []
    assert confident_positions(entropy, uncertainty, 0.05, 60).tolist() == []


@pytest.mark.parametrize("queried", [0, 5, 39])
def test_above_log_c_it_is_all_but_the_queried(queried: int) -> None:
    generator = torch.Generator().manual_seed(queried)
    entropy, _ = score_rows(torch.randn(POOL, CLASSES, generator=generator))
    uncertainty = torch.rand(POOL, generator=generator).numpy()
    found = confident_positions(entropy.numpy(), uncertainty, EVERYTHING, queried)
    most_uncertain = np.argsort(-uncertainty)[:queried]
    assert sorted([*found, *most_uncertain]) == list(range(POOL))


def test_one_hot_answers_are_sure_at_any_threshold_but_zero() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 1e30, 0.0], [1.0, 0.0, 0.5]])
    entropy, _ = score_rows(logits)
    for threshold in (1e-30, 0.05):
        assert confident_positions(entropy.numpy(), np.zeros(3), threshold, 0).tolist() == [0, 1]
    for nothing in (0.0, -1.0):  # also where rounding makes an entropy negative
        assert confident_positions(np.array([-1e-7, 0.0]), np.zeros(2), nothing, 0).tolist() == []


def test_rows_of_a_broken_network_are_not_believed() -> None:
    assert confident_positions(np.full(4, np.nan), np.full(4, np.nan), EVERYTHING, 1).tolist() == []


def test_the_answers_are_those_of_the_network_in_eval_mode() -> None:
    data, net = make_data(), make_net()
    net.train()
    rows, predicted = believed(net, data, score_rows, 0.6, 3, RUNTIME)
    assert net.training
    (entropy,) = measure(net, data.pixels, rows, RUNTIME, lambda _, logits: score_rows(logits)[:1])
    assert 0 < len(rows) < POOL - 3
    assert set(rows) <= set(data.unlabeled)
    assert (entropy < 0.6).all()
    assert (predicted == predict(net, data.pixels, rows, RUNTIME).predicted).all()


# --- training on them ---


def test_rows_beside_a_batch() -> None:
    assert extra_rows(16, 100, 25) == 4  # the same share as of all rows
    assert extra_rows(16, 100, 1) == 1
    assert extra_rows(16, 100, 50_000) == 16
    assert extra_rows(2, 1, 40) == 2


def seen_in_a_step(objective: PseudoLabels, net: Classifier, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """What one step of the objective shows to the network, what it calls it, and the loss."""
    data = make_data()
    seen: list[Tensor] = []
    hook = net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = normalize(torch.from_numpy(data.pixels[data.labeled[:rows]]))
    loss = objective.loss(net.train(), images, classes_of(data)[:rows], 0.0)
    hook.remove()
    assert len(seen) == 1  # one forward pass for both kinds
    assert torch.equal(seen[0][:rows], images)
    return seen[0], images, loss


def test_the_loss_is_the_mean_over_labels_and_pseudo_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.pixels.augment", lambda images, generator: images)
    data, net = make_data(), make_net()
    rows, predicted = believed(net, data, score_rows, EVERYTHING, 2, RUNTIME)
    objective = PseudoLabels(score_rows, EVERYTHING, 2)
    objective.begin(net, data, RUNTIME)
    assert objective.count == len(rows) == POOL - 2
    shown, _, loss = seen_in_a_step(objective, net, 4)
    assert len(shown) == 4 + 4  # capped
    candidates = normalize(torch.from_numpy(data.pixels[rows]))
    places = [int((candidates - one).abs().sum(dim=(1, 2, 3)).argmin()) for one in shown[4:]]
    assert torch.equal(candidates[places], shown[4:])
    targets = torch.cat([classes_of(data)[:4], torch.from_numpy(predicted[places])])
    expected = functional.cross_entropy(net(shown), targets)  # in training mode: the statistics are of both kinds
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_pseudo_rows_are_augmented() -> None:
    data, net = make_data(), make_net()
    objective = PseudoLabels(score_rows, EVERYTHING, 0)
    objective.begin(net, data, RUNTIME)
    shown, _, _ = seen_in_a_step(objective, net, 7)
    pool = normalize(torch.from_numpy(data.pixels[data.unlabeled]))
    as_it_is = [bool((pool == one).flatten(1).all(1).any()) for one in shown[7:]]
    assert sum(as_it_is) < len(as_it_is)


@pytest.mark.parametrize("kind", ["no threshold", "all queried", "nobody", "one class"])
def test_without_pseudo_labels_it_is_plain_cross_entropy(kind: str) -> None:
    data, net = make_data(), make_net()
    objective = PseudoLabels(
        score_rows, 0.0 if kind == "no threshold" else EVERYTHING, POOL if kind == "all queried" else 1
    )
    if kind == "nobody":
        data = dataclasses.replace(data, unlabeled=np.empty(0, dtype=np.int64))
    if kind == "one class":
        net = CLASSIFICATION.build(NetConfig("resnet18", 1, SIZE, 4), 0)
        data = dataclasses.replace(data, targets=ClassTargets(np.zeros(LABELED, dtype=np.int64)), num_classes=1)
    objective.begin(net, data, RUNTIME)
    assert objective.count == 0
    images = normalize(torch.from_numpy(data.pixels[data.labeled]))
    targets = classes_of(data)
    plain = CrossEntropy().loss(net.train(), images, targets, 0.0)
    assert objective.loss(net.train(), images, targets, 0.0) == plain


def train(objective: PseudoLabels, runtime: Runtime = RUNTIME) -> Classifier:
    net = make_net()
    train_network(net, make_data(), objective, Recipe(epochs=2, batch_size=4, learning_rate=0.01), runtime)
    return net


def test_a_training_erases_the_labels_and_leaves_the_data_alone() -> None:
    data = make_data()
    classes = targets_of(data, ClassTargets).classes
    before = [part.copy() for part in (data.pixels, data.labeled, classes, data.unlabeled)]
    objective = PseudoLabels(score_rows, EVERYTHING, 5)
    net = train(objective)
    after = (data.pixels, data.labeled, classes, data.unlabeled)
    assert all((one == other).all() for one, other in zip(before, after, strict=True))
    assert objective.count == POOL - 5
    kept = [value for value in vars(objective).values() if isinstance(value, Tensor | np.ndarray)]
    assert all(len(value) == 0 for value in kept)
    assert objective._rows is None and objective._batches is None
    plain = train(PseudoLabels(score_rows, 0.0, 5))
    assert not torch.equal(net.head.weight, plain.head.weight)  # they had a say
    assert torch.equal(net.head.weight, train(PseudoLabels(score_rows, EVERYTHING, 5)).head.weight)


def test_rows_that_do_not_fit_the_device_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.training.rows, "RESIDENT_BYTES_CPU", 0)
    objective = PseudoLabels(score_rows, EVERYTHING, 5)
    assert train(objective).head.weight.isfinite().all()
    assert objective._batches is None


def test_the_pass_can_be_stopped_and_says_what_it_does() -> None:
    class Stop(Exception):
        pass

    phases: list[str] = []

    def progress(phase: str, done: int, total: int) -> None:
        phases.append(phase)
        raise Stop

    objective = PseudoLabels(score_rows, EVERYTHING, 5)
    with pytest.raises(Stop):
        train(objective, Runtime(CPU, 0, progress))
    assert phases == ["pseudo-label"]
    assert objective._rows is None
