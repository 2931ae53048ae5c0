"""uint8 pixels to network inputs, on the device, a batch at a time.

Images stay (B, H, W, 3) uint8 until here. Axis letters: B batch, H W pixels.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# ImageNet's channel statistics: torchvision's pretrained weights expect them, and nothing else cares much.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalize(images: Tensor, mean: tuple[float, float, float] = MEAN, std: tuple[float, float, float] = STD) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32, (x / 255 - mean) / std per channel.

    The result is channels_last in memory, which is what the pixels are already: no transposing copy.
    """
    scale, shift = _scale_and_shift(mean, std, images.device)
    return torch.addcmul(shift, images.permute(0, 3, 1, 2).to(torch.float32), scale)


def inputs_of(rows: Tensor) -> Tensor:
    """What a network is given of rows of a pool: images (B, H, W, 3) uint8 normalized, (B, 3, H, W); kept features
    (B, E) as they are. float32.
    """
    return normalize(rows) if rows.dtype == torch.uint8 else rows.float()


def augmented_inputs(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The same of images under random crops and mirrors; kept features are those of the image as it is."""
    return inputs_of(augment(rows, generator) if rows.dtype == torch.uint8 else rows)


@lru_cache(maxsize=16)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    # Kept per device: making them again for each batch would be a blocking copy from the host. Made outside
    # inference mode, else the cached tensors could not be used in training later.
    with torch.inference_mode(False):
        std_c = torch.tensor(std, device=device).view(1, 3, 1, 1)
        mean_c = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        return 1.0 / (255.0 * std_c), -mean_c / std_c


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random crop out of zero padding and random mirror, drawn per image; (B, H, W, 3) uint8 in and out.

    The padding is an eighth of the side: 4 px at 32 px, as in the papers' CIFAR recipe, 28 px at 224 px.
    `generator` must live on the images' device.
    """
    size, device = images.shape[1], images.device
    pad = max(1, size // 8)
    offset = torch.randint(-pad, pad + 1, (2, len(images), 1), generator=generator, device=device)
    mirrored = torch.rand((len(images), 1), generator=generator, device=device) < 0.5
    along = torch.arange(size, device=device)
    y = along + offset[0]  # (B, H) source line of every target line; outside [0, H) is padding
    x = torch.where(mirrored, along.flip(0), along) + offset[1]  # (B, W)
    inside = ((y >= 0) & (y < size))[:, :, None] & ((x >= 0) & (x < size))[:, None, :]
    row = torch.arange(len(images), device=device)[:, None, None]
    cropped = images[row, y.clamp(0, size - 1)[:, :, None], x.clamp(0, size - 1)[:, None, :]]
    return cropped * inside[..., None]
