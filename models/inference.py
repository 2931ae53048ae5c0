"""The task network's answers for rows of the pool.

Axis letters: N rows asked for, B batch, C classes, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.classifier import Classifier
from models.data import Runtime, check_pixels, check_rows
from models.pixels import normalise
from models.streaming import evaluating, map_rows

# (features (B, F), logits (B, C)), both float32 on the device -> tensors (B, ...)
Measure = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Inside:
    """One batch on its way through the network, on the device, for what reads more of it than features and logits.

    images (B, H, W, 3) uint8; features (B, F), taps (B, T_k) each and logits (B, C) float32, as `Classifier` has them.
    """

    images: Tensor
    features: Tensor
    taps: tuple[Tensor, ...]
    logits: Tensor


class NonFiniteOutputs(ArithmeticError):
    """The network answers NaN or infinity: its training diverged."""


@dataclass(frozen=True)
class Answers:
    """What the task network says about N rows.

    predicted (N,) int64 class indices; confidence (N,) float64, the softmax probability of that class.
    """

    predicted: np.ndarray
    confidence: np.ndarray


def measure(
    net: Classifier,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    compute: Measure,
    phase: str = "score",
) -> tuple[np.ndarray, ...]:
    """Run `net` once over the rows and hand features and logits of each batch to `compute`.

    Answers one array (N, ...) per tensor that `compute` gives, in the order of `rows` (see
    `models.streaming.map_rows`). The network is in eval mode meanwhile and afterwards as it was.
    Raises models.data.DataError for pixels or rows of the wrong kind.
    """
    check_pixels(pixels)
    check_rows(rows, len(pixels))

    def batch(images: Tensor) -> tuple[Tensor, ...]:
        features = net.features(normalise(images))
        return compute(features, net.head(features))

    with evaluating(net):
        return map_rows(pixels, rows, runtime, batch, phase)


def predict(net: Classifier, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str = "predict") -> Answers:
    """Class and confidence of every row. Raises NonFiniteOutputs when the network's weights are broken."""
    if len(rows) == 0:
        return Answers(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))
    predicted, confidence = measure(net, pixels, rows, runtime, lambda _, logits: answers_of(logits), phase)
    if not np.isfinite(confidence).all():
        raise NonFiniteOutputs("the task network answers NaN or infinity: its training diverged")
    return Answers(predicted, confidence.astype(np.float64))


def predict_and_measure(
    net: Classifier,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    acquisition: Callable[[Tensor, Tensor], Tensor],
    phase: str = "score",
) -> tuple[Answers, np.ndarray]:
    """The answers and, from the same forward pass, one number per row.

    acquisition: features (B, F), logits (B, C) -> (B,) or (B, ...) on the device. Its values come back as (N,) or
    (N, ...) float64, unchecked. `rows` must not be empty.
    """

    def compute(features: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        return (*answers_of(logits), acquisition(features, logits))

    predicted, confidence, values = measure(net, pixels, rows, runtime, compute, phase)
    return Answers(predicted, confidence.astype(np.float64)), values.astype(np.float64)


def measure_inside(
    net: Classifier,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    compute: Callable[[Inside], tuple[Tensor, ...]],
    phase: str = "score",
) -> tuple[np.ndarray, ...]:
    """`measure` for what also reads the taps or the images. compute: `Inside` of a batch -> tensors (B, ...)."""
    check_pixels(pixels)
    check_rows(rows, len(pixels))

    def batch(images: Tensor) -> tuple[Tensor, ...]:
        features, taps = net.features_and_taps(normalise(images))
        return compute(Inside(images, features, taps, net.head(features)))

    with evaluating(net):
        return map_rows(pixels, rows, runtime, batch, phase)


def predict_and_measure_inside(
    net: Classifier,
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    acquisition: Callable[[Inside], Tensor],
    phase: str = "score",
) -> tuple[Answers, np.ndarray]:
    """`predict_and_measure` for what also reads the taps or the images. acquisition: `Inside` of a batch -> (B,)."""

    def compute(inside: Inside) -> tuple[Tensor, ...]:
        return (*answers_of(inside.logits), acquisition(inside))

    predicted, confidence, values = measure_inside(net, pixels, rows, runtime, compute, phase)
    return Answers(predicted, confidence.astype(np.float64)), values.astype(np.float64)


def embed(net: Classifier, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str = "embed") -> np.ndarray:
    """Penultimate features of every row: (N, F) float32."""
    if len(rows) == 0:
        return np.empty((0, net.head.in_features), dtype=np.float32)
    return measure(net, pixels, rows, runtime, lambda features, _: (features,), phase)[0]


def answers_of(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Class (B,) int64 and its softmax probability (B,) = 1 / sum_c exp(z_c - max z), exact for any logits."""
    top, predicted = logits.max(dim=1, keepdim=True)
    return predicted.squeeze(1), 1.0 / torch.exp(logits - top).sum(dim=1)
