"""The task network: ResNet-18 and VGG-16-BN, at any width, for small and large images.

Axis letters: B batch, F features, C classes, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from models.networks.base import PretrainedUnavailable, TaskConfig, TaskNet, drop_channels
from models.networks.residual import residual_stage

SMALL_IMAGE = 64  # images up to this side get the CIFAR stem (3x3 convolution, no pooling)
CLASSIFIER_WIDTH = 64  # channels of the first stage in the papers and in torchvision

# VGG configuration "D" (Simonyan & Zisserman 2015, table 1) in multiples of the width; "M" halves the size.
_VGG16: tuple[int | str, ...] = (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M")


@dataclass(frozen=True)
class NetConfig(TaskConfig):
    """All that is needed to build a classifier again.

    name "resnet18" or "vgg16-bn"; image_size: side in pixels; width: channels of the first stage.
    """

    image_size: int
    width: int = CLASSIFIER_WIDTH
    pretrained: bool = False

    def build(self, seed: int) -> TaskNet:
        return build_classifier(self, seed)

    def bare(self) -> Self:
        return replace(self, pretrained=False)

    def serves(self, num_classes: int, image_size: int) -> bool:
        return (self.num_classes, self.image_size) == (num_classes, image_size)


class Classifier(TaskNet):
    """A convolutional trunk, global average pooling, one linear head: for one class an image and for several.

    features(x): (B, 3, H, W) normalized float -> (B, F) float32, F = 8 * width.
    features_and_taps(x): the same, and taps of the last four stages.
    forward(x): -> logits (B, C) float32.
    """

    config: NetConfig
    head: nn.Linear

    def __init__(self, trunk: nn.Sequential, taps: Sequence[str], config: NetConfig) -> None:
        """taps: names of the children of `trunk` whose outputs are the stages'."""
        super().__init__()
        self.trunk = trunk
        self.config = config
        self.head = nn.Linear(8 * config.width, config.num_classes)
        self.tap_channels = tuple(config.width * factor for factor in _TAP_FACTORS[config.name])
        self._taps = tuple(taps)

    def features(self, x: Tensor) -> Tensor:
        """Channel means of the trunk's last maps: (B, 3, H, W) -> (B, F) float32."""
        with self.precision(x):
            maps = self.trunk(x)
        return maps.float().mean(dim=(2, 3))

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, and the channel means of the outputs of the last four stages, each (B, T_k) float32."""
        taps = []
        with self.precision(x):
            for name, layer in self.trunk.named_children():
                x = layer(x)
                if name in self._taps:
                    taps.append(x)
        return x.float().mean(dim=(2, 3)), tuple(maps.float().mean(dim=(2, 3)) for maps in taps)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Of the tapped stages but the last one, whose channel means are the features."""
        return self.tap_channels[:-1]

    def thinned_features(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        mask_after = dict(zip(self._taps[:-1], masks, strict=True))
        with self.precision(x):
            for name, layer in self.trunk.named_children():
                x = layer(x)
                if name in mask_after:
                    x = drop_channels(x, mask_after[name])
        return x.float().mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) float32 of images (B, 3, H, W)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def build_classifier(config: NetConfig, seed: int) -> Classifier:
    """The network of `config` on the CPU, initialized from `seed` alone; global generators stay untouched.

    Raises ValueError for a network that does not exist, PretrainedUnavailable when `config.pretrained` cannot
    be honored.
    """
    if config.name not in _TRUNKS:
        raise ValueError(f"unknown task network {config.name!r}: choose one of {', '.join(sorted(_TRUNKS))}")
    if config.width < 1 or config.num_classes < 1:
        raise ValueError(f"width and num_classes must be at least 1, got {config}")
    with torch.device("meta"):  # no weight is drawn twice
        trunk, taps = _TRUNKS[config.name](config)
        net = Classifier(trunk, taps, config)
    net.to_empty(device="cpu")
    _initialize(net, torch.Generator().manual_seed(seed))
    if config.pretrained:
        _load_pretrained(net, config)
    return net


Trunk = tuple[nn.Sequential, list[str]]  # the layers, and the names of those that are tapped


def _resnet18_trunk(config: NetConfig) -> Trunk:
    """ResNet-18 (He et al. 2016, table 1) without pooling and head; parameter names are torchvision's."""
    width = config.width
    trunk = nn.Sequential()
    if config.image_size <= SMALL_IMAGE:
        trunk.add_module("conv1", nn.Conv2d(3, width, 3, stride=1, padding=1, bias=False))
    else:
        trunk.add_module("conv1", nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False))
    trunk.add_module("bn1", nn.BatchNorm2d(width))
    trunk.add_module("relu", nn.ReLU(inplace=True))
    if config.image_size > SMALL_IMAGE:
        trunk.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
    for stage in range(4):
        channels = width << stage
        stride = 2 if stage else 1
        trunk.add_module(f"layer{stage + 1}", residual_stage(max(width, channels // 2), channels, stride))
    return trunk, ["layer1", "layer2", "layer3", "layer4"]


def _vgg16_trunk(config: NetConfig) -> Trunk:
    """VGG-16 with batch normalization, convolutions only; torchvision's `features`. Tapped after each pooling but the
    first.
    """
    if config.image_size < 32:
        raise ValueError(f"vgg16-bn halves images five times and needs 32 px or more, got {config.image_size}")
    trunk, channels_in = nn.Sequential(), 3
    for entry in _VGG16:
        if isinstance(entry, str):
            trunk.append(nn.MaxPool2d(2, stride=2))
            continue
        channels = entry * config.width
        convolution = nn.Conv2d(channels_in, channels, 3, padding=1)
        trunk.extend([convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)])
        channels_in = channels
    poolings = [name for name, layer in trunk.named_children() if isinstance(layer, nn.MaxPool2d)]
    return trunk, poolings[1:]


_TRUNKS: dict[str, Callable[[NetConfig], Trunk]] = {
    "resnet18": _resnet18_trunk,
    "vgg16-bn": _vgg16_trunk,
}
_TAP_FACTORS = {"resnet18": (1, 2, 4, 8), "vgg16-bn": (2, 4, 8, 8)}  # channels of the tapped stages ÷ width


def _initialize(net: nn.Module, generator: torch.Generator) -> None:
    """He initialization (fan out) of convolutions, as in torchvision; PyTorch's default for linear layers."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def _load_pretrained(net: Classifier, config: NetConfig) -> None:
    """torchvision's ImageNet weights into the trunk; the head keeps its fresh initialization.

    ResNet-18 for small images has another first convolution than torchvision's: that one and its
    normalization stay fresh, the rest is loaded.
    """
    if config.width != CLASSIFIER_WIDTH:
        raise PretrainedUnavailable(
            f"pretrained weights exist for task_width {CLASSIFIER_WIDTH} only, not for {config.width}: "
            f"set task_width to {CLASSIFIER_WIDTH} or pretrained to false"
        )
    from torchvision.models import ResNet18_Weights, VGG16_BN_Weights  # here: it takes seconds, and few ask for it

    weights = ResNet18_Weights.IMAGENET1K_V1 if config.name == "resnet18" else VGG16_BN_Weights.IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise PretrainedUnavailable(
            f"the pretrained weights of {config.name} could not be downloaded ({error}): "
            "connect to the internet once, or set pretrained to false"
        ) from error
    load_torchvision_state(net, config, state)


def load_torchvision_state(net: Classifier, config: NetConfig, state: Mapping[str, Tensor]) -> None:
    """Copy a torchvision state dict into the trunk; see `_load_pretrained` for what stays fresh."""
    prefix = "features." if config.name == "vgg16-bn" else ""
    fresh_stem = config.name == "resnet18" and config.image_size <= SMALL_IMAGE
    own = net.trunk.state_dict()
    for key in own:
        if not (fresh_stem and key.startswith(("conv1.", "bn1."))):
            own[key] = state[prefix + key]
    net.trunk.load_state_dict(own)
