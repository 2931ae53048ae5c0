"""The task network's predictions for rows of the pool.

A classifier gives features (B, F) and logits (B, C); a segmenter maps of them, (B, F, h, w) and (B, C, h, w), at the
resolution of its features. What is computed of them here is so at that resolution, save for `predict_masks`.

Axis letters: N rows asked for, B batch, C classes, F features, H W pixels of the image, h w those of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime, check_pixels, check_rows
from models.inference.fused import scoring_copy
from models.inference.several_devices import Through
from models.inference.streaming import batches_of, map_rows, stream_batches
from models.networks.base import TaskNet
from models.networks.segmenter import enlarge
from models.pixels import inputs_of, normalize

# (features, logits), both float32 on the device -> tensors (B, ...)
Measure = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class ForwardPass:
    """One batch on its way through the network, on the device, for what reads more of it than features and logits.

    features, logits and taps (B, T_k) each float32, as the network has them; images (B, H, W, 3) uint8 where they were
    asked for.
    """

    images: Tensor | None
    features: Tensor
    taps: tuple[Tensor, ...]
    logits: Tensor


class NonFiniteOutputs(ArithmeticError):
    """The network outputs NaN or infinity: its training diverged."""


@dataclass(frozen=True)
class Predictions:
    """What the task network says about N rows, in their order; `models.tasks.base.Task.predict` makes it.

    predicted: one class an image: (N,) int64 class indices. Masks: the same, of the class that most pixels are taken
    for. Several classes an image: (N, C) float32, the probability of each class.
    confidence (N,) float64: one class an image: the softmax probability of that class. Masks: the mean over the pixels
    of the probability of what each is taken for. Several classes an image: the mean over the classes of max(p, 1 - p).
    Probabilities are those of calibrated logits (`models.networks.base.TaskNet.temperature`).
    """

    predicted: np.ndarray
    confidence: np.ndarray


def measure(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    compute: Measure,
    phase: str = "score",
) -> tuple[np.ndarray, ...]:
    """Run `net` once over the rows and hand features and logits of each batch to `compute`.

    Returns one array (N, ...) per tensor that `compute` gives, in the order of `rows` (see
    `models.inference.streaming.map_rows`). What runs is a `models.inference.fused.scoring_copy`; `net` stays as it is.
    Raises models.data.DataError for pixels or rows of the wrong kind.
    """
    check_pixels(pixels)
    check_rows(rows, len(pixels))

    copied = scoring_copy(net, runtime)
    source = net.reads(pixels, runtime)
    if source is not pixels:
        source = source[:, : net.feature_channels]

    return map_rows(source, rows, runtime, compute, phase, through=Through(_features_and_logits, [copied]))


def _features_and_logits(net: TaskNet, read: Tensor) -> tuple[Tensor, ...]:
    features = net.features(inputs_of(read))
    return features, net.head(features)


def predict(
    net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str = "predict"
) -> Predictions:
    """What the network says about every row, (N, ...) each: see `Predictions`. Calls runtime.progress(phase, rows, N).

    Raises NonFiniteOutputs when the network's weights are broken, DataError for pixels or rows of the wrong kind.
    """
    if len(rows) == 0:
        return Predictions(net.task.nothing_predicted(net.num_classes), np.empty(0, dtype=np.float64))
    predicted, confidence = measure(net, pixels, rows, runtime, lambda _, logits: net.predict(logits), phase)
    if not np.isfinite(confidence).all():
        raise NonFiniteOutputs("the task network outputs NaN or infinity: its training diverged")
    return Predictions(predicted, confidence.astype(np.float64))


def predict_and_measure(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    acquisition: Callable[[Tensor, Tensor], Tensor],
    phase: str = "score",
) -> tuple[Predictions, np.ndarray]:
    """The predictions and, from the same forward pass, one number per row.

    acquisition: features, logits -> (B,) or (B, ...) on the device. Its values come back as (N,) or
    (N, ...) float64, unchecked. `rows` must not be empty.
    """

    def compute(features: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        return (*net.predict(logits), acquisition(features, logits))

    predicted, confidence, values = measure(net, pixels, rows, runtime, compute, phase)
    return Predictions(predicted, confidence.astype(np.float64)), values.astype(np.float64)


def measure_forward(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    compute: Callable[[ForwardPass], tuple[Tensor, ...]],
    phase: str = "score",
    with_images: bool = False,
) -> tuple[np.ndarray, ...]:
    """`measure` for what also reads the taps, or the images. compute: `ForwardPass` of a batch -> tensors (B, ...)."""
    check_pixels(pixels)
    check_rows(rows, len(pixels))

    copied = scoring_copy(net, runtime)
    source = net.reads(pixels, runtime)
    apart = with_images and source is not pixels

    def ask(net: TaskNet, read: Tensor) -> tuple[Tensor, ...]:
        features, taps = net.features_and_taps(inputs_of(read))
        shown = [read] if with_images and not apart else []
        return features, net.head(features), *taps, *shown

    def batch(features: Tensor, logits: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        taps, images = (others[:-1], others[-1]) if with_images else (others, None)
        return compute(ForwardPass(images, features, taps, logits))

    beside = pixels if apart else None
    return map_rows(source, rows, runtime, batch, phase, beside=beside, through=Through(ask, [copied]))


def predict_and_measure_forward(
    net: TaskNet,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    acquisition: Callable[[ForwardPass], Tensor],
    phase: str = "score",
    with_images: bool = False,
) -> tuple[Predictions, np.ndarray]:
    """`predict_and_measure` for what also reads the taps, or the images. acquisition: the
    `ForwardPass` of a batch -> (B,)."""

    def compute(forward: ForwardPass) -> tuple[Tensor, ...]:
        return (*net.predict(forward.logits), acquisition(forward))

    predicted, confidence, values = measure_forward(net, pixels, rows, runtime, compute, phase, with_images)
    return Predictions(predicted, confidence.astype(np.float64)), values.astype(np.float64)


def embed(net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str = "embed") -> np.ndarray:
    """Penultimate features of every row, a segmenter's averaged over the pixels: (N, F) float32."""
    if len(rows) == 0:
        return np.empty((0, net.feature_channels), dtype=np.float32)
    return measure(net, pixels, rows, runtime, lambda features, _: (net.task.image_features(features),), phase)[0]


def most_likely(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Class int64 and its softmax probability 1 / sum_c exp(z_c - max z), (B, ...) each, from logits (B, C, ...)."""
    top, predicted = logits.max(dim=1, keepdim=True)
    return predicted.squeeze(1), 1.0 / torch.exp(logits - top).sum(dim=1)


def predict_masks(
    net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str = "predict"
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every row's mask at the size of its image, a batch at a time: they are never all in memory.

    Gives positions (B,) in `rows`, masks (B, H, W) uint8 and the confidence in each pixel (B, H, W) uint8, where 255 is
    a softmax probability of 1, of calibrated logits. In ascending order of rows. Calls runtime.progress(phase, rows
    done, N). Raises NonFiniteOutputs when the network's weights are broken.
    """
    check_pixels(pixels)
    check_rows(rows, len(pixels))
    parts = batches_of(rows, runtime, pixels)
    done, copied = 0, scoring_copy(net, runtime)
    stream = stream_batches(pixels, (rows[part] for part in parts), runtime.device)
    with torch.inference_mode(), closing(stream) as images_of:
        for part, images in zip(parts, images_of, strict=True):
            # Logits of full size are the largest there is, C numbers a pixel: of one image at a time.
            maps = (copied.head(copied.features(normalize(images))) / copied.temperature).split(1)
            per_image = [most_likely(enlarge(one, images.shape[1:3])) for one in maps]
            masks = torch.cat([predicted.to(torch.uint8) for predicted, _ in per_image]).cpu()
            confidence = torch.cat([sure for _, sure in per_image]).cpu()
            if not bool(torch.isfinite(confidence).all()):
                raise NonFiniteOutputs("the task network outputs NaN or infinity: its training diverged")
            yield part, masks.numpy(), (255.0 * confidence).round().to(torch.uint8).numpy()
            done += len(part)
            runtime.progress(phase, done, len(rows))
