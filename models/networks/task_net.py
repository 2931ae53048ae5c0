"""Earlier names, until their last user is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from models.networks.base import TaskConfig, TaskNet
from models.tasks import task_name_of, task_named


def build_net(config: TaskConfig, seed: int) -> TaskNet:
    return task_named(task_name_of(config.to_dict())).build(config, seed)


def config_from_dict(values: Mapping[str, Any]) -> TaskConfig:
    return task_named(task_name_of(values)).config_from_dict(values)


def carry_over(
    old_state: Mapping[str, Tensor], old_classes: Sequence[str], net: TaskNet, new_classes: Sequence[str]
) -> str:
    return net.task.carry_over(old_state, old_classes, net, new_classes)
