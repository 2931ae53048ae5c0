"""Losses of masks and covariances of pixels, against those of rows and values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import IGNORE, CycleData, MaskTargets, Runtime
from models.inference.dropout import draw_masks
from models.inference.stage_dropout import draw_stage_masks
from models.losses.dense import DenseCrossEntropy, DenseDropoutCrossEntropy, DenseISDA, isda_logits
from models.losses.isda import CovarianceEstimator, class_covariance, isda_loss, semantic_table
from models.losses.pixel_covariance import pixel_covariance, targets_at, update_from_pixels
from models.networks.base import TaskNet
from models.networks.segmenter import SegmenterConfig
from models.tasks import SEGMENTATION

CPU = torch.device("cpu")
KINDS = pytest.mark.parametrize("kind", ["diag", "full"])
DTYPES = pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
CLASSES, FEATURES = 3, 4
MASK = MaskTargets(np.zeros((1, 2, 2), dtype=np.uint8), np.zeros(1, dtype=np.int64))
DATA = CycleData(
    np.zeros((1, 2, 2, 3), dtype=np.uint8), np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64), MASK, CLASSES
)


class Cells(TaskNet):
    """Features of a cell of `stride` x `stride` pixels: of the mean of its pixels and of nothing else."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.task = SEGMENTATION
        self.config = SegmenterConfig("drn-d-22", CLASSES)
        self.stride = stride
        self.mix = nn.Conv2d(3, FEATURES, 1)
        self.head = nn.Conv2d(FEATURES, CLASSES, 1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)
        self.modes: list[bool] = []

    def features(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.mix(functional.avg_pool2d(x, self.stride, ceil_mode=True))

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.features(x), ()


def make_batch(count: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) and targets (B, H, W) int64, a third of them IGNORE."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, CLASSES, (count, height, width), generator=generator)
    ignored = torch.rand(count, height, width, generator=generator) < 1 / 3
    return torch.randn(count, 3, height, width, generator=generator), targets.masked_fill(ignored, IGNORE)


def begun(net: Cells, strength: float, kind: str = "diag") -> DenseISDA:
    objective = DenseISDA(strength, kind)
    objective.begin(net, DATA, Runtime(CPU, 0))
    return objective


def plain(net: Cells, images: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy by torch alone."""
    logits = net.head(net.features(images))
    large = functional.interpolate(logits, size=targets.shape[1:], mode="bilinear", align_corners=False)
    return functional.cross_entropy(large, targets.long(), ignore_index=255)


# --- targets at the features' size ---


@DTYPES
def test_targets_in_the_middle_of_their_cells(dtype: torch.dtype) -> None:
    targets = torch.arange(32).view(1, 4, 8).to(dtype)
    assert targets_at(targets, 2, 2).tolist() == [[[8 + 2, 8 + 6], [24 + 2, 24 + 6]]]  # rows 1 and 3, columns 2 and 6
    assert targets_at(targets, 4, 8).equal(targets)
    assert targets_at(targets, 1, 1).tolist() == [[[16 + 4]]]


def test_targets_are_nearest_to_the_centres_for_every_size() -> None:
    for size in range(1, 24):
        targets = torch.arange(size).view(1, 1, size)
        for places in range(1, size + 1):
            expected = functional.interpolate(targets.double()[None], size=(1, places), mode="nearest-exact")[0]
            center = (torch.arange(places) + 0.5) * size / places
            found = targets_at(targets, 1, places)
            assert ((found + 0.5 - center).abs() <= 0.5 + 1e-9).all()
            if size % places == 0:  # elsewhere torch's own rounding may take the other one of two as near
                assert found.tolist() == expected.tolist()


# --- cross entropy ---


@DTYPES
@pytest.mark.parametrize("count", [1, 3])
def test_cross_entropy_of_the_labeled_pixels(dtype: torch.dtype, count: int) -> None:
    net, (images, targets) = Cells(4), make_batch(count, 10, 13)  # maps of 3 x 4: the last cells are cut
    loss = DenseCrossEntropy().loss(net, images, targets.to(dtype), 0.5)
    torch.testing.assert_close(loss, plain(net, images, targets))


def test_class_weights_weigh_the_mean() -> None:
    net, (images, targets) = Cells(4), make_batch(2, 8, 8)
    weight = torch.tensor([1.0, 0.0, 5.0])
    logits = net.head(net.features(images))
    large = functional.interpolate(logits, size=(8, 8), mode="bilinear", align_corners=False)
    expected = functional.cross_entropy(large, targets, weight, ignore_index=255)
    objective = DenseCrossEntropy()
    objective.begin(net, replace(DATA, targets=replace(MASK, class_weight=weight.numpy())), Runtime(CPU, 0))
    torch.testing.assert_close(objective.loss(net, images, targets, 0.5), expected)


def test_dropout_drops_channels_of_whole_images() -> None:
    net, (images, targets) = Cells(4), make_batch(3, 8, 8)
    objective = DenseDropoutCrossEntropy(0.5)
    objective.begin(net, DATA, Runtime(CPU, 7))
    loss = objective.loss(net, images, targets, 0.5)
    masks = draw_masks(3, FEATURES, 0.5, Runtime(CPU, 7).generator("dropout"))
    thinned = torch.stack([maps * mask[:, None, None] for maps, mask in zip(net.features(images), masks, strict=True)])
    large = functional.interpolate(net.head(thinned), size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss, functional.cross_entropy(large, targets, ignore_index=255))
    assert loss != objective.loss(net, images, targets, 0.5)  # other masks


def test_dropout_at_stages_drops_channels_of_each_and_of_the_features() -> None:
    """Against the trunk's layers one by one, in eval mode, where an image is judged alone."""
    net = SEGMENTATION.build(SegmenterConfig("drn-d-22", CLASSES, 1), 0).eval()
    images, targets = make_batch(2, 16, 16)
    objective = DenseDropoutCrossEntropy(0.5, stages=True)
    objective.begin(net, DATA, Runtime(CPU, 7))
    loss = objective.loss(net, images, targets, 0.5)
    masks = iter(draw_stage_masks(net, 2, 0.5, Runtime(CPU, 7).generator("dropout")))
    x = images
    for name, layer in net.trunk.named_children():
        x = layer(x)
        if name in ("layer3", "layer4", "layer5", "layer6"):
            x = x * next(masks)[:, :, None, None]
    logits = net.head(x * next(masks)[:, :, None, None])
    large = functional.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss, functional.cross_entropy(large, targets, ignore_index=255))
    assert loss != objective.loss(net, images, targets, 0.5)  # other masks


# --- ISDA ---


def test_augmented_logits_by_hand() -> None:
    """w = (0, 1), Σ_0 = 4, Σ_1 = 9: Q = (0, 4; 9, 0). At λ = 1 half of row y is added, and nothing where y is to be
    ignored."""
    table = semantic_table(torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [9.0]]))
    targets = torch.tensor([[[0, 1, IGNORE]]])
    found = isda_logits(torch.ones(1, 2, 1, 3), targets, table, 1.0)
    assert found.tolist() == [[[[1.0, 5.5, 1.0]], [[3.0, 1.0, 1.0]]]]


@pytest.mark.parametrize("progress", [0.0, 0.5])
@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_no_strength_is_cross_entropy(strength: float, progress: float) -> None:
    net, (images, targets) = Cells(4), make_batch(2, 8, 12)
    objective = begun(net, strength)
    for _ in range(2):
        loss = objective.loss(net, images, targets, progress)
        if strength * progress == 0.0:
            torch.testing.assert_close(loss, plain(net, images, targets))
        else:
            assert not torch.isclose(loss, plain(net, images, targets), rtol=1e-3)


@KINDS
@DTYPES
@pytest.mark.parametrize("count", [1, 9])
def test_one_pixel_for_an_image_is_isda_of_images(kind: str, dtype: torch.dtype, count: int) -> None:
    """Maps of 1 x 1 and masks of one class each: the loss of rows, whose covariance is that of the batch."""
    net, (images, _) = Cells(8), make_batch(count, 8, 8)
    targets = torch.arange(count) % CLASSES
    features = net.features(images)
    assert features.shape == (count, FEATURES, 1, 1)
    rows = features.flatten(1)
    table = semantic_table(net.head.weight.flatten(1), class_covariance(rows.detach(), targets, CLASSES, kind))
    expected = isda_loss(net.head(features).flatten(1), targets, table, 2.0 * 0.25)
    masks = targets[:, None, None].expand(-1, 8, 8).to(dtype)
    objective = begun(net, 2.0, kind)
    loss = objective.loss(net, images, masks, 0.25)
    torch.testing.assert_close(loss, expected)
    if count > 1:
        assert loss > plain(net, images, masks)
    theirs = torch.autograd.grad(expected, list(net.parameters()))
    for ours, other in zip(torch.autograd.grad(loss, list(net.parameters())), theirs, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


def test_augmentation_is_enlarged_with_the_logits() -> None:
    """At full resolution: cross entropy of the augmented logits, those of pixels to ignore being plain."""
    net, (images, targets) = Cells(4), make_batch(2, 10, 13)
    objective = begun(net, 2.0)
    loss = objective.loss(net, images, targets, 0.5)
    assert objective.estimator is not None
    table = semantic_table(net.head.weight.flatten(1), objective.estimator.covariance[:CLASSES])
    nearest = targets_at(targets, 3, 4)
    augmented = net.head(net.features(images)).clone()
    for image, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)).tolist():
        target = nearest[image, row, column]
        if target != IGNORE:
            augmented[image, :, row, column] += 0.5 * table[target]
    large = functional.interpolate(augmented, size=(10, 13), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss, functional.cross_entropy(large, targets, ignore_index=255))


@pytest.mark.parametrize("count", [1, 2])
def test_without_a_labeled_pixel_the_loss_is_zero_and_so_are_its_gradients(count: int) -> None:
    net, (images, targets) = Cells(4), make_batch(count, 8, 8)
    for objective in (begun(net, 2.0), DenseCrossEntropy()):
        loss = objective.loss(net, images, torch.full_like(targets, IGNORE), 0.5)
        assert loss.item() == 0.0
        net.zero_grad()
        loss.backward()
        assert all(parameter.grad.abs().max() == 0.0 for parameter in net.parameters())  # type: ignore[union-attr]
        if isinstance(objective, DenseISDA):
            assert objective.estimator is not None
            assert objective.estimator.count.tolist() == [0.0] * CLASSES + [4.0 * count]


@KINDS
def test_the_estimate_never_sees_pixels_to_ignore(kind: str) -> None:
    net, (images, targets) = Cells(4), make_batch(3, 8, 12)
    nearest = targets_at(targets, 2, 3)
    ignored = (nearest == IGNORE).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    assert 0 < ignored.float().mean() < 1
    rows = net.features(images).detach().movedim(1, -1)[nearest != IGNORE]
    expected = class_covariance(rows, nearest[nearest != IGNORE], CLASSES, kind)
    for noise in (0.0, 1e3):  # whatever those pixels show
        objective = begun(net, 1.0, kind)
        objective.loss(net, images + noise * ignored[:, None], targets, 0.0)
        assert objective.estimator is not None
        torch.testing.assert_close(objective.estimator.covariance[:CLASSES], expected, rtol=1e-4, atol=1e-5)
        assert objective.estimator.count[:CLASSES].sum() == len(rows)


def test_how_many_pixels_are_taken_in_at_a_time_does_not_matter() -> None:
    features = torch.randn(2, FEATURES, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = make_batch(2, 5, 7)[1]
    estimators = []
    for chunk in (1, 8 * 11, 1 << 20):
        estimator = CovarianceEstimator(CLASSES + 1, FEATURES, "full", dtype=torch.float64)
        update_from_pixels(estimator, features, targets, chunk)
        estimators.append(estimator)
    for other in estimators[1:]:
        torch.testing.assert_close(other.covariance, estimators[0].covariance, rtol=1e-10, atol=1e-12)
        assert other.count.equal(estimators[0].count)


def test_the_objective_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="'banded'"):
        DenseISDA(0.5, "banded")
    for strength in (-0.1, math.nan):
        with pytest.raises(ValueError, match="strength of ISDA must be 0 or more"):
            DenseISDA(strength)
    with pytest.raises(RuntimeError, match="begin"):
        DenseISDA(0.5).loss(Cells(4), *make_batch(1, 8, 8), 0.0)


# --- covariances for scoring ---


def in_batches(size: int, order: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    images, targets = make_batch(len(order), 20, 24)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        yield images[part], targets[part].to(torch.uint8)


@KINDS
def test_covariances_of_all_labeled_pixels(kind: str) -> None:
    net = Cells(4)  # maps of 5 x 6
    images, targets = make_batch(7, 20, 24)
    nearest = targets_at(targets, 5, 6)
    rows = net.features(images).detach().movedim(1, -1)[nearest != IGNORE].double()
    own = nearest[nearest != IGNORE]
    for size in (1, 3, 7):
        covariance, count = pixel_covariance(net, in_batches(size, list(range(7))), Runtime(CPU, 0), kind)
        assert covariance.dtype == torch.float64
        torch.testing.assert_close(covariance, class_covariance(rows, own, CLASSES, kind), rtol=1e-5, atol=1e-7)
        assert count.tolist() == torch.bincount(own, minlength=CLASSES).tolist()


def test_drawn_pixels_follow_from_the_seed_alone() -> None:
    net = Cells(4)
    forward, backward = list(range(7)), list(range(7))[::-1]
    first, count = pixel_covariance(net, in_batches(1, forward), Runtime(CPU, 0), pixels_per_image=6)
    for size, order in ((7, forward), (3, backward)):
        again, _ = pixel_covariance(net, in_batches(size, order), Runtime(CPU, 0), pixels_per_image=6)
        torch.testing.assert_close(again, first, rtol=1e-5, atol=1e-7)
    other, _ = pixel_covariance(net, in_batches(7, forward), Runtime(CPU, 1), pixels_per_image=6)
    assert not torch.allclose(other, first, rtol=1e-3)
    assert count.sum() == 6 * 7  # of 30 places in each image, two thirds of them labeled


def test_few_labeled_pixels_are_all_taken() -> None:
    net, images = Cells(4), make_batch(1, 20, 24)[0]
    targets = torch.full((1, 20, 24), IGNORE, dtype=torch.uint8)
    targets[0, 2::4, 2] = torch.arange(5, dtype=torch.uint8) % 2  # the first place of each row of the map
    rows = net.features(images).detach()[0, :, :, 0].T.double()
    expected = class_covariance(rows, torch.arange(5) % 2, CLASSES)
    for limit in (5, 6, 29, 30):
        covariance, count = pixel_covariance(net, [(images, targets)], Runtime(CPU, 3), pixels_per_image=limit)
        torch.testing.assert_close(covariance, expected, rtol=1e-5, atol=1e-7)
        assert count.tolist() == [3.0, 2.0, 0.0]
    _, count = pixel_covariance(net, [(images, targets)], Runtime(CPU, 3), pixels_per_image=4)
    assert count.sum() == 4


def test_the_network_is_in_eval_mode_meanwhile_and_then_as_before() -> None:
    net = Cells(4).train()
    net.mix.eval()
    covariance, _ = pixel_covariance(net, in_batches(2, [0, 1, 2]), Runtime(CPU, 0))
    assert net.modes == [False, False]
    assert [module.training for module in net.modules()] == [True, False, True]
    assert not covariance.is_inference()
    assert not covariance.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@KINDS
def test_on_cuda_a_step_does_not_wait(kind: str) -> None:
    cuda = torch.device("cuda")
    net = Cells(4).to(cuda)
    images, targets = (part.to(cuda) for part in make_batch(2, 20, 24))
    objective = DenseISDA(1.0, kind)
    objective.begin(net, DATA, Runtime(cuda, 0))
    first = objective.loss(net, images, targets, 0.5)
    first.backward()  # fills caches
    torch.cuda.set_sync_debug_mode("error")
    try:
        objective.loss(net, images, targets, 0.5).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = begun(Cells(4), 1.0, kind).loss(Cells(4), images.cpu(), targets.cpu(), 0.5)
    torch.testing.assert_close(first.cpu(), expected, rtol=1e-4, atol=1e-5)
