"""Cross entropy over the pixels that have a label, and weights of classes that are rare among them.

Nothing here waits for the device. Axis letters: B batch, C classes, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models import IGNORE

BOUND = 1.02  # c in `inverse_log_weights`


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


def inverse_log_weights(counts: Tensor) -> Tensor:
    """Weights (C,) float32 of classes that have counts (C,) pixels: w_c = 1 / ln(1.02 + p_c), p_c their share.

    Paszke et al., ENet (2016), section 5. Between 1.4 for a class that is everywhere and 50.5 for one that is nowhere:
    the few pixels of a rare class do not take over, as they would with 1 / p_c, when only few images are labeled.
    """
    share = counts.double() / counts.sum().clamp(min=1)
    return (1.0 / torch.log(BOUND + share)).float()
