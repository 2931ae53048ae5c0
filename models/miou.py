"""Mean intersection over union, from a confusion matrix that is gathered on the device.

The measure of the PASCAL VOC and the Cityscapes benchmarks. Pixels are added up over all images before the division,
so that an image in which a class has three pixels does not weigh as much as one full of it.

Axis letters: B batch, C classes, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.masks import IGNORE, tally


def confusion_counts(predicted: Tensor, masks: Tensor, num_classes: int) -> Tensor:
    """How many pixels of each image are of which class and were taken for which, (B, C, C) int64.

    predicted (B, H, W), integers in [0, C); masks (B, H, W) uint8. Rows are the masks' classes, columns the predicted
    ones; IGNORE counts nowhere. Never waits for the device. A mask with a class that there is not is an error.
    """
    truth = masks.flatten(1).long()
    places = torch.where(truth == IGNORE, 0, 1 + truth * num_classes + predicted.flatten(1))
    counts = tally(places, 1 + num_classes**2)
    return counts[:, 1:].unflatten(1, (num_classes, num_classes))


def iou_of(confusion: Tensor) -> Tensor:
    """Intersection over union of each class, (..., C) float64, from (..., C, C): TP / (TP + FP + FN).

    NaN for a class that is neither in the masks nor predicted.
    """
    hits = confusion.diagonal(dim1=-2, dim2=-1).double()
    return hits / (confusion.sum(dim=-1) + confusion.sum(dim=-2) - hits)


def mean_iou_of(confusion: Tensor) -> Tensor:
    """Mean over the classes present, (...,) float64: those in the masks and those predicted where they are not, which
    count 0. NaN when no pixel is labelled.
    """
    return iou_of(confusion).nanmean(dim=-1)


class ConfusionMatrix:
    """Batches of predictions and masks, added up: confusion (C, C) int64 on the device."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, predicted: Tensor, masks: Tensor) -> None:
        """Take in predicted (B, H, W) integers and masks (B, H, W) uint8; never waits for the device."""
        self.confusion += confusion_counts(predicted, masks, len(self.confusion)).sum(dim=0)

    def iou(self) -> Tensor:
        """(C,) float64, NaN for a class that is neither in the masks nor predicted."""
        return iou_of(self.confusion)

    def mean_iou(self) -> Tensor:
        """() float64, still on the device; see `mean_iou_of`."""
        return mean_iou_of(self.confusion)
