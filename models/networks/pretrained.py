"""Classifiers on a backbone of timm: with the backbone as it is and a head to learn, or with all of it to learn.

Axis letters: B batch, C classes, F features, T_k channels of tap k, E = F + sum of T_k, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from models.data import DataError, Runtime
from models.networks.backbones import (
    NOTHING,
    Backbone,
    Dimensions,
    build_backbone,
    digest_of,
    dimensions_of,
)
from models.networks.base import PretrainedUnavailable, TaskConfig, TaskNet
from models.networks.kept_backbones import kept_backbone

COLORS = 3  # channels of an image, which a row of features is not as short as

_BATCH = 32  # images at a time on a CUDA device
_PIXELS = 200_000  # at a time on a processor: the maps of more leave its caches, which takes up to twice as long


@dataclass(frozen=True)
class PretrainedConfig(TaskConfig):
    """All that is needed to build such a classifier again.

    name: as timm calls the network. image_size: side of the images in pixels. weights: "imagenet", "none" or the path
    of a file. digest: of these weights (`models.networks.backbones.digest_of`); features from others do not fit.
    frozen: only the head is trained. features, taps: F and the T_k.
    """

    image_size: int
    weights: str
    digest: str
    frozen: bool
    features: int
    taps: tuple[int, ...]

    @classmethod
    def of(cls, name: str, num_classes: int, image_size: int, weights: str, digest: str, frozen: bool) -> Self:
        """With the dimensions that the network has. Raises ValueError for one that timm does not know."""
        found = dimensions_of(name)
        return cls(name, num_classes, image_size, weights, digest, frozen, found.features, found.taps)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "taps": tuple(values["taps"])})

    @property
    def width(self) -> int:
        return self.taps[0]

    @property
    def feature_key(self) -> str:
        return f"{self.name}-{self.digest[:16]}-{self.image_size}" if self.frozen else ""

    @property
    def embedding(self) -> int:
        return self.features + sum(self.taps)

    def check(self) -> None:
        if self.frozen and digest_of(self.name, self.weights) != self.digest:
            raise PretrainedUnavailable(f"the head was trained on other weights of {self.name}")

    @property
    def dimensions(self) -> Dimensions:
        return Dimensions(self.features, self.taps)

    def build(self, seed: int) -> TaskNet:
        return build_pretrained(self, seed)

    def bare(self) -> Self:
        """The same without weights that are about to be replaced; a frozen backbone's never are."""
        return self if self.frozen else replace(self, weights=NOTHING)

    def serves(self, num_classes: int, image_size: int) -> bool:
        return (self.num_classes, self.image_size) == (num_classes, image_size)


class _OnBackbone(TaskNet):
    """What both have: a linear head on the backbone's features."""

    config: PretrainedConfig
    head: nn.Linear

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.features, config.num_classes)
        self.tap_channels = config.taps

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) float32."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """What is kept of images (B, 3, H, W): (B, E) float16. Its largest number stands for all beyond."""
        features, taps = self.features_and_taps(x)
        largest = torch.finfo(torch.float16).max
        return torch.cat([features, *taps], dim=1).clamp(-largest, largest).half()


class FrozenClassifier(_OnBackbone):
    """A head on a backbone that stays as it is, so that what the backbone says of an image can be kept.

    It reads images (B, 3, H, W), as every task network, or rows of what is kept of them, (B, E): features and taps side
    by side, as `embed` gives them. Rows of F numbers are features alone. Only the head is a parameter of it, so
    a checkpoint holds no backbone; that is loaded when an image is to be read, and shared.
    """

    @property
    def frozen(self) -> bool:
        return True

    @property
    def trunk(self) -> Backbone:  # type: ignore[override]
        """The backbone, on the head's device. It belongs to all networks that read it."""
        config = self.config
        return kept_backbone(config.name, config.weights, config.image_size, self.head.weight.device)

    @property
    def embedded_at_a_time(self) -> int:
        """How many images `embed` is quickest with, on the head's device."""
        if self.head.weight.device.type == "cuda":
            return _BATCH
        return max(1, round(_PIXELS / self.trunk.side**2))

    def reads(self, pixels: np.ndarray, runtime: Runtime) -> np.ndarray:
        """Rows (M, E) float16 of `runtime.features`, or pixels where there are none. Raises DataError for others."""
        kept = runtime.features
        if kept is None:
            return pixels
        if kept.shape != (len(pixels), self.config.embedding):
            raise DataError(
                f"the features must be {(len(pixels), self.config.embedding)}, a row for each image: got {kept.shape}"
            )
        return kept

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), or (B, E) or (B, F) -> (B, F) float32."""
        return x[:, : self.config.features].float() if x.shape[1] != COLORS else self.features_and_taps(x)[0]

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, 3, H, W) or (B, E) -> (B, F), and each (B, T_k); float32."""
        if x.shape[1] != COLORS:
            features, *taps = x.float().split([self.config.features, *self.config.taps], dim=1)
            return features, tuple(taps)
        with torch.autocast(x.device.type, enabled=False):
            return self.trunk.features_and_taps(x)


class FinetunedClassifier(_OnBackbone):
    """A head on a backbone that is trained with it, at a lower rate."""

    trunk: Backbone
    trunk_rate: ClassVar[float] = 0.01
    head_rate: ClassVar[float] = 0.1
    """Shares of the recipe's learning rate, which is for networks that begin with nothing."""

    def __init__(self, config: PretrainedConfig, trunk: Backbone) -> None:
        super().__init__(config)
        self.trunk = trunk

    @property
    def rehearses(self) -> bool:
        return True

    def rate_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": list(self.trunk.parameters()), "share": self.trunk_rate},
            {"params": list(self.head.parameters()), "share": self.head_rate},
        ]

    def features(self, x: Tensor) -> Tensor:
        return self.features_and_taps(x)[0]

    def features_and_taps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        with self.precision(x):
            features, taps = self.trunk.features_and_taps(x)
        return features.float(), tuple(tap.float() for tap in taps)


def build_pretrained(config: PretrainedConfig, seed: int) -> FrozenClassifier | FinetunedClassifier:
    """The network of `config` on the CPU; its head is initialized from `seed` alone.

    Raises what `models.networks.backbones.build_backbone` does, a frozen one only once it is given an image.
    """
    net: FrozenClassifier | FinetunedClassifier
    if config.frozen:
        net = FrozenClassifier(config)
    else:
        net = FinetunedClassifier(config, build_backbone(config.name, config.weights, config.image_size))
    generator, bound = torch.Generator().manual_seed(seed), 1 / math.sqrt(config.features)
    nn.init.uniform_(net.head.weight, -bound, bound, generator=generator)
    nn.init.uniform_(net.head.bias, -bound, bound, generator=generator)
    return net
