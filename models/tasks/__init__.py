"""The kinds of task, one a file, and the one table that names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.networks import segmenter
from models.tasks.base import Task
from models.tasks.classification import ClassificationTask
from models.tasks.multilabel import MultilabelTask
from models.tasks.segmentation import SegmentationTask

CLASSIFICATION = ClassificationTask()
MULTILABEL = MultilabelTask()
SEGMENTATION = SegmentationTask()

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, MULTILABEL, SEGMENTATION)}


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
