"""models.training.task_network and models.losses.objectives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.data import IGNORE, ClassTargets, CycleData, DataError, MaskTargets, Runtime, targets_of
from models.inference.predictions import predict, predict_masks
from models.losses.dense import DenseCrossEntropy
from models.losses.objectives import CrossEntropy, Objective
from models.networks.base import TaskNet
from models.networks.classifier import Classifier, NetConfig
from models.networks.segmenter import Segmenter, SegmenterConfig
from models.pixels import MEAN, STD
from models.tasks import CLASSIFICATION, SEGMENTATION
from models.training import rows as training_rows
from models.training.schedule import MASKS, Recipe, batch_size_for, epochs_for, learning_rate_at, peak_rate_for
from models.training.task_network import TrainingDiverged, train_network

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
NOBODY = np.empty(0, dtype=np.int64)


def tiny(num_classes: int = 2, seed: int = 0) -> Classifier:
    return CLASSIFICATION.build(NetConfig("resnet18", num_classes, 16, 4), seed)


def striped(count: int, num_classes: int = 2, seed: int = 0) -> CycleData:
    """Noisy images whose class is the channel that is bright; `count` labeled rows, the same number after them."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(2 * count) % num_classes)
    pixels = rng.integers(0, 120, (2 * count, 16, 16, 3))
    pixels[np.arange(2 * count), :, :, targets % 3] += 100
    labeled = np.arange(count)
    return CycleData(pixels.astype(np.uint8), labeled, labeled + count, ClassTargets(targets[:count]), num_classes)


def train(net: Classifier, data: CycleData, objective: Objective | None = None, **recipe: Any) -> dict[str, float]:
    return train_network(net, data, objective or CrossEntropy(), Recipe(**recipe), Runtime(CPU, 0))


# --- schedule ---


def test_the_papers_schedule() -> None:
    """1,000 labels on CUDA: 200 epochs of 8 batches, 0.1 until epoch 160 and 0.01 from there."""
    recipe = Recipe()
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)
    epochs = epochs_for(recipe, 1000, CUDA)
    assert epochs == 200
    assert batch_size_for(recipe, 1000 * epochs) == 128
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
    assert batch_size_for(recipe, 20 * 120) == 16
    assert batch_size_for(recipe, 300 * 30) == 32
    assert batch_size_for(recipe, 50_000 * 6) == 128
    assert batch_size_for(Recipe(batch_size=8), 300 * 30) == 8
    assert peak_rate_for(recipe, 32) == pytest.approx(0.05)  # sqrt(32 / 128) = 1/2


def test_warm_up_rises_evenly_to_the_peak() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 4) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


# --- training ---


def test_it_learns_what_can_be_learnt_and_answers_figures() -> None:
    data, net = striped(48, num_classes=3), tiny(3)
    figures = train(net, data, epochs=12)
    held_out = predict(net, data.pixels, data.unlabeled, Runtime(CPU, 0)).predicted
    expected = data.pixels[data.unlabeled].mean(axis=(1, 2)).argmax(axis=1)  # the bright channel is the class
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
    data = CycleData(data.pixels, data.labeled, NOBODY, ClassTargets(np.zeros(labels, dtype=np.int64)), num_classes)
    net = tiny(num_classes)
    figures = train(net, data, epochs=2)
    assert np.isfinite(figures["loss"])
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_vgg_trains_on_a_single_row() -> None:
    pixels = np.full((1, 32, 32, 3), 90, dtype=np.uint8)
    data = CycleData(pixels, np.zeros(1, dtype=np.int64), NOBODY, ClassTargets(np.zeros(1, dtype=np.int64)), 2)
    net = CLASSIFICATION.build(NetConfig("vgg16-bn", 2, 32, 4), 0)
    assert np.isfinite(train(net, data, epochs=1)["loss"])


def test_no_labels_is_an_error() -> None:
    data = striped(4)
    with pytest.raises(DataError, match="no labeled row"):
        train(tiny(), CycleData(data.pixels, NOBODY, data.labeled, ClassTargets(NOBODY), 2))


class HeadBiasSum(Objective):
    """The gradient of every head bias is 1 and of everything else 0."""

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
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

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        assert not self.seen
        self.begun += 1

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        assert net.training
        assert images.dtype == torch.float32
        self.seen.append((progress, len(images), targets.tolist()))
        center = images[:, 0, 8, 8] * STD[0] + MEAN[0]
        self.brightness += (center * 255).round().tolist()
        return super().loss(net, images, targets, progress)


def test_the_objective_gets_matching_targets_and_the_fraction_of_epochs() -> None:
    # image i is filled with the value 10 i + 5 and has class i: pictures and targets must stay together
    count = 20
    pixels = np.empty((count, 16, 16, 3), dtype=np.uint8)
    pixels[:] = (np.arange(count) * 10 + 5)[:, None, None, None]
    rows = np.random.default_rng(0).permutation(count)
    objective = Recording()
    train(
        tiny(count),
        CycleData(pixels, rows, NOBODY, ClassTargets(rows.copy()), count),
        objective,
        epochs=4,
        batch_size=8,
    )
    assert objective.begun == 1
    assert [progress for progress, _, _ in objective.seen] == np.repeat([0.0, 0.25, 0.5, 0.75], 3).tolist()
    targets = [target for _, _, batch in objective.seen for target in batch]
    assert objective.brightness == [10 * target + 5 for target in targets]
    for epoch in range(4):
        assert sorted(targets[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert len({tuple(batch) for _, _, batch in objective.seen}) == 12  # shuffled again each epoch


def test_progress_is_told_after_each_epoch_and_may_stop_the_work() -> None:
    reports: list[tuple[str, int, int]] = []

    def progress(phase: str, done: int, total: int) -> None:
        reports.append((phase, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(tiny(), striped(8), CrossEntropy(), Recipe(epochs=5), Runtime(CPU, 0, progress))
    assert reports == [("train", 1, 5), ("train", 2, 5)]


class Diverging(Objective):
    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
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


# --- segmentation ---


def test_sizes_of_a_segmenters_training() -> None:
    """On a CPU about the same number of images is seen whatever the labels, within bounds; batches are small ones."""
    sizes, recipe = MASKS, Recipe()
    fewest, most = sizes.cpu_epochs
    assert epochs_for(recipe, 1000, CUDA, sizes) == sizes.epochs
    assert epochs_for(Recipe(epochs=3), 100, CPU, sizes) == 3
    assert epochs_for(recipe, 1, CPU, sizes) == most
    assert epochs_for(recipe, 1_000_000, CPU, sizes) == fewest
    labels = sizes.cpu_images // (most - 1)
    assert labels * epochs_for(recipe, labels, CPU, sizes) == pytest.approx(sizes.cpu_images, rel=0.05)
    for labels in (1, 10, 100, 10_000):
        size = batch_size_for(recipe, labels * 10, sizes)
        assert sizes.smallest <= size <= sizes.largest <= 8 and size % sizes.smallest == 0
        assert 0.0 < peak_rate_for(recipe, size, sizes) <= recipe.learning_rate
    assert batch_size_for(recipe, 100_000, sizes) == sizes.largest
    assert batch_size_for(Recipe(batch_size=2), 100_000, sizes) == 2


def halves(count: int, height: int = 24, width: int = 40, seed: int = 0) -> CycleData:
    """Noise with a bright band: the pixels of the band are class 1, all others 0. A tenth of the labeled pixels are
    IGNORE; masks lie in another order than images. As many labeled rows as others."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 100, (2 * count, height, width, 3))
    masks = np.zeros((2 * count, height, width), dtype=np.uint8)
    for row, start in enumerate(rng.integers(0, width // 2, 2 * count)):
        pixels[row, :, start : start + width // 2] += 120
        masks[row, :, start : start + width // 2] = 1
    order = rng.permutation(2 * count)
    kept = np.empty_like(masks)
    kept[order] = np.where(rng.random(masks.shape) < 0.1, IGNORE, masks)
    kept.setflags(write=False)
    rows = rng.permutation(2 * count)
    return CycleData(pixels.astype(np.uint8), rows[:count], rows[count:], MaskTargets(kept, order[rows[:count]]), 2)


def tiny_segmenter(num_classes: int = 2) -> Segmenter:
    return SEGMENTATION.build(SegmenterConfig("drn-d-22", num_classes, 4), 0)


def test_a_segmenter_learns_where_things_are() -> None:
    data, net = halves(16), tiny_segmenter()
    figures = train_network(net, data, DenseCrossEntropy(), Recipe(epochs=20), Runtime(CPU, 0))
    assert (figures["labels"], figures["epochs"]) == (16, 20)
    assert figures["loss"] < 0.3
    right, seen = 0, 0
    for places, masks, _ in predict_masks(net, data.pixels, data.unlabeled, Runtime(CPU, 0)):
        truth = (data.pixels[data.unlabeled[places]].mean(axis=3) > 110).astype(int)  # nearly all pixels of the band
        right, seen = right + (masks == truth).sum(), seen + masks.size
    assert right / seen > 0.85


def test_the_same_seed_gives_the_same_segmenter() -> None:
    states = []
    for seed in (0, 0, 1):
        net = tiny_segmenter()
        train_network(net, halves(4), DenseCrossEntropy(), Recipe(epochs=2), Runtime(CPU, seed))
        states.append(net.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


class Watching(DenseCrossEntropy):
    """Writes down the rows of each batch, and checks that every mask is that of its image, pixel by pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[int]] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.masks: list[Tensor] = []

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        shown = [((images[:, channel] * STD[channel] + MEAN[channel]) * 255).round() for channel in range(3)]
        inside = shown[2] > 0  # outside of the image it is black
        assert torch.equal(targets.float() * 20, torch.where(inside, shown[0], 20.0 * IGNORE))
        rows = shown[1].amax(dim=(1, 2)).long()
        assert torch.equal(shown[1], torch.where(inside, rows[:, None, None].float(), 0.0))
        self.rows.append(rows.tolist())
        self.shapes.add(tuple(targets.shape[1:]))
        self.masks.append(targets)
        return super().loss(net, images, targets, progress)


def numbered(count: int, height: int = 12, width: int = 20) -> CycleData:
    """A pixel of image i says 20 times the class it is of, the number i, and 255; its classes are drawn at random."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, (count, height, width))
    numbers = np.broadcast_to(np.arange(count)[:, None, None], classes.shape)
    pixels = np.stack([20 * classes, numbers, np.full_like(classes, 255)], axis=-1).astype(np.uint8)
    order = rng.permutation(count)
    masks = np.empty(classes.shape, dtype=np.uint8)
    masks[order] = classes
    rows = rng.permutation(count)[:-1]
    return CycleData(pixels, rows, NOBODY, MaskTargets(masks, order[rows]), 5)


@pytest.mark.parametrize("crop", [0, 8, 16])  # 16 is higher than the images
def test_resident_or_streamed_images_and_their_masks_are_cut_and_mirrored_alike(
    crop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seen = numbered(12), []
    for resident_bytes in (1 << 30, 0):
        monkeypatch.setattr(training_rows, "RESIDENT_BYTES_CPU", resident_bytes)
        objective = Watching()
        recipe = Recipe(epochs=3, batch_size=4, crop=crop)
        train_network(tiny_segmenter(5), data, objective, recipe, Runtime(CPU, 0))
        assert objective.shapes == {(crop, crop) if crop else (12, 20)}
        assert len(objective.rows) == 9
        for epoch in range(3):
            batches = objective.rows[3 * epoch : 3 * epoch + 3]
            assert sorted(row for batch in batches for row in batch) == sorted(data.labeled)
        seen.append([sorted(batch) for batch in objective.rows])
    assert seen[0] == seen[1]  # the same batches, though each in the order in which the file is read


def test_whole_images_are_shown_mirrored_or_not() -> None:
    data, objective = numbered(12), Watching()
    train_network(tiny_segmenter(5), data, objective, Recipe(epochs=4, batch_size=4), Runtime(CPU, 0))
    masks, ways = targets_of(data, MaskTargets), set()
    mask_of = dict(zip(data.labeled.tolist(), masks.rows.tolist(), strict=True))
    for rows, targets in zip(objective.rows, objective.masks, strict=True):
        for row, target in zip(rows, targets, strict=True):
            mask = torch.from_numpy(masks.masks[mask_of[row]])
            ways.add((torch.equal(target, mask), torch.equal(target, mask.flip(1))))
    assert ways == {(True, False), (False, True)}


def test_a_mask_with_a_class_too_many_is_refused_in_words() -> None:
    data = halves(4)
    targets = targets_of(data, MaskTargets)
    masks = targets.masks.copy()
    masks[targets.rows[2], 3, 5] = 2
    wrong = dataclasses.replace(data, targets=MaskTargets(masks, targets.rows))
    with pytest.raises(DataError, match=f"mask in row {targets.rows[2]} holds the class 2, and there are 2"):
        train_network(tiny_segmenter(), wrong, DenseCrossEntropy(), Recipe(epochs=1), Runtime(CPU, 0))
    others = np.array([0, 1, 3])
    fine = dataclasses.replace(wrong, labeled=data.labeled[others], targets=wrong.targets.at(others))
    train_network(tiny_segmenter(), fine, DenseCrossEntropy(), Recipe(epochs=1), Runtime(CPU, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_a_segmenter_learns_without_waiting_in_the_step() -> None:
    data, net = halves(32), tiny_segmenter()
    train_network(net, data, DenseCrossEntropy(), Recipe(epochs=1), Runtime(CUDA, 0))  # fills caches of constants

    class NoWaiting(DenseCrossEntropy):
        def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
            super().begin(net, data, runtime)
            torch.cuda.set_sync_debug_mode("error")

    def progress(phase: str, done: int, total: int) -> None:
        if done == total:
            torch.cuda.set_sync_debug_mode("default")

    try:
        figures = train_network(net, data, NoWaiting(), Recipe(epochs=5), Runtime(CUDA, 0, progress))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert figures["loss"] < 0.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_it_learns_without_waiting_in_the_step() -> None:
    data, net = striped(256, num_classes=3), tiny(3)
    runtime = Runtime(CUDA, 0)
    train_network(net, data, CrossEntropy(), Recipe(epochs=1), runtime)  # fills caches of constants

    class NoWaiting(CrossEntropy):
        def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
            torch.cuda.set_sync_debug_mode("error")

    def progress(phase: str, done: int, total: int) -> None:
        if done == total:
            torch.cuda.set_sync_debug_mode("default")

    try:
        train_network(net, data, NoWaiting(), Recipe(epochs=15), Runtime(CUDA, 0, progress))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    held_out = predict(net, data.pixels, data.unlabeled, runtime).predicted
    expected = data.pixels[data.unlabeled].mean(axis=(1, 2)).argmax(axis=1)
    assert (held_out == expected).mean() > 0.95
