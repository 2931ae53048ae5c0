"""Training pieces for masks: augmentation of images and masks together, and cross entropy over the labeled pixels.

A mask is (H, W) uint8: class indices, 0 the background, and IGNORE for pixels that nobody said anything about. All of
this runs on the tensors' device and never waits for it.

Axis letters: B batch, C classes, H W pixels, h w those of the crop.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data import IGNORE, DataError
from models.inference.streaming import one_by_one

BOUND = 1.02  # c in `inverse_log_weights`


def check_classes(masks: np.ndarray, rows: np.ndarray, num_classes: int) -> None:
    """Raise DataError where one of the `rows` (L,) of masks (K, H, W) uint8 holds a class that there is not.

    On a CUDA device such a mask would end the process.
    """
    with closing(one_by_one(masks, rows)) as each:
        for row, mask in zip(rows, each, strict=True):
            highest = int(mask.masked_fill(mask == IGNORE, 0).max())
            if highest >= num_classes:
                raise DataError(f"the mask in row {row} holds the class {highest}, and there are {num_classes}")


def augment_pairs(
    images: Tensor, masks: Tensor, crop: tuple[int, int], generator: torch.Generator, pad: int = 0
) -> tuple[Tensor, Tensor]:
    """Random crop and random mirror, drawn per image, the same for its mask; uint8 in and out.

    images (B, H, W, 3) -> (B, h, w, 3), masks (B, H, W) -> (B, h, w) for `crop` (h, w). A crop may reach `pad` pixels
    over each edge, and one that is larger than the image holds all of it somewhere: outside of it images are black
    and masks are IGNORE. With the crop as large as the image and no padding only the mirror is left, as in VAAL's
    segmentation. `generator` must live on the images' device.
    """
    count, device = len(images), images.device
    y, x = (_along(size, cut, pad, count, generator, device) for size, cut in zip(images.shape[1:3], crop, strict=True))
    mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
    x = torch.where(mirrored, x.flip(1), x)
    height, width = images.shape[1:3]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    places = (
        torch.arange(count, device=device)[:, None, None],
        y.clamp(0, height - 1)[:, :, None],
        x.clamp(0, width - 1)[:, None, :],
    )
    return images[places] * inside[..., None], masks[places].masked_fill(~inside, IGNORE)


def _along(size: int, cut: int, pad: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Source lines (B, cut) of one axis; outside of [0, size) lies padding."""
    first, last = min(0, size - cut) - pad, max(0, size - cut) + pad
    offset = torch.randint(first, last + 1, (count, 1), generator=generator, device=device)
    return offset + torch.arange(cut, device=device)


def pixel_cross_entropy(logits: Tensor, masks: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the pixels that are not IGNORE, (); 0 with zero gradient when there is none.

    logits (B, C, H, W) float, masks (B, H, W) uint8. With weight (C,) the mean is the weighted one, so that the
    loss keeps its size: sum w_y CE / sum w_y.
    """
    losses = functional.cross_entropy(logits, masks.long(), weight, ignore_index=IGNORE, reduction="none")
    return losses.sum() / _weight_of(masks, weight).clamp(min=torch.finfo(losses.dtype).tiny)


def image_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross entropy of each image over its pixels that are not IGNORE, (B,); 0 for an image without any."""
    losses = functional.cross_entropy(logits, masks.long(), ignore_index=IGNORE, reduction="none")
    return losses.sum(dim=(1, 2)) / (masks != IGNORE).sum(dim=(1, 2)).clamp(min=1)


def _weight_of(masks: Tensor, weight: Tensor | None) -> Tensor:
    """Total weight () of the pixels that are not IGNORE; without weights their number."""
    labeled = masks != IGNORE
    if weight is None:
        return labeled.sum().float()
    return (weight[masks.masked_fill(~labeled, 0).long()] * labeled).sum()


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


def inverse_log_weights(counts: Tensor) -> Tensor:
    """Weights (C,) float32 of classes that have counts (C,) pixels: w_c = 1 / ln(1.02 + p_c), p_c their share.

    Paszke et al., ENet (2016), section 5. Between 1.4 for a class that is everywhere and 50.5 for one that is nowhere:
    the few pixels of a rare class do not take over, as they would with 1 / p_c, when only few images are labeled.
    """
    share = counts.double() / counts.sum().clamp(min=1)
    return (1.0 / torch.log(BOUND + share)).float()
