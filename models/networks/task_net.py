"""The task networks of both tasks, for what works with either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from models.networks import classifier, segmenter
from models.networks.classifier import Classifier, NetConfig, build_classifier
from models.networks.segmenter import Segmenter, SegmenterConfig, build_segmenter

TaskNet = Classifier | Segmenter
TaskConfig = NetConfig | SegmenterConfig


def build_net(config: TaskConfig, seed: int) -> TaskNet:
    """The network of `config` on the CPU, initialised from `seed` alone. Raises as the two `build_` functions do."""
    if isinstance(config, SegmenterConfig):
        return build_segmenter(config, seed)
    return build_classifier(config, seed)


def config_from_dict(values: Mapping[str, Any]) -> TaskConfig:
    """What `to_dict` gave, of either kind."""
    kind = SegmenterConfig if values["name"] in segmenter.NAMES else NetConfig
    return kind.from_dict(values)


def carry_over(
    old_state: Mapping[str, Tensor], old_classes: Sequence[str], net: TaskNet, new_classes: Sequence[str]
) -> str:
    """Start `net` from an earlier network's state, the head by the classes' names (a segmenter's without background).

    Answers "" when it was carried over, else the reason in words.
    """
    if isinstance(net, Segmenter):
        return segmenter.carry_over(old_state, old_classes, net, new_classes)
    return classifier.carry_over(old_state, old_classes, net, new_classes)
