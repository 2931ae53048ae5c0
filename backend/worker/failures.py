"""What a worker does about a failure: says it, and waits before it tries again."""

from __future__ import annotations

import contextlib
import logging

from backend import events
from backend.errors import (
    BackendError,
    HandsOff,
    LabelStudioRefused,
    LabelStudioUnavailable,
    LeaseLost,
    NoLabels,
    OwnerError,
    Stopped,
    StoreUnavailable,
    message_of,
    understood,
)
from backend.settings.core import Settings
from backend.state import Project, State
from backend.worker import connection, identity

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 2.0
UNAVAILABLE_RETRY_SECONDS = 20.0
"""The longest pause while Label Studio or the store does not respond: it may be back at any moment, and asking costs
little."""
REFUSED_RETRY_SECONDS = 60.0
"""The same while it refuses the key, or something else responds in its place: it may be a restart behind a proxy."""


def handle(state: State, settings: Settings, project: Project, owner: str, error: Exception) -> None:
    """Log what ended the work on ``project``, and say when it is tried again, or set the project aside."""
    if isinstance(error, Stopped | LeaseLost):
        log.info("Project %s: %s", project.id, error)
        if isinstance(error, LeaseLost):  # a call may have reached Label Studio: compare with it again
            state.hints.add(project.id, tasks=True)
    elif isinstance(error, identity.AnotherProject):
        identity.set_aside(state, project, str(error))
    elif isinstance(error, HandsOff):  # was logged when it was found
        wait = min(connection.LOOK_AGAIN_SECONDS, settings.reconcile_seconds)
        values = {"failures": 0, "last_error": None, "retry_at": state.now() + wait}
        with contextlib.suppress(LeaseLost):
            state.projects.update(project.id, owner, **values)
    elif isinstance(error, LabelStudioRefused) and identity.is_gone(settings, project):
        identity.set_aside(state, project, "it does not exist in Label Studio any more", gone=True)
    else:
        known = understood(error)
        if isinstance(known, BackendError):
            log.warning("Project %s: %s", project.id, known)
        else:
            log.exception("Project %s: unexpected failure", project.id)
        with contextlib.suppress(LeaseLost):  # whoever holds the project now will find out
            note(state, project, error, owner)


def note(state: State, project: Project, error: Exception, owner: str | None = None) -> None:
    """Store the failure and when to try again: later after each one in a row. ``owner``: who holds the lease, if
    anybody does."""
    longest = events.LONGEST_RETRY_SECONDS
    if isinstance(error, LabelStudioUnavailable | StoreUnavailable):
        longest = UNAVAILABLE_RETRY_SECONDS
    elif isinstance(error, LabelStudioRefused):
        longest = REFUSED_RETRY_SECONDS
    wait = min(FIRST_RETRY_SECONDS * 2**project.failures, longest)
    if isinstance(error, OwnerError) and not isinstance(error, LabelStudioRefused):
        wait = events.LONGEST_RETRY_SECONDS  # /setup and a changed label config end it early
    if isinstance(error, NoLabels):  # the training request is settled; upkeep of the queue must go on
        wait = 0.0
    state.projects.update(
        project.id,
        owner,
        failures=min(project.failures + 1, 16),
        last_error=message_of(error),
        retry_at=state.now() + wait,
    )
