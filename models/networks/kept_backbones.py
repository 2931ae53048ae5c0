"""Frozen backbones of timm, loaded once on a device for all networks that read them there."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.networks.backbones import SMALLEST_SIDE, Backbone, build_backbone
from models.networks.folding import folded

KEPT = 2
"""Loaded backbones on each device: what is loaded on another one drives none of them out."""

Key = tuple[str, str, int, torch.device]
"""Name, weights, side of the images, device."""

_loaded: dict[Key, Backbone] = {}  # the one used last stands last
_lock = threading.Lock()


def kept_backbone(name: str, weights: str, image_size: int, device: torch.device) -> Backbone:
    """`models.networks.backbones.build_backbone` on a device, for reading only, one for all who ask. It is not to be
    trained."""
    key = (name, weights, image_size, device)
    with _lock:
        backbone = _loaded.pop(key, None) or _built(*key)
        _loaded[key] = backbone
        for last in [one for one in _loaded if one[3] == device][:-KEPT]:
            del _loaded[last]
    return backbone


def loaded_backbones() -> dict[Key, Backbone]:
    """Those that are loaded."""
    with _lock:
        return dict(_loaded)


def take_over(backbones: Mapping[Key, Backbone]) -> None:
    """Keep what another process has loaded: its files need not be here."""
    with _lock:
        _loaded.update(backbones)


def _built(name: str, weights: str, image_size: int, device: torch.device) -> Backbone:
    with torch.inference_mode(False):  # else no gradient could ever pass through it, to an image or a generator
        backbone = build_backbone(name, weights, image_size).to(device).to(memory_format=torch.channels_last)
        return folded(backbone.requires_grad_(False), _said_of_noise)


def _said_of_noise(backbone: Backbone) -> Sequence[Tensor]:
    """Features and taps of two images."""
    noise = torch.randn(2, 3, SMALLEST_SIDE, SMALLEST_SIDE, generator=torch.Generator().manual_seed(0))
    features, taps = backbone.features_and_taps(noise.to(next(backbone.buffers()).device))
    return [features, *taps]
