"""Webhook payloads become typed events, events become hints, and :func:`due` computes from the hints what is due.

A webhook is only a hint: Label Studio waits one second for a response and never repeats the call. So an event only
increments a counter in the state. What is due is computed from the counters whenever a worker asks.
"""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeGuard

from backend.errors import BackendError
from backend.state.leases import CLOCK_SECONDS

if TYPE_CHECKING:
    from backend.state import Project, State

log = logging.getLogger(__name__)

ANNOTATIONS = frozenset(
    {"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "ANNOTATION_DELETED"}
)
TASKS = frozenset({"TASKS_CREATED", "TASKS_DELETED"})
CONFIG = frozenset({"PROJECT_UPDATED"})
PROJECT = frozenset({"PROJECT_CREATED", "PROJECT_DELETED"})  # sent to webhooks of the whole organization only
TRAIN = frozenset({"START_TRAINING"})


LARGEST_ID = 2**31 - 1
"""Label Studio's ids are integers of 32 bits, and so are those in our database."""

UNCERTAINTY = "Uncertainty sampling"
"""The sampling method of a project that serves the lowest score first."""

_NUMBER = re.compile(r"\s*([0-9]{1,19})(\.[0-9]*)?\s*", re.ASCII)

LONGEST_RETRY_SECONDS = 300.0
"""The longest pause after a failure."""

MOST_SUPERSEDED = 3
"""With more superseded versions than these, the oldest are removed even while people label."""


class MalformedEvent(BackendError):
    """The body of a webhook is not a Label Studio event."""


@dataclass(frozen=True)
class Event:
    """One webhook: what happened, in which project, and to how many annotations. ``label_config``, ``model_version``,
    ``sampling`` and ``overlap`` are the project's; None when the payload has none. ``key`` is the project's too, if the
    payload says when it was created, else only its number."""

    action: str
    project_id: int
    annotations: int = 0
    label_config: str | None = None
    key: str = ""
    model_version: str | None = None
    sampling: str | None = None
    overlap: int | None = None


def parse(payload: Any) -> Event:
    """Parse the body of a webhook.

    Raises:
        MalformedEvent: it has no action, or no project that the action applies to.
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
        count = max(1, *(_length(payload.get(key)) for key in ("annotations", "annotation")))
    fields = project if isinstance(project, Mapping) else {}
    texts = {name: fields.get(name) for name in ("label_config", "model_version", "sampling")}
    overlap = fields.get("maximum_annotations")
    known = {name: text for name, text in texts.items() if isinstance(text, str)}
    overlap = overlap if isinstance(overlap, int) else None
    return Event(action, number, count, **known, key=project_key(project, number), overlap=overlap)


def _length(items: Any) -> int:
    """Label Studio sends one annotation as an object, several as a list, under either of two keys."""
    return len(items) if isinstance(items, list) else 0


def project_number(project: Any) -> int | None:
    """The id in ``5``, ``"5"``, ``"5.1700000000"`` or ``{"id": 5}``; None for anything else."""
    if isinstance(project, Mapping):
        project = project.get("id")
    found = _NUMBER.fullmatch(str(project)) if isinstance(project, int | float | str) else None
    number = int(found[1]) if found else 0
    return number if is_id(number) else None


def is_id(number: object) -> TypeGuard[int]:
    """Whether it can be the id of something in Label Studio, and in our database: from 1 to :data:`LARGEST_ID`."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number <= LARGEST_ID


def project_key(project: Any, number: int) -> str:
    """The key "<number>.<created>" of the project in a payload; only its number if that does not say when it was
    created."""
    created = project.get("created_at") if isinstance(project, Mapping) else None
    try:
        return (
            f"{number}.{int(datetime.fromisoformat(created).timestamp())}" if isinstance(created, str) else str(number)
        )
    except (ValueError, OverflowError):
        return str(number)


def record(state: State, event: Event, unknown: Callable[[int, Event], None] | None = None) -> dict[str, Any]:
    """Store an event as a hint. Returns the body of the response to the webhook. ``unknown`` is told the number of a
    project that is not connected."""
    if event.action in TRAIN:
        known = state.hints.add_named(event.project_id, event.key, train=True)
    elif event.action in ANNOTATIONS:
        known = state.hints.add_named(event.project_id, event.key, annotations=event.annotations)
    elif event.action in TASKS or event.action in PROJECT:
        known = state.hints.add_named(event.project_id, event.key, tasks=True)
    elif event.action in CONFIG:
        known = _project_updated(state, event)
    else:
        return {"status": "ignored", "reason": f"{event.action} changes nothing for the queue"}
    if not known:
        log.info("Ignoring %s of project %s, which is not connected", event.action, event.project_id)
        if unknown is not None:
            unknown(event.project_id, event)
        return {"status": "ignored", "reason": f"project {event.project_id} is not connected to this backend"}
    return {"status": "noted"}


def _project_updated(state: State, event: Event) -> bool:
    """Publishing also updates the project, which Label Studio reports back to us. So an update only counts if the label
    config or the overlap changed, if the queue is no longer in our order, or if the backend is waiting for the owner to
    fix something."""
    known = state.projects.named(event.project_id, event.key)
    for project in known:
        same = event.label_config is None or event.label_config.strip() == project.label_config.strip()
        same = same and event.overlap in (None, project.overlap)
        if not same or project.last_error or not _is_our_order(state, project, event):
            state.hints.add(project.id, config=True)
    return bool(known)


def _is_our_order(state: State, project: Project, event: Event) -> bool:
    """Whether the queue of the project in ``event`` is ordered as we published it, or are just about to."""
    if project.current_version_id is None:
        return True
    if event.sampling not in (None, UNCERTAINTY):
        return False
    versions = state.versions.of_project(project.id, removed=False)
    ours = [version.name for version in versions if version.id >= project.current_version_id]
    return event.model_version is None or event.model_version in ours


class Work(enum.Enum):
    """What a worker can do for a project."""

    CYCLE = "train, score and publish"
    UPKEEP = "compare with Label Studio, finish publishing, add new tasks to the queue, remove superseded versions"


@dataclass(frozen=True)
class Backlog:
    """A project's unfinished work, as far as it is stored outside the project's own row."""

    has_version: bool
    unfinished: bool  # a version is scored but not completely published, or little of the current one's head is left
    superseded: int  # how many superseded versions still have predictions in Label Studio
    quiet_since: float  # when the current version was published, or the last annotation arrived
    broken_due: bool  # some broken image is due to be tried again
    labels: int = 0  # that the current version learned from
    used_up: bool = False  # the head of the current version is to be filled up
    images_to_send: bool = False  # generated images of the current version are not tasks yet


def due(
    project: Project, backlog: Backlog, now: float, *, budget: int, reconcile_seconds: float, cleanup_seconds: float
) -> frozenset[Work]:
    """The work that is due for a project now. A pure function of the rows and the time.

    The first order is published before any cycle runs, so that annotators are served before anything is trained.
    Otherwise a cycle does not have to wait for upkeep, because it makes its own comparison with Label Studio. Upkeep
    may still run while another project trains.
    """
    if waits(project, now):
        return frozenset()
    if backlog.unfinished or not backlog.has_version:
        return frozenset({Work.UPKEEP})
    work = set()
    if project.train_requested or project.pending_annotations >= budget:
        work.add(Work.CYCLE)
    stale = project.refresh_seq > project.refresh_seen or _is_over(project.checked_at, reconcile_seconds, now)
    wanted = backlog.used_up or backlog.images_to_send or project.replay_requested
    if stale or backlog.broken_due or wanted or (not work and removal_due(backlog, now, cleanup_seconds)):
        work.add(Work.UPKEEP)
    return frozenset(work)


def waits(project: Project, now: float) -> bool:
    """Whether the pause after a failure is not over. One that would last longer than any pause was noted by a clock
    that was ahead, and is over."""
    return now < project.retry_at <= now + LONGEST_RETRY_SECONDS


def _is_over(since: float, seconds: float, now: float) -> bool:
    """Whether so many seconds have passed. A time in the future was noted by a clock that was ahead: then they have."""
    return now - since >= seconds or since > now + CLOCK_SECONDS


def removal_due(backlog: Backlog, now: float, cleanup_seconds: float) -> bool:
    """Whether superseded versions are to be removed from Label Studio now: when nobody has labeled for some time, or
    when there are too many of them."""
    quiet = _is_over(backlog.quiet_since, cleanup_seconds, now)
    return backlog.superseded > 0 and (quiet or backlog.superseded > MOST_SUPERSEDED)
