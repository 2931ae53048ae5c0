"""The task network for segmentation: a trunk that gives a map of features, and one 1 x 1 convolution to the classes.

A mask is (H, W) uint8: 0 the background, 1.. the labels in their order, 255 (`models.data.IGNORE`) what
nobody said anything about. The background is one of the C classes.

Axis letters: B batch, F features, C classes, H W pixels, h w those of the features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import IGNORE
from models.networks.base import PretrainedUnavailable, TaskConfig, TaskNet, drop_channels
from models.networks.drn import DRN_WIDTH, DilatedResidualTrunk, Tap
from models.networks.torchvision_segmenters import (
    DeepLabTrunk,
    LiteRasppTrunk,
    download_trunk_state,
    load_torchvision_state,
)

Trunk = DilatedResidualTrunk | DeepLabTrunk | LiteRasppTrunk


@dataclass(frozen=True)
class SegmenterConfig(TaskConfig):
    """All that is needed to build a segmenter again.

    name "drn-d-22", "deeplabv3-resnet50" or "lraspp-mobilenetv3"; num_classes: with the background; width: channels
    of the first stage, 0 = as published, which is all that the last two can be.
    """

    width: int = 0
    pretrained: bool = False

    maps: ClassVar[bool] = True

    def build(self, seed: int) -> TaskNet:
        return build_segmenter(self, seed)

    def bare(self) -> Self:
        return replace(self, pretrained=False)

    def serves(self, num_classes: int, image_size: int) -> bool:
        return self.num_classes == num_classes  # images of every size


class Segmenter(TaskNet):
    """A convolutional trunk and a 1 x 1 convolution, whose logits are enlarged to the size of the image.

    features(x): (B, 3, H, W) normalized float -> (B, F, h, w) float32, h = ceil(H / stride), w = ceil(W / stride).
    features_and_taps(x): the same, and taps of four stages.
    forward(x): -> logits (B, C, H, W) float32, bilinear between those of `head(features)`.
    """

    config: SegmenterConfig
    trunk: Trunk
    head: nn.Conv2d

    def __init__(self, trunk: Trunk, config: SegmenterConfig) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = config
        self.stride = trunk.stride
        self.tap_channels = trunk.tap_channels
        self.head = nn.Conv2d(trunk.channels, config.num_classes, 1)

    def features(self, x: Tensor) -> Tensor:
        """Maps of features: (B, 3, H, W) -> (B, F, h, w) float32."""
        return self._maps(x, _untouched)

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the channel means of the outputs of four stages, each (B, T_k) float32."""
        taps: list[Tensor] = []

        def pooled(stage: Tensor) -> Tensor:
            # At once: what comes later may write over a stage's map, and none of them stays in memory.
            taps.append(stage.float().mean(dim=(2, 3)))
            return stage

        maps = self._maps(x, pooled)
        return maps, tuple(taps)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Of all tapped stages: there are more layers behind the last one."""
        return self.tap_channels

    def thinned_features(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        if len(masks) != len(self.stage_channels):
            raise ValueError(f"{self.config.name} has {len(self.stage_channels)} stages, and got {len(masks)} masks")
        waiting = iter(masks)
        return self._maps(x, lambda stage: drop_channels(stage, next(waiting)))

    def _maps(self, x: Tensor, tap: Tap) -> Tensor:
        with self.precision(x):
            maps: Tensor = self.trunk(x, tap)
        return maps.float()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C, H, W) float32 of images (B, 3, H, W), at their size."""
        return enlarge(self.head(self.features(x)), x.shape[-2:])


def _untouched(stage: Tensor) -> Tensor:
    """The tap of nobody."""
    return stage


def enlarge(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, h, w) to (B, C, H, W) for `size` (H, W), bilinear."""
    return functional.interpolate(logits, size=list(size), mode="bilinear", align_corners=False)


def build_segmenter(config: SegmenterConfig, seed: int) -> Segmenter:
    """The network of `config` on the CPU, initialized from `seed` alone; global generators stay untouched.

    Raises ValueError for a network that does not exist, PretrainedUnavailable when `config.pretrained` cannot be
    honored.
    """
    if config.name not in _TRUNKS:
        raise ValueError(f"unknown segmentation network {config.name!r}: choose one of {', '.join(sorted(_TRUNKS))}")
    if not 1 <= config.num_classes <= IGNORE:
        raise ValueError(f"a mask holds 1 to {IGNORE} classes with the background, got {config.num_classes}")
    if config.width < 0:
        raise ValueError(f"the width must be at least 0, got {config.width}")
    with torch.device("meta"):  # no weight is drawn twice
        net = Segmenter(_TRUNKS[config.name](config), config)
    net.to_empty(device="cpu")
    initialize(net.trunk, net.head, torch.Generator().manual_seed(seed))
    if config.pretrained:
        _load_pretrained(net, config)
    return net


def _drn_trunk(config: SegmenterConfig) -> Trunk:
    return DilatedResidualTrunk(config.width or DRN_WIDTH)


def _deeplab_trunk(config: SegmenterConfig) -> Trunk:
    _refuse_width(config)
    return DeepLabTrunk()


def _lite_raspp_trunk(config: SegmenterConfig) -> Trunk:
    _refuse_width(config)
    return LiteRasppTrunk()


def _refuse_width(config: SegmenterConfig) -> None:
    if config.width != 0:
        raise ValueError(f"{config.name} has one width only: set it to 0, or take drn-d-22, which has any")


_TRUNKS: dict[str, Callable[[SegmenterConfig], Trunk]] = {
    "drn-d-22": _drn_trunk,
    "deeplabv3-resnet50": _deeplab_trunk,
    "lraspp-mobilenetv3": _lite_raspp_trunk,
}


NAMES = tuple(_TRUNKS)


def initialize(trunk: nn.Module, head: nn.Conv2d, generator: torch.Generator) -> None:
    """He initialization (fan out) of the trunk's convolutions, as in the originals; PyTorch's default for the head.

    Fan out would give the head, which has few outputs and many inputs, logits of size 7 and more to start from.
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    bound = 1 / math.sqrt(head.in_channels)
    nn.init.uniform_(head.weight, -bound, bound, generator=generator)
    if head.bias is not None:
        nn.init.uniform_(head.bias, -bound, bound, generator=generator)


def _load_pretrained(net: Segmenter, config: SegmenterConfig) -> None:
    """Published weights into the trunk; the head keeps its fresh initialization."""
    if isinstance(net.trunk, DilatedResidualTrunk):
        raise PretrainedUnavailable(
            f"torchvision has no pretrained weights for {config.name}: set pretrained to false, or take "
            "deeplabv3-resnet50 or lraspp-mobilenetv3"
        )
    load_torchvision_state(net.trunk, download_trunk_state(config.name))
