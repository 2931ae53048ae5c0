"""Random crops and mirrors of images and their masks together.

All of it runs on the tensors' device and never waits for it. Axis letters: B batch, H W pixels, h w those of the crop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models import IGNORE


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
