"""Segmenters on a backbone of timm: an encoder that knows images before the first label, and a light decoder.

The decoder follows DeepLabv3+ (Chen et al., Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation, ECCV 2018, section 3.1): what the coarse stages say is enlarged and put beside a few channels of a finer
one, so that its details draw the edges and do not outweigh what tells the classes, and a 3 x 3 convolution refines
both. The coarse stages are added up as in a feature pyramid (Lin et al., CVPR 2017). It has some tens of thousands of
parameters, which a CPU trains in seconds.

Axis letters: B batch, C classes, D channels of the decoder, T_k channels of stage k, E = sum of T_k h_k w_k, H W pixels
of the image, h_k w_k those of stage k, h w those of the finest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import IGNORE
from models.networks.backbones import (
    NOTHING,
    SMALLEST_SIDE,
    Backbone,
    build_backbone,
    digest_of,
    stages_of,
)
from models.networks.base import PretrainedUnavailable, TaskConfig, TaskNet
from models.networks.kept_backbones import kept_backbone
from models.networks.pretrained import COLORS
from models.networks.segmenter import enlarge

WIDTH = 48
"""D unless another is asked for."""

ENCODED_SIDE = 192
"""Smaller images are enlarged to this longer side for the encoder, whose stages are too coarse for them otherwise."""

DETAILS = 6
"""How many times as many channels the coarse stages have in the decoder as the finest one."""

FINEST = 8
"""Strides below this are not decoded: they know edges alone, and cost most."""

ALIGNED = 32
"""Sides that the encoder reads are multiples of this, so that all of its stages have whole strides."""


@dataclass(frozen=True)
class PretrainedSegmenterConfig(TaskConfig):
    """All that is needed to build such a segmenter again.

    name: as timm calls the encoder. num_classes: with the background. weights: "imagenet", "none" or the path of a
    file; digest: of these weights (`models.networks.backbones.digest_of`). frozen: only decoder and head are trained.
    channels, strides: T_k and the strides of the stages that are decoded, finest first. width: D. enlarged: by how
    much images are enlarged for the encoder, at least 1.
    """

    weights: str
    digest: str
    frozen: bool
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    width: int = WIDTH
    enlarged: float = 1.0

    maps: ClassVar[bool] = True

    @classmethod
    def of(cls, name: str, num_classes: int, image_size: int, weights: str, digest: str, frozen: bool) -> Self:
        """For images whose longer side is `image_size` pixels. Raises ValueError for a network that timm does not know
        or that has too few stages."""
        found = [(channels, stride) for channels, stride in stages_of(name) if stride >= FINEST]
        if len(found) < 2:
            raise ValueError(f"{name} has fewer than two stages of stride {FINEST} or more to decode masks from")
        channels, strides = zip(*found, strict=True)
        return cls(
            name, num_classes, weights, digest, frozen, channels, strides, enlarged=max(1.0, ENCODED_SIDE / image_size)
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "channels": tuple(values["channels"]), "strides": tuple(values["strides"])})

    def check(self) -> None:
        if self.frozen and digest_of(self.name, self.weights) != self.digest:
            raise PretrainedUnavailable(f"the decoder was trained on other weights of {self.name}")

    def build(self, seed: int) -> TaskNet:
        return build_pretrained_segmenter(self, seed)

    def bare(self) -> Self:
        """The same without weights that are about to be replaced; a frozen encoder's never are."""
        return self if self.frozen else replace(self, weights=NOTHING)

    def serves(self, num_classes: int, image_size: int) -> bool:
        return self.num_classes == num_classes  # images of every size


class Decoder(nn.Module):
    """Stages (B, T_k, h_k, w_k), finest first, two or more -> features (B, D, h, w) >= 0."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        finest, *coarser = channels
        details = max(1, width // DETAILS)
        self.laterals = nn.ModuleList([nn.Conv2d(count, width, 1, bias=False) for count in coarser])
        self.merge = nn.BatchNorm2d(width)
        self.detail = _normalized(nn.Conv2d(finest, details, 1, bias=False))
        self.refine = _normalized(nn.Conv2d(width + details, width, 3, padding=1, bias=False))

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        finest, *coarser = stages
        merged = torch.zeros((), device=finest.device)
        for lateral, stage in zip(self.laterals, coarser, strict=True):
            merged = merged + enlarge(lateral(stage), coarser[0].shape[-2:])
        known = enlarge(functional.relu(self.merge(merged)), finest.shape[-2:])
        refined: Tensor = self.refine(torch.cat([known, self.detail(finest)], dim=1))
        return refined


def _normalized(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True))


class PretrainedSegmenter(TaskNet):
    """An encoder, its decoder and a 1 x 1 convolution, whose logits are enlarged to the size of the image.

    It reads images (B, 3, H, W), as every task network, or rows of what was kept of some of one size, (B, E), as `keep`
    gave them last. features(x): (B, D, h, w) float32. Taps are the channel means of the encoder's stages and of the
    features.

    encoder: on the head's device. kept_shapes: (T_k, h_k, w_k) of what was kept last, by this network or by another one
    with the same encoder.
    """

    config: PretrainedSegmenterConfig
    encoder: Backbone
    trunk: Decoder
    head: nn.Conv2d

    def __init__(self, config: PretrainedSegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Decoder(config.channels, config.width)
        self.head = nn.Conv2d(config.width, config.num_classes, 1)
        self.tap_channels = (*config.channels, config.width)
        self.kept_shapes: list[torch.Size] = []

    @property
    def rehearses(self) -> bool:
        return True

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) or (B, E) -> (B, D, h, w) float32."""
        with self.precision(x):
            features: Tensor = self.trunk(self._stages(x))
        return features.float()

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the channel means, each (B, T_k) and (B, D) float32."""
        with self.precision(x):
            stages = self._stages(x)
            features = self.trunk(stages).float()
        return features, tuple(stage.float().mean(dim=(2, 3)) for stage in (*stages, features))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C, H, W) float32 of images (B, 3, H, W), at their size."""
        return enlarge(self.head(self.features(x)), x.shape[-2:])

    @torch.no_grad()
    def keep(self, x: Tensor) -> Tensor:
        """What is kept of images (B, 3, H, W): (B, E) float16. Its largest number stands for all beyond."""
        stages = self._encoded(x)
        self.kept_shapes = [stage.shape[1:] for stage in stages]
        largest = torch.finfo(torch.float16).max
        return torch.cat([stage.flatten(1) for stage in stages], dim=1).clamp(-largest, largest).half()

    def _stages(self, x: Tensor) -> Sequence[Tensor]:
        if x.shape[1] == COLORS:
            return self._encoded(x)
        parts = x.split([shape.numel() for shape in self.kept_shapes], dim=1)
        return [part.unflatten(1, tuple(shape)) for part, shape in zip(parts, self.kept_shapes, strict=True)]

    def _encoded(self, x: Tensor) -> Sequence[Tensor]:
        """(B, 3, H, W) -> the stages that are decoded, (B, T_k, h_k, w_k)."""
        size = [-(-round(side * self.config.enlarged) // ALIGNED) * ALIGNED for side in x.shape[-2:]]
        if size != list(x.shape[-2:]):
            x = enlarge(x, size)
        return self.encoder.maps(x)[-len(self.config.channels) :]


class FrozenSegmenter(PretrainedSegmenter):
    """With an encoder that stays as it is. That is no part of its parameters, nor of a checkpoint; it is loaded when an
    image is to be read, and shared."""

    @property
    def encoder(self) -> Backbone:  # type: ignore[override]
        return kept_backbone(self.config.name, self.config.weights, SMALLEST_SIDE, self.head.weight.device)

    @property
    def keeps(self) -> bool:
        return True


class FinetunedSegmenter(PretrainedSegmenter):
    """With an encoder that is trained too, at a lower rate, once there is a decoder (`part_first`)."""

    encoder_rate: ClassVar[float] = 0.01
    decoder_rate: ClassVar[float] = 0.1
    """Shares of the recipe's learning rate, which is for networks that begin with nothing."""

    def __init__(self, config: PretrainedSegmenterConfig, encoder: Backbone) -> None:
        super().__init__(config)
        self.encoder = encoder

    @property
    def keeps(self) -> bool:
        return not any(parameter.requires_grad for parameter in self.encoder.parameters())

    @contextmanager
    def part_first(self) -> Iterator[None]:
        self.encoder.requires_grad_(False)
        try:
            yield
        finally:
            self.encoder.requires_grad_(True)

    def rate_groups(self) -> list[dict[str, Any]]:
        fresh = [*self.trunk.parameters(), *self.head.parameters()]
        if self.keeps:
            return [{"params": fresh, "share": 1.0}]
        return [
            {"params": list(self.encoder.parameters()), "share": self.encoder_rate},
            {"params": fresh, "share": self.decoder_rate},
        ]


def build_pretrained_segmenter(config: PretrainedSegmenterConfig, seed: int) -> FrozenSegmenter | FinetunedSegmenter:
    """The network of `config` on the CPU; decoder and head are initialized from `seed` alone.

    Raises ValueError for a number of classes that a mask cannot hold, and what
    `models.networks.backbones.build_backbone` does, a frozen one only once it is given an image.
    """
    if not 1 <= config.num_classes <= IGNORE:
        raise ValueError(f"a mask holds 1 to {IGNORE} classes with the background, got {config.num_classes}")
    net: FrozenSegmenter | FinetunedSegmenter
    if config.frozen:
        net = FrozenSegmenter(config)
    else:
        net = FinetunedSegmenter(config, build_backbone(config.name, config.weights, SMALLEST_SIDE))
    generator = torch.Generator().manual_seed(seed)
    for module in (*net.trunk.modules(), net.head):
        if isinstance(module, nn.Conv2d):  # PyTorch's default; He's by fan out begins so large that SGD is slow with it
            bound = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return net
