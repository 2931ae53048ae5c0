"""Backbones that stay as they are, loaded once on each device that they are asked for on.

Apart from `models.networks.backbones`, which builds them. The last few are kept: a worker's projects usually share one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor

from models.networks.backbones import SMALLEST_SIDE, Backbone, build_backbone
from models.networks.folding import folded

_KEPT = 2  # on each device


def kept_backbone(name: str, weights: str, image_size: int, device: torch.device) -> Backbone:
    """`build_backbone` on a device, for reading only, one for all who ask. It is not to be trained."""
    return _kept_on(device)(name, weights, image_size, device)


@cache
def _kept_on(_: torch.device) -> Callable[[str, str, int, torch.device], Backbone]:
    """Those of one device: what is loaded on another one drives none of them out."""
    return lru_cache(maxsize=_KEPT)(_placed)


def _placed(name: str, weights: str, image_size: int, device: torch.device) -> Backbone:
    with torch.inference_mode(False):  # else no gradient could ever pass through it, to an image or a generator
        backbone = build_backbone(name, weights, image_size).to(device).to(memory_format=torch.channels_last)
        return folded(backbone.requires_grad_(False), _said_of_noise)


def _said_of_noise(backbone: Backbone) -> Sequence[Tensor]:
    """Features and taps of two images."""
    noise = torch.randn(2, 3, SMALLEST_SIDE, SMALLEST_SIDE, generator=torch.Generator().manual_seed(0))
    features, taps = backbone.features_and_taps(noise.to(next(backbone.buffers()).device))
    return [features, *taps]
