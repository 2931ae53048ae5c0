"""Training on what an encoder says of labeled images: each is encoded at most twice, and the encoder stays."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data import CycleData, DataError, MaskTargets, Runtime
from models.inference.predictions import predict_masks
from models.networks.backbones import NOTHING
from models.networks.pretrained_segmenter import (
    FinetunedSegmenter,
    FrozenSegmenter,
    PretrainedSegmenter,
    PretrainedSegmenterConfig,
)
from models.pixels import normalize
from models.tasks import SEGMENTATION
from models.training.kept_maps import EncodedImages, KeptMaps
from models.training.rows import epoch_positions
from models.training.schedule import Recipe
from models.training.task_network import train_network

CPU = torch.device("cpu")
RUNTIME = Runtime(CPU, 0)
SIDE = 64


class FirstLines:
    """Keeps the first line of each image, and counts the images."""

    def __init__(self) -> None:
        self.encoded = 0
        self.kept_shapes: list[torch.Size] = []

    def keep(self, x: Tensor) -> Tensor:
        self.encoded += len(x)
        return x[:, 0, 0, :].half()


def numbered(count: int) -> CycleData:
    """Images whose lines count up from left to right, each from another number, as do their masks."""
    line = 20 * np.arange(count)[:, None] + np.arange(8)
    masks = np.broadcast_to(line[:, None], (count, 8, 8)).astype(np.uint8)
    pixels = np.repeat(masks[..., None], 3, axis=3)
    return CycleData(pixels, np.arange(count), np.empty(0, np.int64), MaskTargets(masks, np.arange(count)), 200)


@pytest.mark.parametrize(("room", "encoded"), [(8, 8), (3, 20)])
def test_images_and_mirror_images_are_encoded_once_where_there_is_room_and_go_with_their_masks(
    room: int, encoded: int
) -> None:
    count, passes = 4, 12
    data, net = numbered(count), FirstLines()
    kept = KeptMaps(cast(PretrainedSegmenter, net), data, RUNTIME, kept_bytes=room * 8 * 2)
    seen = set()
    for seed in range(passes):
        plan = epoch_positions(count, 2, torch.Generator().manual_seed(seed))
        for maps, masks in kept.batches(plan):
            images = masks[:, :1, :, None].expand(-1, 1, -1, 3)
            torch.testing.assert_close(maps, normalize(images)[:, 0, 0, :].half())
            seen |= {int(line[0]) for line in masks[:, 0]}
    assert seen == {20 * row + end for row in range(count) for end in (0, 7)}  # each, and its mirror image
    assert net.encoded == encoded if room >= 2 * count else net.encoded > encoded


def test_trainings_of_one_cycle_share_what_the_encoder_says_and_another_network_reads_it() -> None:
    """A second training, on some of the images in another order, encodes no image that the first one has seen, and
    learns as if it had encoded all of them itself."""
    data = halves()
    places = np.array([3, 0])
    part = dataclasses.replace(data, labeled=data.labeled[places], targets=data.targets.at(places))
    recipe, states, counts = Recipe(epochs=8, batch_size=4), [], []
    for encoded in (None, EncodedImages(data.labeled)):
        runtime = dataclasses.replace(RUNTIME, encoded=encoded)
        train_network(segmenter(frozen=True), data, SEGMENTATION.cross_entropy(), recipe, runtime)
        net = segmenter(frozen=True)
        seen: list[int] = []
        original = net.keep
        net.keep = lambda x, original=original, seen=seen: (seen.append(len(x)), original(x))[1]  # type: ignore[method-assign]
        train_network(net, part, SEGMENTATION.cross_entropy(), recipe, runtime)
        states.append(net.state_dict())
        counts.append(sum(seen))
    assert counts[0] > 0 == counts[1]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-3, atol=1e-4)


def test_an_encoder_that_is_trained_shares_nothing() -> None:
    """Of the next training it would say something else."""
    data, shared = halves(), EncodedImages(np.arange(4))
    runtime = dataclasses.replace(RUNTIME, encoded=shared)
    train_network(segmenter(frozen=False), data, SEGMENTATION.cross_entropy(), Recipe(epochs=2, batch_size=4), runtime)
    assert not shared._known.any()


def test_a_mask_with_a_class_that_there_is_not_is_refused() -> None:
    data = dataclasses.replace(numbered(2), num_classes=5)
    with pytest.raises(DataError):
        KeptMaps(cast(PretrainedSegmenter, FirstLines()), data, RUNTIME)


def halves(count: int = 4) -> CycleData:
    """Images of two colors, the border between them elsewhere in each; the brighter side is class 1."""
    rng = np.random.default_rng(0)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for row in range(count):
        masks[row, :, 16 + 8 * row :] = 1
    pixels = (60 + 120 * masks[..., None] + rng.integers(0, 40, (count, SIDE, SIDE, 3))).astype(np.uint8)
    return CycleData(pixels, np.arange(count), np.empty(0, np.int64), MaskTargets(masks, np.arange(count)), 2)


def segmenter(frozen: bool) -> FrozenSegmenter | FinetunedSegmenter:
    config = PretrainedSegmenterConfig.of("test_efficientnet", 2, SIDE, NOTHING, NOTHING, frozen)
    net = SEGMENTATION.build(dataclasses.replace(config, enlarged=1.0), 0)
    assert isinstance(net, FrozenSegmenter | FinetunedSegmenter)
    return net


def agreement(net: PretrainedSegmenter, data: CycleData) -> float:
    rows = np.arange(len(data.pixels))
    right = [masks == data.targets.masks[part] for part, masks, _ in predict_masks(net, data.pixels, rows, RUNTIME)]  # type: ignore[attr-defined]
    return float(np.concatenate(right).mean())


def test_a_decoder_learns_a_few_images_by_heart_and_the_encoder_stays() -> None:
    data, net = halves(), segmenter(frozen=True)
    before = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    figures = train_network(net, data, SEGMENTATION.cross_entropy(), Recipe(epochs=40, batch_size=4), RUNTIME)
    assert agreement(net, data) > 0.95
    assert figures["images"] == 160
    assert all(torch.equal(value, before[key]) for key, value in net.encoder.state_dict().items())
    assert not net.training


def test_fine_tuning_trains_the_decoder_and_then_the_encoder_too() -> None:
    data, net = halves(), segmenter(frozen=False)
    before = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    train_network(net, data, SEGMENTATION.cross_entropy(), Recipe(epochs=10, batch_size=4), RUNTIME)
    moved = [key for key, value in net.encoder.named_parameters() if not torch.equal(value, before[key])]
    assert moved
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    assert not net.keeps


def test_crops_are_encoded_as_they_are_cut() -> None:
    data, net = halves(), segmenter(frozen=True)
    figures = train_network(net, data, SEGMENTATION.cross_entropy(), Recipe(epochs=2, batch_size=4, crop=32), RUNTIME)
    assert np.isfinite(figures["loss"])


def test_the_same_seed_gives_the_same_decoder() -> None:
    states = []
    for _ in range(2):
        net = segmenter(frozen=True)
        train_network(net, halves(), SEGMENTATION.cross_entropy(), Recipe(epochs=2, batch_size=4), RUNTIME)
        states.append(net.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
