"""The networks for labels of whole images: those of the papers, and those on a backbone of timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.networks.classifier import NetConfig
from models.networks.pretrained import PretrainedConfig


def classifier_config(values: Mapping[str, Any]) -> NetConfig | PretrainedConfig:
    """What `TaskConfig.to_dict` gave. Raises TypeError for other keys."""
    return PretrainedConfig.from_dict(values) if "digest" in values else NetConfig.from_dict(values)
