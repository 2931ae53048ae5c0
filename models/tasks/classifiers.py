"""The networks for labels of whole images: those of the papers, and those on a backbone of timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.networks.base import TaskConfig, TaskNet
from models.networks.classifier import NetConfig, build_classifier
from models.networks.pretrained import PretrainedConfig, build_pretrained


def classifier_config(values: Mapping[str, Any]) -> NetConfig | PretrainedConfig:
    """What `TaskConfig.to_dict` gave. Raises TypeError for other keys."""
    return PretrainedConfig.from_dict(values) if "digest" in values else NetConfig.from_dict(values)


def build_whole_image_net(config: TaskConfig, seed: int) -> TaskNet:
    """The network of `config` on the CPU, initialized from `seed` alone.

    Raises TypeError for the configuration of another kind of network, and what `build_classifier` and
    `build_pretrained` do.
    """
    if isinstance(config, PretrainedConfig):
        return build_pretrained(config, seed)
    if isinstance(config, NetConfig):
        return build_classifier(config, seed)
    raise TypeError(f"a label of the whole image needs a classifier, got {config}")
