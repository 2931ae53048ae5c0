"""Figures of an image with any number of classes from figures of its classes, each a question of its own: yes or no.

The class with the logit z is a row of two logits, [0, z], whose softmax is (1 - σ(z), σ(z)). So every function that
knows the rows of a softmax says what it says of classes that exclude each other of each of these two-way choices, and
no formula is written twice.

Axis letters: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.inference.disagreement import ImageFigure, StreamingFigure


def binary_rows(logits: Tensor) -> Tensor:
    """A row [0, z] for each class, image by image: (B, C) -> (B C, 2)."""
    flat = logits.flatten()
    return torch.stack([torch.zeros_like(flat), flat], dim=1)


def class_values(measure: Callable[..., Tensor], *logits: Tensor) -> Tensor:
    """What `measure` says of each class, (B, C) in its dtype.

    measure: rows (B C, 2), one tensor for each of the logits -> (B C,), a row's value independent of the others. The
    logits are (B, C).
    """
    return measure(*(binary_rows(one) for one in logits)).unflatten(0, logits[0].shape)


def binary_confidence(logits: Tensor) -> Tensor:
    """Mean over the classes of max(p, 1 - p) for p = σ(z): (B, C) -> (B,), between 1/2 and 1. NaN where a logit is NaN
    or infinite.
    """
    confidence = torch.sigmoid(logits.abs()) + 0.0 * logits  # 0 x inf = NaN
    return confidence.mean(dim=1)


def streaming_over_classes(figure: Callable[[], StreamingFigure]) -> ImageFigure:
    """A figure of `models.inference.disagreement`, summed over the classes, of opinions (B, C) that come one by one."""
    return ImageFigure(figure, lambda logits: iter([binary_rows(logits)]), lambda values: values.sum(dim=1))
