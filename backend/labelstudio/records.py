"""What the client returns: plain records of what Label Studio holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ProjectInfo:
    """A project as Label Studio describes it.

    ``key`` is "<id>.<created>", as in ``/setup``; unlike an id, it is never reused. ``submitted`` and ``skipped`` count
    its annotations, -1 where Label Studio does not say. ``clock`` is its time in seconds since the epoch. ``overlap``:
    how many annotators a task gets, in the share ``cohort`` (in percent) of the tasks.
    """

    id: int
    key: str
    title: str
    label_config: str
    model_version: str
    sampling: str
    task_number: int
    submitted: int = -1
    skipped: int = -1
    clock: float | None = None
    overlap: int = 1
    cohort: int = 100


@dataclass(frozen=True)
class TaskRef:
    """A task and its data, as it is stored."""

    id: int
    data: dict[str, Any]


@dataclass(frozen=True)
class ChangedTask:
    """A task that may have changed: its data, and how many annotations it has, submitted or skipped."""

    id: int
    data: dict[str, Any]
    annotations: int


@dataclass(frozen=True)
class TaskWork:
    """A task, its data, and how much people have done on it: annotations, skipped ones included, and drafts."""

    id: int
    data: dict[str, Any]
    annotations: int
    drafts: int


@dataclass(frozen=True)
class TaskAnnotations:
    """The submitted annotations of one task, including skipped ones.

    Each has ``id``, ``was_cancelled``, ``ground_truth``, ``created_at``, ``updated_at``, ``completed_by``,
    ``lead_time``, ``parent_prediction`` (the prediction that the editor began it from) and, if requested, ``result``.
    ``is_labeled``: the task has as many annotations as its ``overlap`` requires, and is no longer served.
    ``predictions``: those of the task, if requested, with ``id``, ``result`` and ``model_version``.
    """

    task_id: int
    annotations: list[dict[str, Any]]
    is_labeled: bool = True
    overlap: int = 1
    predictions: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class PredictionRef:
    """A prediction that Label Studio holds."""

    id: int
    task_id: int


@dataclass(frozen=True)
class MLBackend:
    """A backend that a project is connected to. The later it was connected, the higher its id.

    ``answers``: it answered when Label Studio called its ``/setup`` for this list; ``error``: or why not.
    ``model_version``: what it answered last. ``extra_params``: the owner's, as they were typed.
    """

    id: int
    url: str
    title: str = ""
    answers: bool = True
    model_version: str = ""
    extra_params: Any = None
    error: str = ""
