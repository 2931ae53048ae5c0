"""models.training and models.objectives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.classifier import Classifier, NetConfig, build_classifier
from models.data import CycleData, DataError, Runtime
from models.inference import predict
from models.objectives import CrossEntropy, Objective
from models.pixels import MEAN, STD
from models.training import (
    Recipe,
    TrainingDiverged,
    batch_size_for,
    epochs_for,
    learning_rate_at,
    peak_rate_for,
    train_network,
)

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
NOBODY = np.empty(0, dtype=np.int64)


def tiny(num_classes: int = 2, seed: int = 0) -> Classifier:
    return build_classifier(NetConfig("resnet18", num_classes, 16, 4), seed)


def striped(count: int, num_classes: int = 2, seed: int = 0) -> CycleData:
    """Noisy images whose class is the channel that is bright; `count` labelled rows, the same number after them."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(2 * count) % num_classes)
    pixels = rng.integers(0, 120, (2 * count, 16, 16, 3))
    pixels[np.arange(2 * count), :, :, targets % 3] += 100
    labelled = np.arange(count)
    return CycleData(pixels.astype(np.uint8), labelled, targets[:count], labelled + count, num_classes)


def train(net: Classifier, data: CycleData, objective: Objective | None = None, **recipe: Any) -> dict[str, float]:
    return train_network(net, data, objective or CrossEntropy(), Recipe(**recipe), Runtime(CPU, 0))


# --- schedule ---


def test_the_papers_schedule() -> None:
    """1,000 labels on CUDA: 200 epochs of 8 batches, 0.1 until epoch 160 and 0.01 from there."""
    recipe = Recipe()
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)
    epochs = epochs_for(recipe, 1000, CUDA)
    assert epochs == 200
    assert batch_size_for(recipe, 1000, epochs) == 128
    assert peak_rate_for(recipe, 128) == 0.1
    rates = [learning_rate_at(step, 1600, 0.1, 0) for step in range(1600)]
    assert set(rates[: 160 * 8]) == {0.1}
    assert rates[160 * 8 :] == pytest.approx([0.01] * 320)


def test_epochs_on_a_cpu_scale_with_the_labels() -> None:
    chosen = [epochs_for(Recipe(), labels, CPU) for labels in (1, 100, 300, 1000, 50_000)]
    assert chosen == [120, 90, 30, 9, 6]
    assert epochs_for(Recipe(epochs=3), 1000, CPU) == epochs_for(Recipe(epochs=3), 1000, CUDA) == 3


def test_short_trainings_take_smaller_batches_at_a_lower_rate() -> None:
    recipe = Recipe()
    assert batch_size_for(recipe, 20, 120) == 16
    assert batch_size_for(recipe, 300, 30) == 32
    assert batch_size_for(recipe, 50_000, 6) == 128
    assert batch_size_for(Recipe(batch_size=8), 300, 30) == 8
    assert peak_rate_for(recipe, 32) == pytest.approx(0.05)  # sqrt(32 / 128) = 1/2


def test_warm_up_rises_evenly_to_the_peak() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 4) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


# --- training ---


def test_it_learns_what_can_be_learnt_and_answers_figures() -> None:
    data, net = striped(48, num_classes=3), tiny(3)
    figures = train(net, data, epochs=12)
    held_out = predict(net, data.pixels, data.unlabelled, Runtime(CPU, 0)).predicted
    expected = data.pixels[data.unlabelled].mean(axis=(1, 2)).argmax(axis=1)  # the bright channel is the class
    assert (held_out == expected).mean() > 0.95
    assert figures["labels"] == 48
    assert figures["epochs"] == 12
    assert figures["steps"] == 12 * 3
    assert figures["loss"] < 0.5
    assert figures["images_per_second"] == pytest.approx(48 * 12 / figures["seconds"])
    assert not net.training


def test_the_same_seed_gives_the_same_weights_and_moves_no_global_generator() -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        net = tiny()
        train_network(net, striped(20), CrossEntropy(), Recipe(epochs=2), Runtime(CPU, seed))
        return net.state_dict()

    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    torch.manual_seed(2)
    again, other = weights(0), weights(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("labels", [1, 2, 3, 17, 33])
@pytest.mark.parametrize("num_classes", [1, 2, 100])
def test_few_labels_of_few_classes_train(labels: int, num_classes: int) -> None:
    data = striped(labels)
    data = CycleData(data.pixels, data.labelled, np.zeros(labels, dtype=np.int64), NOBODY, num_classes)
    net = tiny(num_classes)
    figures = train(net, data, epochs=2)
    assert np.isfinite(figures["loss"])
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_vgg_trains_on_a_single_row() -> None:
    pixels = np.full((1, 32, 32, 3), 90, dtype=np.uint8)
    data = CycleData(pixels, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), NOBODY, 2)
    net = build_classifier(NetConfig("vgg16-bn", 2, 32, 4), 0)
    assert np.isfinite(train(net, data, epochs=1)["loss"])


def test_no_labels_is_an_error() -> None:
    data = striped(4)
    with pytest.raises(DataError, match="no labelled row"):
        train(tiny(), CycleData(data.pixels, NOBODY, NOBODY, data.labelled, 2))


class HeadBiasSum(Objective):
    """The gradient of every head bias is 1 and of everything else 0."""

    def loss(self, net: Classifier, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        return net.head.bias.sum() + 0.0 * net(images).sum()


def test_the_step_is_sgd_with_momentum_and_weight_decay() -> None:
    net = tiny()
    bias = net.head.bias.detach().clone().double()
    recipe = {"epochs": 3, "batch_size": 16, "learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.1}
    train(net, striped(16), HeadBiasSum(), **recipe)
    velocity = torch.zeros_like(bias)
    for rate in (0.5, 0.5, 0.5):  # 3 steps of one batch each; 80 % of 3 is 2.4, so none is past it
        velocity = 0.9 * velocity + (1.0 + 0.1 * bias)
        bias = bias - rate * velocity
    torch.testing.assert_close(net.head.bias.detach().double(), bias, rtol=1e-5, atol=1e-6)


class Recording(CrossEntropy):
    """Cross entropy that writes down what it is given."""

    def __init__(self) -> None:
        self.begun = 0
        self.seen: list[tuple[float, int, list[int]]] = []
        self.brightness: list[float] = []

    def begin(self, net: Classifier, data: CycleData, runtime: Runtime) -> None:
        assert not self.seen
        self.begun += 1

    def loss(self, net: Classifier, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        assert net.training
        assert images.dtype == torch.float32
        self.seen.append((progress, len(images), targets.tolist()))
        centre = images[:, 0, 8, 8] * STD[0] + MEAN[0]
        self.brightness += (centre * 255).round().tolist()
        return super().loss(net, images, targets, progress)


def test_the_objective_gets_matching_targets_and_the_fraction_of_epochs() -> None:
    # image i is filled with the value 10 i + 5 and has class i: pictures and targets must stay together
    count = 20
    pixels = np.empty((count, 16, 16, 3), dtype=np.uint8)
    pixels[:] = (np.arange(count) * 10 + 5)[:, None, None, None]
    rows = np.random.default_rng(0).permutation(count)
    objective = Recording()
    train(tiny(count), CycleData(pixels, rows, rows.copy(), NOBODY, count), objective, epochs=4, batch_size=8)
    assert objective.begun == 1
    assert [progress for progress, _, _ in objective.seen] == np.repeat([0.0, 0.25, 0.5, 0.75], 3).tolist()
    targets = [target for _, _, batch in objective.seen for target in batch]
    assert objective.brightness == [10 * target + 5 for target in targets]
    for epoch in range(4):
        assert sorted(targets[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert len({tuple(batch) for _, _, batch in objective.seen}) == 12  # shuffled anew each epoch


def test_progress_is_told_after_each_epoch_and_may_stop_the_work() -> None:
    told: list[tuple[str, int, int]] = []

    def progress(phase: str, done: int, total: int) -> None:
        told.append((phase, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(tiny(), striped(8), CrossEntropy(), Recipe(epochs=5), Runtime(CPU, 0, progress))
    assert told == [("train", 1, 5), ("train", 2, 5)]


class Diverging(Objective):
    def loss(self, net: Classifier, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        return functional.cross_entropy(net(images), targets) * float("nan")


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(TrainingDiverged, match="lower learning rate"):
        train(tiny(), striped(4), Diverging(), epochs=1)


def test_cross_entropy_by_hand() -> None:
    net = tiny(4)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    loss = CrossEntropy().loss(net, torch.zeros(2, 3, 16, 16), torch.tensor([1, 3]), 0.0)
    assert loss.item() == pytest.approx(-(np.log(0.2) + np.log(0.4)) / 2, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_it_learns_without_waiting_in_the_step() -> None:
    data, net = striped(256, num_classes=3), tiny(3)
    runtime = Runtime(CUDA, 0)
    train_network(net, data, CrossEntropy(), Recipe(epochs=1), runtime)  # fills caches of constants

    class NoWaiting(CrossEntropy):
        def begin(self, net: Classifier, data: CycleData, runtime: Runtime) -> None:
            torch.cuda.set_sync_debug_mode("error")

    def progress(phase: str, done: int, total: int) -> None:
        if done == total:
            torch.cuda.set_sync_debug_mode("default")

    try:
        train_network(net, data, NoWaiting(), Recipe(epochs=15), Runtime(CUDA, 0, progress))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    held_out = predict(net, data.pixels, data.unlabelled, runtime).predicted
    expected = data.pixels[data.unlabelled].mean(axis=(1, 2)).argmax(axis=1)
    assert (held_out == expected).mean() > 0.95
