"""Covariances of the features of each class's pixels, for ISDA and for the expected partial model change.

Features are maps (h, w); the targets are masks (H, W), of which those nearest to the map's pixels count. A pixel with
the target IGNORE is in no covariance and no count.

Axis letters: B batch, C classes, F features, L labeled rows, h w map, H W pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing

import torch
from torch import Tensor

from models.data import IGNORE, CycleData, MaskTargets, Runtime, targets_of
from models.inference.fused import scoring_copy
from models.inference.per_pixel import CHUNK, pixel_rows, pixels_at_a_time
from models.inference.streaming import batches_of, stream_batches
from models.losses.isda import CovarianceEstimator
from models.networks.base import TaskNet
from models.pixels import normalize

PIXELS_PER_IMAGE = 4096  # of which the class covariances are taken


def targets_at(targets: Tensor, height: int, width: int) -> Tensor:
    """Targets (B, H, W) of any integer type at the size of a map: (B, h, w), those nearest to its pixels' centers.

    The centers are those that `models.networks.segmenter.enlarge` gives the map's pixels, in the middle of their cells.
    """
    rows = _nearest(targets.shape[1], height, targets.device)
    columns = _nearest(targets.shape[2], width, targets.device)
    return targets[:, rows[:, None], columns]


def _nearest(size: int, places: int, device: torch.device) -> Tensor:
    """floor((i + ½) size / places) for i = 0 .. places - 1, in whole numbers."""
    return (2 * torch.arange(places, device=device) + 1) * size // (2 * places)


def update_from_pixels(estimator: CovarianceEstimator, features: Tensor, targets: Tensor, chunk: int = CHUNK) -> None:
    """Take the pixels of features (B, F, ...) with targets (B, ...) into an estimator of C + 1 slots.

    The last slot takes the pixels to IGNORE: the estimator then needs no selection, for which a CUDA device would
    wait. The figures are the same for every `chunk`, up to rounding.
    """
    slot = len(estimator.count) - 1
    slots = torch.where(targets == IGNORE, slot, targets.long())[:, None]  # (B, 1, ...)
    step = pixels_at_a_time(chunk, features)
    for rows, theirs in zip(pixel_rows(features, step), pixel_rows(slots, step), strict=True):
        estimator.update(rows, theirs[:, 0])


def estimator_for(net: TaskNet, kind: str, dtype: torch.dtype = torch.float32) -> CovarianceEstimator:
    """An empty estimator of the network's classes and, last, the slot of the pixels to ignore; on its device."""
    return CovarianceEstimator(net.num_classes + 1, net.feature_channels, kind, net.head.weight.device, dtype)


def labeled_batches(data: CycleData, runtime: Runtime, phase: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The labeled rows as they are: images (B, 3, H, W) normalized float and masks (B, H, W) uint8, on the device.

    Calls runtime.progress(phase, rows done, L).
    """
    targets = targets_of(data, MaskTargets)
    parts = batches_of(data.labeled, runtime, data.pixels)
    done = 0
    with (
        closing(stream_batches(data.pixels, (data.labeled[part] for part in parts), runtime.device)) as images,
        closing(stream_batches(targets.masks, (targets.rows[part] for part in parts), runtime.device)) as masks,
    ):
        for part, image, mask in zip(parts, images, masks, strict=True):
            yield normalize(image), mask
            done += len(part)
            runtime.progress(phase, done, len(data.labeled))


def pixel_covariance(
    net: TaskNet,
    batches: Iterable[tuple[Tensor, Tensor]],
    runtime: Runtime,
    kind: str = "diag",
    pixels_per_image: int = PIXELS_PER_IMAGE,
) -> tuple[Tensor, Tensor]:
    """Class covariances of the labeled pixels' features: (C, F) or (C, F, F) float64, and their number (C,) float64.

    batches: images (B, 3, H, W) normalized float, targets (B, H, W), both on the network's device. One pass of the
    network as it scores. The covariances are biased ones; a class with fewer than two
    pixels has none. Targets are those nearest to the features.

    Of an image with more labeled pixels at the features' resolution than `pixels_per_image` as many are drawn, each
    as likely as any other. Images of a size share one random order of their places, which follows from the runtime's
    seed: what is drawn depends on neither the batches nor the order of the images.
    """
    estimator = estimator_for(net, kind, torch.float64)
    with torch.inference_mode():
        for features, targets in _drawn(scoring_copy(net, runtime), batches, runtime, pixels_per_image):
            update_from_pixels(estimator, features, targets)
    return estimator.covariance[:-1], estimator.count[:-1]


def _drawn(
    net: TaskNet, batches: Iterable[tuple[Tensor, Tensor]], runtime: Runtime, limit: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (B, F, p) and targets (B, p), IGNORE among them where an image has fewer than p labeled pixels."""
    ranks = torch.empty(0)
    for images, targets in batches:
        features = net.features(images)
        nearest = targets_at(targets, *features.shape[2:]).flatten(1)
        features = features.flatten(2)
        count = nearest.shape[1]
        if count > limit:
            if len(ranks) != count:  # on the CPU, for the same draw on every device
                order = torch.randperm(count, generator=runtime.generator("covariance pixels", "cpu"))
                ranks = order.to(nearest.device)
            places = torch.where(nearest == IGNORE, count, ranks).topk(limit, dim=1, largest=False).indices
            features = features.gather(2, places[:, None].expand(-1, features.shape[1], -1))
            nearest = nearest.gather(1, places)
        yield features, nearest
