"""Bounded training: how many images are looked at, what becomes of the schedule, and a clock that the tests set.

The schedule's shares are those of `models.training.schedule`: a rise over 5 %, the peak until 80 %, a tenth after it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.data import ClassTargets, CycleData, Runtime
from models.deadline import Deadline
from models.inference.predictions import predict
from models.losses.agreement_discrepancy import AgreementDiscrepancy
from models.losses.objectives import CrossEntropy
from models.networks.base import TaskNet
from models.networks.classifier import Classifier, NetConfig
from models.networks.two_classifiers import build_two_classifiers
from models.tasks import CLASSIFICATION
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer, Batch, train_adversarially
from models.training.budget import MEASURED, Pace
from models.training.committee import place_member, train_members
from models.training.rows import passes_over
from models.training.schedule import MASKS, WHOLE_IMAGES, Recipe, Sizes, epochs_for, length_for
from models.training.task_network import train_network

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONFIG = NetConfig("resnet18", 3, 8, 4)
PEAK = 0.05


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def deadline(self, seconds: float) -> Deadline:
        return Deadline.after(seconds, self)


def bright(count: int, unlabeled: int = 0, seed: int = 0) -> CycleData:
    """Noise whose class is the channel that is bright."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(count + unlabeled) % 3)
    pixels = rng.integers(0, 120, (count + unlabeled, 8, 8, 3))
    pixels[np.arange(count + unlabeled), :, :, classes] += 100
    rows = np.arange(count + unlabeled)
    return CycleData(pixels.astype(np.uint8), rows[:count], rows[count:], ClassTargets(classes[:count]), 3)


def fresh() -> Classifier:
    return CLASSIFICATION.build(CONFIG, 0)


class Taking(CrossEntropy):
    """Cross entropy that notes each batch and what came after each pass; a step takes `seconds` of the clock."""

    def __init__(self, clock: Clock | None = None, seconds: float = 0.0) -> None:
        self.clock, self.seconds = clock or Clock(), seconds
        self.batches: list[int] = []
        self.progress: list[float] = []
        self.rates: list[float] = []

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        self.clock.now += self.seconds
        self.batches.append(len(images))
        self.progress.append(progress)
        return super().loss(net, images, targets, progress)

    def after_epoch(self, net: TaskNet, progress: float, learning_rate: float) -> None:
        self.rates.append(learning_rate)


def weights(net: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


# --- how long a bounded training is ---


@given(
    labels=st.integers(2, 100_000),
    bound=st.integers(100, 200_000),
    epochs=st.integers(0, 300),
    batch=st.integers(2, 512),
    sizes=st.sampled_from([WHOLE_IMAGES, MASKS]),
    device=st.sampled_from([CPU, CUDA]),
)
def test_no_more_images_than_the_bound_and_hardly_fewer(
    labels: int, bound: int, epochs: int, batch: int, sizes: Sizes, device: torch.device
) -> None:
    recipe = Recipe(epochs=epochs, batch_size=batch, images=bound)
    length, wanted = length_for(recipe, labels, device, sizes), epochs_for(recipe, labels, device, sizes)
    assert length.images <= min(bound, labels * wanted)
    spare = labels if length.rows == labels else length.passes  # whole passes over all labels, or a label in each pass
    assert length.images > min(bound, labels * wanted) - spare
    assert length.passes <= wanted and 2 <= length.rows <= labels
    if labels * wanted <= bound:
        assert length == length_for(replace(recipe, images=0), labels, device, sizes)
        assert (length.passes, length.rows) == (wanted, labels)


def test_passes_over_fewer_rows_go_on_where_the_last_one_ended() -> None:
    """Ten rows, three at a time: after each ten that were shown, every row was shown equally often."""
    passes = passes_over(10, 3, 2, torch.Generator().manual_seed(0))
    shown = [int(row) for _ in range(20) for batch in next(passes) for row in batch]
    for start in range(0, 60, 10):
        assert sorted(shown[start : start + 10]) == list(range(10))
    assert shown[:10] != shown[10:20]


# --- a bound on the images ---


def test_a_bounded_training_keeps_its_passes_and_its_schedule() -> None:
    """1.5 epochs of 40 labels in 6 passes of 10: the last fifth at a tenth of the rate, progress in sixths."""
    objective, reports = Taking(), []
    runtime = Runtime(CPU, 0, lambda *report: reports.append(report))
    recipe = Recipe(epochs=6, batch_size=5, learning_rate=PEAK, images=60)
    figures = train_network(fresh(), bright(40), objective, recipe, runtime)
    assert objective.batches == [5] * 12
    assert objective.progress == pytest.approx(np.repeat(np.arange(6) / 6, 2))
    assert objective.rates == pytest.approx([PEAK] * 5 + [PEAK / 10])
    assert reports == [("train", done, 6) for done in range(1, 7)]
    assert (figures["images"], figures["epochs"], figures["steps"]) == (60, 1.5, 12)
    assert (figures["bounded_by_images"], figures["bounded_by_seconds"]) == (1, 0)


def test_a_bound_that_does_not_bind_changes_nothing() -> None:
    seen = []
    for images in (0, 36, 10_000):
        net = fresh()
        figures = train_network(net, bright(12), CrossEntropy(), Recipe(epochs=3, images=images), Runtime(CPU, 0))
        seen.append(weights(net))
        assert (figures["images"], figures["epochs"]) == (36, 3)
        assert figures["bounded_by_images"] == figures["bounded_by_seconds"] == 0
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


def test_the_same_seed_and_bound_give_the_same_weights_and_another_seed_other_rows() -> None:
    def trained(seed: int) -> Tensor:
        net = fresh()
        train_network(net, bright(30), CrossEntropy(), Recipe(epochs=4, batch_size=6, images=48), Runtime(CPU, seed))
        return weights(net)

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_a_bounded_training_still_learns() -> None:
    """A third of the images of 12 epochs; chance is a third, too."""
    data, net = bright(240, unlabeled=120), fresh()
    figures = train_network(net, data, CrossEntropy(), Recipe(epochs=12, images=960), Runtime(CPU, 0))
    assert figures["images"] <= 960 and figures["bounded_by_images"] == 1
    predicted = predict(net, data.pixels, data.unlabeled, Runtime(CPU, 0)).predicted
    brightest = data.pixels[data.unlabeled].mean(axis=(1, 2)).argmax(axis=1)
    assert (predicted == brightest).mean() > 0.9


# --- the clock ---


def test_a_share_of_the_time_left() -> None:
    clock = Clock()
    deadline = clock.deadline(10.0)
    clock.now += 4.0
    assert deadline.left() == 6.0
    assert deadline.share(0.5).left() == 3.0
    clock.now += 8.0
    assert deadline.left() == -2.0 and deadline.share(0.5).left() == -1.0


def test_without_a_deadline_the_place_is_the_number_of_steps() -> None:
    pace, places = Pace(12, None, CPU), []
    while not pace.over:
        places.append((pace.place, pace.part(4)))
        pace.step()
    assert places == [(step, step // 3) for step in range(12)]
    assert (pace.place, pace.part(4), pace.affordable()) == (12, 3, None)


@given(
    planned=st.integers(1, 200),
    seconds=st.floats(1.0, 100.0),
    steps=st.lists(st.floats(0.01, 30.0), min_size=200, max_size=200),
)
def test_whatever_the_steps_take_it_is_over_within_one_of_them(
    planned: int, seconds: float, steps: list[float]
) -> None:
    clock = Clock()
    pace, places = Pace(planned, clock.deadline(seconds), CPU), [0.0]
    while not pace.over:
        last = steps[pace.taken]
        clock.now += last
        pace.step()
        places.append(pace.place)
    assert 1 <= pace.taken <= planned
    assert clock.now <= 1000.0 + seconds + last + 1e-6
    assert places == sorted(places) and places[-1] <= planned
    assert pace.taken == planned or clock.now + last > 1000.0 + seconds - 1e-6, "it used the time that there was"


# --- a bound on the seconds ---


@pytest.mark.parametrize("seconds", [10.0, 23.7, 60.0, 119.0])
def test_the_schedule_ends_with_its_tail_inside_the_time(seconds: float) -> None:
    """120 steps of a second are wanted: the rate rises, stays, and falls at four fifths of the time there is."""
    clock = Clock()
    objective = Taking(clock, 1.0)
    optimizer_rates: list[float] = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD) -> None:
        optimizer_rates.append(self.param_groups[0]["lr"])
        step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", noted)
        recipe = Recipe(epochs=10, batch_size=4, learning_rate=PEAK)
        runtime = Runtime(CPU, 0, deadline=clock.deadline(seconds))
        figures = train_network(fresh(), bright(48), objective, recipe, runtime)
    assert seconds - 1.0 <= clock.now - 1000.0 <= seconds
    assert figures["steps"] == len(objective.batches) == int(seconds)
    assert figures["images"] == sum(objective.batches) < 480
    assert (figures["bounded_by_images"], figures["bounded_by_seconds"]) == (0, 1)
    tail = [rate == pytest.approx(PEAK / 10) for rate in optimizer_rates]
    assert tail.index(True) == np.ceil(0.8 * seconds) and all(tail[tail.index(True) :])
    assert objective.progress == sorted(objective.progress) and 0.5 < objective.progress[-1] < 1.0


def test_time_enough_changes_nothing() -> None:
    seen = []
    for deadline in (None, Clock().deadline(10.0)):
        clock, net = Clock(), fresh()
        runtime = Runtime(CPU, 0, deadline=deadline and clock.deadline(1000.0))
        train_network(net, bright(20), Taking(clock, 1.0), Recipe(epochs=4, batch_size=6), runtime)
        seen.append(weights(net))
    assert torch.equal(*seen)


def test_when_the_time_runs_out_what_is_left_is_the_tail() -> None:
    """From step 20 on a step takes ten times as long: one more is taken, at a tenth of the rate."""

    class Slowing(Taking):
        def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
            self.seconds = 1.0 if len(self.batches) < 20 else 10.0
            return super().loss(net, images, targets, progress)

    clock = Clock()
    objective = Slowing(clock)
    runtime = Runtime(CPU, 0, deadline=clock.deadline(40.5))
    train_network(fresh(), bright(48), objective, Recipe(epochs=10, batch_size=4, learning_rate=PEAK), runtime)
    assert len(objective.batches) == 22 and clock.now == 1040.0
    assert objective.rates[-1] == pytest.approx(PEAK), "75 % of the time: its last step began before the fall"
    assert objective.progress[-1] == pytest.approx(0.7)


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 0.5])
def test_without_any_time_a_single_step_is_taken(seconds: float) -> None:
    clock = Clock()
    objective = Taking(clock, 1.0)
    figures = train_network(
        fresh(), bright(48), objective, Recipe(epochs=10), Runtime(CPU, 0, deadline=clock.deadline(seconds))
    )
    assert figures["steps"] == len(objective.batches) == 1 and np.isfinite(figures["loss"])


def test_the_first_steps_tell_how_long_the_passes_are() -> None:
    """A pass of 48 labels would take all of the time; objectives still see the training go from 0 to 1 in its parts."""
    clock = Clock()
    objective = Taking(clock, 1.0)
    runtime = Runtime(CPU, 0, deadline=clock.deadline(24.0))
    train_network(fresh(), bright(96), objective, Recipe(epochs=6, batch_size=4), runtime)
    assert len(objective.batches) == 24
    assert sorted(set(objective.progress)) == pytest.approx([part / 6 for part in range(6)])
    counts = Counter(objective.progress[MEASURED:])
    assert max(counts.values()) <= 4


# --- what else trains in a cycle ---


def test_a_committee_shares_the_time_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    taken: list[Taking] = []

    def cross_entropy(self: object) -> Taking:
        taken.append(Taking(clock, 1.0))
        return taken[-1]

    monkeypatch.setattr(type(CLASSIFICATION), "cross_entropy", cross_entropy)
    members = [place_member(CLASSIFICATION, CONFIG, seed, CPU) for seed in range(3)]
    recipe, runtime = Recipe(epochs=20, batch_size=4, images=200), Runtime(CPU, 0, deadline=clock.deadline(30.0))
    figures = train_members(members, [1, 2, 3], bright(48), recipe, runtime)
    assert [len(one.batches) for one in taken] == [10, 10, 10]
    assert figures["images"] == sum(sum(one.batches) for one in taken)
    assert (figures["bounded_by_images"], figures["bounded_by_seconds"]) == (1, 1)


class Counting(AdversarialTrainer):
    """One weight and a loss of 1; an iteration takes a second."""

    def __init__(self, clock: Clock) -> None:
        recipe = AdversarialRecipe(vae_steps=0, discriminator_steps=1)
        super().__init__({"discriminator": torch.nn.Linear(1, 1)}, recipe, CPU)
        self.clock = clock

    def discriminator_step(self, batch: Batch) -> Tensor:
        self.clock.now += 1.0
        return torch.ones(())


@pytest.mark.parametrize(("seconds", "iterations"), [(0.0, 1), (7.5, 7), (25.0, 25), (50.0, 40), (None, 40)])
def test_adversaries_stop_when_the_time_is_over(seconds: float | None, iterations: int) -> None:
    clock = Clock()
    reports: list[tuple[str, int, int]] = []
    deadline = None if seconds is None else clock.deadline(seconds)
    runtime = Runtime(CPU, 0, lambda *report: reports.append(report), deadline=deadline)
    figures = train_adversarially(Counting(clock), bright(9, unlabeled=9), 40, 4, runtime)
    assert figures["iterations"] == clock.now - 1000.0 == iterations
    assert figures["bounded_by_seconds"] == (iterations < 40)
    assert figures["discriminator_loss"] == 1.0
    assert reports[-1] == ("fit", 40, 40) and len(reports) == iterations
    assert all(0 < done <= 40 for _, done, _ in reports)


class Aligning(AgreementDiscrepancy):
    """ADS's objective, each of whose batches takes a second, those over unlabeled rows too."""

    clock: Clock

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        self.clock.now += 1.0
        return super().loss(net, images, targets, progress)


@pytest.mark.parametrize("seconds", [5.0, 20.0, 40.0, 1000.0])
def test_passes_over_unlabeled_rows_respect_the_time_and_a_labeled_one_follows(seconds: float) -> None:
    clock, log = Clock(), []
    recipe = Recipe(epochs=4, batch_size=4)
    objective = Aligning(build_two_classifiers(32, 3, 2, 0.05, torch.Generator().manual_seed(0)), recipe)
    objective.clock = clock

    def progress(phase: str, done: int, total: int) -> None:
        clock.now += phase == "align"
        log.append(phase)

    runtime = Runtime(CPU, 0, progress, deadline=clock.deadline(seconds))
    figures = train_network(fresh(), bright(16, unlabeled=40), objective, recipe, runtime)
    assert clock.now - 1000.0 <= max(seconds, 1.0)
    assert log[-2:] in (["train", "train"], ["align", "train"], ["train"]) and figures["steps"] >= 1
    if seconds == 1000.0:
        assert log == [*(["align"] * 8 + ["train"]) * 3, "train"]
