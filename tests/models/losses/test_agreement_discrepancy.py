"""The passes over unlabeled rows: what moves in which step, how long they are, when they happen (ADS, Fu et al., AAAI
2021)."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime
from models.losses import agreement_discrepancy as alignment
from models.losses.agreement_discrepancy import AgreementDiscrepancy, Alignment, plan
from models.losses.objectives import CrossEntropy
from models.networks.base import TaskNet
from models.networks.classifier import Classifier, NetConfig
from models.networks.two_classifiers import (
    TwoClassifiers,
    build_two_classifiers,
    disagreement,
    one_vs_all_loss,
    uncertainty,
)
from models.tasks import CLASSIFICATION
from models.training import rows as training_rows
from models.training.schedule import Recipe
from models.training.task_network import train_network

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NOBODY = np.empty(0, dtype=np.int64)
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05)
LABELED, UNLABELED, SIZE = 20, 30, 8


def make_data(labeled: int = LABELED, unlabeled: int = UNLABELED) -> CycleData:
    count = labeled + unlabeled
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    return CycleData(pixels, np.arange(labeled), np.arange(labeled, count), ClassTargets(np.arange(labeled) % 3), 3)


def make_nets() -> tuple[Classifier, TwoClassifiers]:
    net = CLASSIFICATION.build(NetConfig("resnet18", 3, SIZE, 4), 0)
    return net, build_two_classifiers(32, 3, 2, 0.05, torch.Generator().manual_seed(0))


def make_images(count: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def changed(net: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}


# --- the steps ---


def test_agreement_moves_the_trunk_and_nothing_else() -> None:
    net, classifiers = make_nets()
    before, classifiers_before = snapshot(net), snapshot(classifiers)
    Alignment(net, classifiers, RECIPE, 0.1).agreement_step(make_images())
    assert changed(net, before) == {key for key in before if key.startswith("trunk.")}
    assert changed(classifiers, classifiers_before) == set()
    assert all(parameter.requires_grad for parameter in classifiers.parameters())
    assert all(parameter.grad is None for parameter in [*classifiers.parameters(), *net.head.parameters()])


def test_discrepancy_moves_both_classifiers_and_nothing_else_batch_statistics_included() -> None:
    net, classifiers = make_nets()
    net.train()
    before, classifiers_before = snapshot(net), snapshot(classifiers)
    passes = Alignment(net, classifiers, RECIPE, 0.1)
    passes.discrepancy_step(make_images(), torch.arange(8) % 3, make_images(seed=1))
    assert changed(net, before) == set()
    assert changed(classifiers, classifiers_before) == classifiers_before.keys()
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_agreement_steps_make_the_classifiers_agree() -> None:
    net, classifiers = make_nets()
    passes, images = Alignment(net, classifiers, RECIPE, 0.1), make_images(16)
    losses = [passes.agreement_step(images).item() for _ in range(15)]
    assert losses[-1] < 0.6 * losses[0]


def test_discrepancy_steps_part_them_where_they_are_uncertain_and_teach_them_the_labels() -> None:
    net, classifiers = make_nets()
    net.eval()
    labeled, unlabeled, targets = make_images(12), make_images(12, seed=1), torch.arange(12) % 3

    def state() -> tuple[float, float]:
        with torch.no_grad():
            known, unknown = classifiers(net.features(labeled)), classifiers(net.features(unlabeled))
            apart = (disagreement(unknown) * uncertainty(unknown)).sum() / uncertainty(unknown).sum()
            return one_vs_all_loss(known, targets).item(), apart.item()

    passes = Alignment(net, classifiers, RECIPE, 0.1)
    loss, apart = state()
    for _ in range(30):
        passes.discrepancy_step(labeled, targets, unlabeled)
    later_loss, later_apart = state()
    assert later_loss < 0.7 * loss
    assert later_apart > apart


def test_the_optimizers_have_momentum_and_follow_the_rate() -> None:
    """A step at rate 0 moves nothing; were the optimizer rebuilt, the step after it would be a plain one."""
    net, classifiers = make_nets()
    passes = Alignment(net, classifiers, Recipe(momentum=0.9, weight_decay=0.0), 0.1)
    passes.set_learning_rate(0.0)
    before = snapshot(classifiers)
    for _ in range(2):
        passes.discrepancy_step(make_images(), torch.arange(8) % 3, make_images(seed=1))
    assert changed(classifiers, before) == set()
    passes.set_learning_rate(0.1)
    weight = classifiers.first.linear.weight
    passes.discrepancy_step(make_images(), torch.arange(8) % 3, make_images(seed=1))
    assert weight.grad is not None
    moved = before["first.linear.weight"] - weight.detach()
    torch.testing.assert_close(moved, 0.1 * (1 + 0.9 + 0.81) * weight.grad, rtol=1e-3, atol=1e-6)


# --- how long the passes are ---


@pytest.mark.parametrize(
    ("recipe", "labeled", "unlabeled", "device", "expected"),
    [
        (Recipe(), 1000, 49_000, CUDA, (200, 79, 128)),  # 10,000 rows
        (Recipe(), 50, 49_950, CUDA, (200, 79, 128)),  # also where labels come in small batches
        (Recipe(), 1000, 300, CUDA, (200, 3, 128)),
        (Recipe(epochs=10, batch_size=8), 80, 10_000, CPU, (10, 10, 8)),  # as many as labeled ones
        (Recipe(epochs=10, batch_size=8), 80, 20, CPU, (10, 3, 8)),
        (Recipe(epochs=10, batch_size=8), 80, 5, CPU, (10, 1, 5)),
        (Recipe(epochs=10, batch_size=8), 80, 1, CPU, (10, 1, 2)),
        (Recipe(epochs=10, batch_size=8), 1, 100, CPU, (10, 1, 8)),
    ],
)
def test_epochs_batches_and_their_size(
    recipe: Recipe, labeled: int, unlabeled: int, device: torch.device, expected: tuple[int, int, int]
) -> None:
    assert plan(recipe, labeled, unlabeled, device) == expected


# --- the training ---


class Watched(AgreementDiscrepancy):
    """Notes what happens in which order."""

    def __init__(self, classifiers: TwoClassifiers, recipe: Recipe) -> None:
        super().__init__(classifiers, recipe)
        self.log: list[str] = []

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        self.log.append("labeled")
        return super().loss(net, images, targets, progress)


def run(data: CycleData, recipe: Recipe = RECIPE) -> tuple[list[str], Classifier, TwoClassifiers]:
    net, classifiers = make_nets()
    objective = Watched(classifiers, recipe)

    def progress(phase: str, done: int, total: int) -> None:
        assert 0 < done <= total
        objective.log.append(phase)

    train_network(net, data, objective, recipe, Runtime(CPU, 0, progress))
    return objective.log, net, classifiers


def test_the_passes_stand_between_the_labeled_ones() -> None:
    log, net, classifiers = run(make_data())
    epoch = ["labeled"] * 3
    assert log == [*epoch, *["align"] * 6, "train", *epoch, *["align"] * 6, "train", *epoch, "train"]
    assert not net.training
    assert not classifiers.training


def test_the_passes_follow_the_trainings_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth from 80 % of the steps on; the last epoch has no passes."""
    rates: list[float] = []
    plain = Alignment.set_learning_rate

    def set_learning_rate(self: Alignment, learning_rate: float) -> None:
        rates.append(learning_rate)
        plain(self, learning_rate)

    monkeypatch.setattr(Alignment, "set_learning_rate", set_learning_rate)
    run(make_data(8, 4), Recipe(epochs=10, batch_size=8, learning_rate=0.05))
    assert rates == [0.05] * 8 + [0.05 / 10]


def test_without_unlabeled_rows_it_is_labeled_training() -> None:
    log, net, classifiers = run(make_data(unlabeled=0))
    assert set(log) == {"labeled", "train"}
    assert all(parameter.isfinite().all() for parameter in [*net.parameters(), *classifiers.parameters()])


def test_the_labeled_loss_is_that_of_the_linear_head_and_of_both_classifiers() -> None:
    net, classifiers = make_nets()
    net.eval()
    images, targets = make_images(), torch.arange(8) % 3
    loss = AgreementDiscrepancy(classifiers, RECIPE).loss(net, images, targets, 0.0)
    expected = functional.cross_entropy(net(images), targets)
    wanted = torch.eye(3)[targets]
    for logits in classifiers(net.features(images)):
        expected = expected + functional.binary_cross_entropy(torch.sigmoid(logits), wanted)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_unlabeled_rows_take_part_and_the_same_seed_gives_the_same_training() -> None:
    data = make_data()
    _, first, classifiers = run(data)
    _, again, classifiers_again = run(data)
    assert changed(first, snapshot(again)) == changed(classifiers, snapshot(classifiers_again)) == set()
    data.pixels[LABELED:] = 255 - data.pixels[LABELED:]
    _, other, _ = run(data)
    assert "trunk.conv1.weight" in changed(first, snapshot(other))


def test_the_draws_of_the_labeled_pass_are_those_of_a_plain_training() -> None:
    seen: list[list[Tensor]] = []
    for make in (lambda: AgreementDiscrepancy(make_nets()[1], RECIPE), CrossEntropy):
        images: list[Tensor] = []
        objective = make()
        plain = objective.loss

        def loss(net: Classifier, x: Tensor, y: Tensor, at: float, plain: Any = plain, images: Any = images) -> Tensor:
            images.append(x.clone())
            return plain(net, x, y, at)

        objective.loss = loss  # type: ignore[method-assign]
        train_network(make_nets()[0], make_data(), objective, RECIPE, Runtime(CPU, 0))
        seen.append(images)
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_streams_are_closed_also_when_the_training_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def progress(phase: str, done: int, total: int) -> None:
        if phase == "align":
            assert any(thread.name.startswith("read-rows") for thread in threading.enumerate())
            raise Stop

    streams: list[Any] = []
    endless = alignment._endless

    def noted(*arguments: Any) -> Any:
        streams.append(endless(*arguments))
        return streams[-1]

    monkeypatch.setattr(alignment, "_endless", noted)
    monkeypatch.setattr(training_rows, "RESIDENT_BYTES_CPU", 0)  # rows are streamed by threads
    before = threading.active_count()
    net, classifiers = make_nets()
    with pytest.raises(Stop):
        train_network(net, make_data(), AgreementDiscrepancy(classifiers, RECIPE), RECIPE, Runtime(CPU, 0, progress))
    assert threading.active_count() == before
    assert [stream.gi_frame for stream in streams] == [None, None]  # closed, not merely forgotten


@pytest.mark.parametrize(("labeled", "unlabeled"), [(1, 1), (2, 30), (21, 3)])
def test_odd_numbers_of_rows(labeled: int, unlabeled: int) -> None:
    _, net, classifiers = run(make_data(labeled, unlabeled))
    assert all(parameter.isfinite().all() for parameter in [*net.parameters(), *classifiers.parameters()])
