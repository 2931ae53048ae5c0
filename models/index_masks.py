"""Index masks: which classes are in them, and in how many pixels each.

A mask is (H, W) uint8: class indices, 0 the background, and `models.IGNORE` for pixels that nobody said anything about.

Axis letters: K masks, L labeled rows, B batch, C classes, P places, H W pixels.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from models import IGNORE
from models.data import DataError
from models.inference.streaming import one_by_one


def check_classes(masks: np.ndarray, rows: np.ndarray, num_classes: int) -> None:
    """Raise DataError where one of the `rows` (L,) of masks (K, H, W) uint8 holds a class that there is not.

    On a CUDA device such a mask would end the process.
    """
    with closing(one_by_one(masks, rows)) as each:
        for row, mask in zip(rows, each, strict=True):
            highest = int(mask.masked_fill(mask == IGNORE, 0).max())
            if highest >= num_classes:
                raise DataError(f"the mask in row {row} holds the class {highest}, and there are {num_classes}")


def class_counts(masks: Tensor, num_classes: int) -> Tensor:
    """Pixels of each class in masks (B, H, W), (C,) int64; IGNORE counts nowhere. Add them up over batches.

    A mask with a class that there is not is an error.
    """
    places = torch.where(masks == IGNORE, 0, 1 + masks.long())
    return tally(places.flatten()[None], 1 + num_classes)[0, 1:]


def tally(places: Tensor, size: int) -> Tensor:
    """How often each of 0 .. size - 1 stands in each row of places (B, P) int64: (B, size) int64.

    torch.bincount would make the host wait for a CUDA device, to learn how many bins there are.
    """
    one = torch.ones((), dtype=torch.int64, device=places.device)
    bins = torch.zeros(len(places), size, dtype=torch.int64, device=places.device)
    return bins.scatter_add_(1, places, one.expand_as(places))
