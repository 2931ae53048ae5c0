"""The kinds of task, one a file; the one table that names them is `models.TASK_TABLE`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import models
from models.networks import segmenter
from models.tasks.base import Task


def _made(place: str) -> Task:
    module, _, name = place.partition(":")
    task: Task = getattr(import_module(module), name)()
    return task


TASKS: dict[str, Task] = {name: _made(place) for name, place in models.TASK_TABLE.items()}
CLASSIFICATION, MULTILABEL, SEGMENTATION = (TASKS[name] for name in ("classification", "multilabel", "segmentation"))


def task_named(name: str) -> Task:
    """The kind of this name. Raises KeyError, in words."""
    if name not in TASKS:
        raise KeyError(f"unknown kind of task {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name]


def task_name_of(net_config: Mapping[str, Any]) -> str:
    """Name of the kind of task that a network was built for, from its configuration as `TaskConfig.to_dict` gave it:
    for checkpoints of versions up to 0.3.0, which do not say it. Those knew two kinds, each with networks of its own.
    """
    return SEGMENTATION.name if net_config["name"] in segmenter.NAMES else CLASSIFICATION.name
