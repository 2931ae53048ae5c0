"""What labels that were held back say of a network's probabilities, by networks that paint what they are shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import IGNORE
from models.data import ClassTargets, CycleData, MaskTargets, MultilabelTargets, Runtime
from models.inference.predictions import NonFiniteOutputs, predict_masks
from models.networks.backbones import NOTHING
from models.networks.base import TaskNet
from models.networks.pretrained import FrozenClassifier, PretrainedConfig
from models.networks.segmenter import SegmenterConfig
from models.pixels import normalize
from models.tasks import SEGMENTATION, TASKS
from models.training.calibration import NEVER
from models.training.held_back import agreed_temperature

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
NOBODY = np.empty(0, np.int64)


class Painter(TaskNet):
    """Logits of three classes: the normalized colors of each pixel, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.task, self.config = SEGMENTATION, SegmenterConfig("drn-d-22", 3, 4)
        self.trunk, self.head, self.tap_channels = nn.Identity(), nn.Conv2d(3, 3, 1), ()
        with torch.no_grad():
            self.head.weight.copy_(factor * torch.eye(3)[:, :, None, None])
            self.head.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        return x

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x, ()


def painted(pixels: np.ndarray, masks: np.ndarray) -> CycleData:
    rows = np.arange(len(pixels))
    return CycleData(pixels.astype(np.uint8), rows, NOBODY, MaskTargets(masks.astype(np.uint8), rows), 3)


def halves(ignored: bool) -> CycleData:
    """20 images of 4 x 4, the right half of each in the color of the background, as the masks say. The left half of 16
    is in the bright color of class 1, as the masks say; that of 4 in a pale color of class 2, of which half is true.
    """
    colors = np.array([[255, 0, 0], [0, 255, 0], [100, 100, 140]])
    shown, masks = np.zeros((20, 4, 4), np.int64), np.zeros((20, 4, 4), np.int64)
    shown[:16, :, :2], shown[16:, :, :2] = 1, 2
    masks[:16, :, :2], masks[16:, :, :1] = 1, 2
    if ignored:
        masks[:, 3] = IGNORE
    return painted(colors[shown], masks)


@pytest.mark.parametrize("ignored", [False, True])
def test_masks_by_hand(ignored: bool) -> None:
    """Class 1 is right everywhere. Of class 2 half is, an IoU of 0.5, which is not more than a half. The background is
    predicted in 160 pixels, and true in 16 more. Of 320 pixels, 16 are told wrong. 16 right regions are enough to draw
    such ones; with the 4 wrong ones, which are less sure, there are too few. Lines that say nothing change nothing.
    """
    net, held = Painter(), halves(ignored)
    found = SEGMENTATION.held_back_figures(net, held, RUNTIME)
    assert found["mean_iou"] == pytest.approx((1 + 0.5 + 160 / 176) / 3)
    assert found["pixel_accuracy"] == pytest.approx(304 / 320)
    assert found["cv_labels"] == 20 and 0 <= found["ece"] <= 0.1
    assert net.temperature == found["temperature"]
    with torch.no_grad():
        logits = net.head(normalize(torch.from_numpy(held.pixels[[0, 16]])))
    sure = (logits / net.temperature).softmax(dim=1)
    bright, pale = sure[0, 1, 0, 0], sure[1, 2, 0, 0]
    assert pale.item() < found["preannotate_above"] == pytest.approx(float(bright), abs=1 / 255)


def test_few_right_regions_are_not_enough() -> None:
    held = halves(False)
    places = np.arange(14)
    few = dataclasses.replace(held, labeled=held.labeled[places], targets=held.targets.at(places))
    assert SEGMENTATION.held_back_figures(Painter(), few, RUNTIME)["preannotate_above"] == NEVER


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor_and_is_in_what_is_published(factor: float) -> None:
    """Classes drawn from the softmax of the normalized colors."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3))
    plain = normalize(torch.from_numpy(pixels.astype(np.uint8))).permute(0, 2, 3, 1)
    generator = torch.Generator().manual_seed(0)
    masks = torch.multinomial(plain.softmax(dim=3).flatten(0, 2), 1, generator=generator).view(40, 16, 16)
    net, held = Painter(factor), painted(pixels, masks.numpy())
    found = SEGMENTATION.held_back_figures(net, held, RUNTIME)
    assert found["temperature"] == pytest.approx(factor, rel=0.1)
    assert found["ece"] < 0.03
    _, said, sure = next(predict_masks(net, held.pixels, held.labeled, RUNTIME))
    assert (said == masks[: len(said)].numpy()).mean() == pytest.approx(sure.mean() / 255, abs=0.03)


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_two_networks_agree_on_how_sure_they_are_on_average(factor: float) -> None:
    """One that is `factor` times as sure in its logits, against another at a temperature of 2."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    net, other, rows = Painter(factor), Painter(1.0), np.arange(5)
    other.temperature = 2.0
    assert agreed_temperature(net, other, pixels, rows, RUNTIME) == pytest.approx(2 * factor, rel=1e-3)
    assert net.temperature == 1


def test_masks_without_a_labeled_pixel_say_nothing() -> None:
    held = painted(np.zeros((3, 4, 4, 3)), np.full((3, 4, 4), IGNORE))
    net = Painter()
    assert SEGMENTATION.held_back_figures(net, held, RUNTIME) == {"temperature": 1.0, "preannotate_above": NEVER}
    assert net.temperature == 1


def test_a_network_that_says_nothing_finite_is_no_measure() -> None:
    net = Painter()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    with pytest.raises(NonFiniteOutputs):
        SEGMENTATION.held_back_figures(net, halves(False), RUNTIME)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_whole_images_are_asked_for_their_labels(task: str) -> None:
    """Labels drawn from a third of the logits that the network has: the temperature is 3, and the figures are those of
    `Calibration`."""
    count, draw = 2_000, np.random.default_rng(0)
    config = PretrainedConfig("no such network", 3, 32, NOTHING, NOTHING, True, 4, (1,))
    net = TASKS[task].build(config, 0)
    assert isinstance(net, FrozenClassifier)
    with torch.no_grad():
        net.head.weight.copy_(3 * torch.eye(3, 4))
        net.head.bias.zero_()
    kept = draw.normal(0, 1.5, (count, 5)).astype(np.float16)
    plain = torch.from_numpy(kept[:, :3]).float()
    generator = torch.Generator().manual_seed(0)
    if task == "classification":
        classes = torch.multinomial(plain.softmax(dim=1), 1, generator=generator)[:, 0]
        targets: ClassTargets | MultilabelTargets = ClassTargets(classes.numpy())
    else:
        targets = MultilabelTargets(torch.bernoulli(plain.sigmoid(), generator=generator).numpy().astype(np.uint8))
    pixels = np.broadcast_to(np.zeros((1, 32, 32, 3), np.uint8), (count, 32, 32, 3))
    held = CycleData(pixels, np.arange(count), NOBODY, targets, 3)
    found = net.task.held_back_figures(net, held, Runtime(CPU, 0, features=kept))
    assert net.temperature == found["temperature"] == pytest.approx(3, rel=0.1)
    assert set(found) == {"temperature", "preannotate_above", "cv_accuracy", "ece", "cv_labels"}
    assert found["cv_labels"] == count and found["ece"] < 0.05
