"""Webhook payloads become typed events, events become hints, and hints become the answer to "what is due?".

A webhook is only a hint: Label Studio gives it one second and never repeats it. So an event moves a counter in
the state and nothing else; what is due is computed from the counters, by :func:`due`, whenever a worker asks.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.errors import BackendError

if TYPE_CHECKING:
    from backend.state import Project, State

log = logging.getLogger(__name__)

ANNOTATIONS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "ANNOTATION_DELETED"}
)
TASKS = frozenset({"TASKS_CREATED", "TASKS_DELETED"})
CONFIG = frozenset({"PROJECT_UPDATED"})
TRAIN = frozenset({"START_TRAINING"})


class MalformedEvent(BackendError):
    """A webhook body that is not a Label Studio event."""


@dataclass(frozen=True)
class Event:
    """One webhook: what happened, where, and in how many annotations. ``label_config`` is None when it did not come."""

    action: str
    project_id: int
    annotations: int = 0
    label_config: str | None = None


def parse(payload: Any) -> Event:
    """Read a webhook body.

    Raises:
        MalformedEvent: no action, or no project to apply it to.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("action"), str):
        raise MalformedEvent('A webhook body needs an "action", such as "ANNOTATION_CREATED".')
    project = payload.get("project")
    number = project_number(project)
    if number is None:
        raise MalformedEvent('A webhook body needs a "project" with an "id".')
    action = payload["action"]
    count = 0
    if action in ANNOTATIONS:
        many = payload.get("annotations")
        count = len(many) if isinstance(many, list) and many else 1
    config = project.get("label_config") if isinstance(project, Mapping) else None
    return Event(action, number, count, config if isinstance(config, str) else None)


def project_number(project: Any) -> int | None:
    """The id in ``5``, ``"5"``, ``"5.1700000000"`` or ``{"id": 5}``; None for anything else."""
    if isinstance(project, Mapping):
        project = project.get("id")
    try:
        return int(str(project).split(".")[0])
    except ValueError:
        return None


def record(state: State, event: Event) -> dict[str, Any]:
    if event.action in TRAIN:
        known = state.projects.hint(event.project_id, train=True)
    elif event.action in ANNOTATIONS:
        known = state.projects.hint(event.project_id, annotations=event.annotations)
    elif event.action in TASKS:
        known = state.projects.hint(event.project_id, tasks=True)
    elif event.action in CONFIG:
        known = _project_updated(state, event)
    else:
        return {"status": "ignored", "reason": f"{event.action} changes nothing for the queue"}
    if not known:
        log.info("Ignoring %s of project %s, which is not connected", event.action, event.project_id)
        return {"status": "ignored", "reason": f"project {event.project_id} is not connected to this backend"}
    return {"status": "noted"}


def _project_updated(state: State, event: Event) -> bool:
    """Publishing itself updates the project, and Label Studio reports that back to us: only a changed label config is
    news, and any change while the backend waits for the owner to mend something."""
    project = state.projects.get(event.project_id)
    if project is None:
        return False
    same = event.label_config is None or event.label_config.strip() == project.label_config.strip()
    if same and not project.last_error:
        return True
    return state.projects.hint(event.project_id, config=True)


class Work(enum.Enum):
    """What a worker can do for a project."""

    CYCLE = "train, score and publish"
    UPKEEP = "compare with Label Studio, publish what is unfinished, let new tasks join, remove superseded versions"


@dataclass(frozen=True)
class Backlog:
    """What the state knows of a project's unfinished business, beside its own row."""

    has_version: bool
    unfinished: bool  # a version is scored but not wholly written, or rows of the current one are not
    superseded: bool  # versions whose predictions are still in Label Studio
    quiet_since: float  # when the current version was published
    broken_due: bool  # a broken image's time to be tried again has come


def due(
    project: Project, backlog: Backlog, now: float, *, budget: int, reconcile_seconds: float, cleanup_seconds: float
) -> frozenset[Work]:
    """What is to be done for a project now. Pure: the same rows and time give the same answer.

    A cycle that is due waits only for an order to be out: annotators are served before anything is learnt. (A cycle
    compares with Label Studio itself, so upkeep need not come first; it may still run while another project trains.)
    """
    if now < project.retry_at:
        return frozenset()
    if backlog.unfinished or not backlog.has_version:
        return frozenset({Work.UPKEEP})
    work = set()
    if project.train_requested or project.pending_annotations >= budget:
        work.add(Work.CYCLE)
    stale = project.refresh_seq > project.refresh_seen or now - project.checked_at >= reconcile_seconds
    quiet = not work and now - backlog.quiet_since >= cleanup_seconds
    if stale or backlog.broken_due or (backlog.superseded and quiet):
        work.add(Work.UPKEEP)
    return frozenset(work)
