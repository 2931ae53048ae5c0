"""The kinds of task that curves can be drawn for, one a file, and the one table that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.curves.plan import Plan
from benchmarks.curves.tasks.base import CurveTask, Measure
from benchmarks.curves.tasks.classification import Classification
from benchmarks.curves.tasks.multilabel import Multilabel
from benchmarks.curves.tasks.segmentation import Segmentation

TASKS: dict[str, type[CurveTask[Any]]] = {task.name: task for task in (Classification, Multilabel, Segmentation)}


def task_of(folder: Path, plan: Plan, trial: int = 0) -> CurveTask[Any]:
    """The plan's task on the data set in ``folder``, as a trial has it. Raises PlanError when its images do not
    suffice."""
    task = TASKS[plan.task]
    return task.of(task.open(folder), plan, trial)


def measure_of(plan: Plan) -> Measure:
    """What the networks of the plan's task are judged by."""
    return TASKS[plan.task].measure
