"""Whose project it is: Label Studio's list of connections is asked before anything is trained or written.

While Label Studio answers for its list, it calls ``/setup`` of every backend on it. So a connection is ours if our
``/setup`` was called meanwhile, whatever address leads to it; or, while we do not answer, if it has our address.

If a second backend orders the queue of the same project, that which was connected later has it: Label Studio gave it
the higher id, and both can see that. The other one stands back until the owner removes one of the two connections.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from backend.errors import HandsOff
from backend.files import VERSION_NAME
from backend.labelstudio.records import MLBackend, ProjectInfo
from backend.labelstudio.webhook import basic_auth, same_address
from backend.state import Project
from backend.worker.job import Job

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 60.0
"""When to look again at a project that is not ours to work on. ``/setup`` ends that wait early."""

NOTED_SECONDS = 3.0
"""How long it may take until a ``/setup`` that was answered is noted in the state: the database may be busy."""

ASK_AGAIN_SECONDS = 1.0
"""How long another backend may take from putting its first version in force to saying so."""


@dataclass(frozen=True)
class Standing:
    """Where we stand in a project.

    ``row``: the connection that is ours, None if that could not be told. ``reason``: why the project is not ours to
    work on, in words; empty if it is. ``rival``: the id of the connection that has the queue instead. ``warning``:
    another backend put its version in force, and we take the queue back. ``info``: the project, where it was asked for.
    """

    row: MLBackend | None = None
    reason: str = ""
    rival: int | None = None
    warning: str = ""
    info: ProjectInfo | None = None


def require(job: Job, info: ProjectInfo | None = None) -> Standing:
    """Check that the project is ours to work on, and note in the state what was found. ``info``: the project, if it was
    read a moment ago.

    Raises:
        HandsOff: it is not; the message says why, and what the owner can do.
        LabelStudioUnavailable, LabelStudioRefused: Label Studio does not say.
    """
    standing = _standing(job, info)
    project = job.reread().project
    values = {"hands_off": standing.reason or None, "yields_to": standing.rival}
    if standing.row is not None:
        values |= {"connection_id": standing.row.id, "connection_url": standing.row.url}
    if any(getattr(project, name) != value for name, value in values.items()):
        job.state.projects.update(job.project.id, job.owner, **values)
    if standing.warning:
        note(job, standing.warning)
    if standing.reason:
        if standing.reason != project.hands_off:
            log.warning("Project %s: %s", project.name, standing.reason)
        raise HandsOff(standing.reason)
    if project.hands_off:
        log.info("Project %s: it is this backend's to work on again", project.name)
    return standing


def note(job: Job, words: str) -> None:
    """Keep for ``status`` what was found in Label Studio, and log it unless it was found before."""
    if job.reread().project.queue_note != words:
        log.warning("Project %s: %s", job.project.name, words)
    job.state.projects.update(job.project.id, job.owner, queue_note=words, queue_noted_at=job.state.now())


def look_after_webhook(job: Job, row: MLBackend | None) -> None:
    """Set right the webhook that tells us of changes, and create it if it is gone. Without it, changes are noticed only
    at the next comparison."""
    if row is None:
        return
    header = basic_auth(job.settings.basic_auth_user, job.settings.basic_auth_pass)
    wrong = job.gateway.connections.repair_webhook(job.project.number, [row.url], header)
    if wrong is None:
        job.check()
        job.gateway.connections.create_webhook(job.project.number, row.url, header)
        wrong = ["there was none"]
    if wrong:
        log.info("Project %s: the webhook to %s was set right: %s", job.project.name, row.url, ", ".join(wrong))


def _standing(job: Job, info: ProjectInfo | None) -> Standing:
    rows, heard = _ask(job, lambda: job.gateway.connections.of_project(job.project.number))
    project = job.reread().project
    ours = _ours(project, rows, heard)
    if len(ours) > 1:  # none of them is at an address that we know
        ours = [row for row in ours if _ask(job, partial(_only, job, row))[1]]
    if not ours:
        known = project.address or project.connection_id
        if not known and any(not row.answers for row in rows):
            return Standing()  # nobody knows whether a connection that does not answer is ours: go on as before
        return Standing(reason=not_listed(project))
    if not job.settings.manage_queue:
        return Standing(ours[-1])
    names = {version.name for version in job.state.versions.of_project(project.id)}
    info = job.gateway.project(project.number) if info is None else info
    standing = judge(ours[-1], rows, info.model_version, names, project.yields_to)
    if standing.warning and any(row.answers and not row.model_version and row.id > ours[-1].id for row in rows):
        time.sleep(ASK_AGAIN_SECONDS)  # perhaps that was its first version
        rows = job.gateway.connections.of_project(project.number)
        info = job.gateway.project(project.number)
        standing = judge(ours[-1], rows, info.model_version, names, project.yields_to)
    return replace(standing, info=info)


def _only(job: Job, row: MLBackend) -> list[MLBackend]:
    return [job.gateway.connections.with_id(row.id)]


def _ask(job: Job, question: Callable[[], list[MLBackend]]) -> tuple[list[MLBackend], bool]:
    """The answer, and whether our ``/setup`` was called meanwhile."""
    before = job.reread().project.setups
    rows = question()
    until = time.monotonic() + NOTED_SECONDS
    while not (heard := job.reread().project.setups > before):
        if time.monotonic() >= until or not any(row.answers for row in rows):
            break
        time.sleep(0.1)
    return rows, heard


def _ours(project: Project, rows: Sequence[MLBackend], heard: bool) -> list[MLBackend]:
    """The connections that may be ours: one, none, or several of which only one is."""
    if not heard:  # then a connection that answered is another's
        rows = [row for row in rows if not row.answers]
    for mine in (
        [row for row in rows if same_address(row.url, project.address)],
        [row for row in rows if row.id == project.connection_id],
    ):
        if mine:
            return mine[-1:]
    return [row for row in rows if row.answers] or list(rows) if heard else []


def judge(
    ours: MLBackend, rows: Sequence[MLBackend], in_force: str, names: Collection[str], yields_to: int | None
) -> Standing:
    """Where we stand beside the other backends on the list.

    ``in_force``: the version that orders the queue, "" if none does. ``names``: of our own versions.
    ``yields_to``: the connection that we stood back for until now.
    """
    others = [row for row in rows if row.id != ours.id]
    titles = {row.title for row in rows}  # Label Studio puts one there while a project has no version
    foreign = bool(in_force) and in_force not in names and in_force not in titles
    rivals = [row for row in others if foreign and _published(row, in_force)]
    newer = [row for row in others if row.id > ours.id and (row in rivals or row.id == yields_to)]
    if newer:
        return Standing(ours, stands_back(newer[-1]), newer[-1].id)
    if not foreign:
        return Standing(ours)
    if rivals:
        cause = (
            f"The backend at {rivals[-1].url} put its version {in_force} in force. This one was connected later, so it"
            " takes the queue back: remove the other connection under Settings > Model, and stop that backend"
        )
    elif VERSION_NAME.fullmatch(in_force):
        cause = (
            f"The version {in_force} was in force, which this backend does not know: if another backend is still"
            " running that Label Studio does not list, stop it"
        )
    else:
        return Standing(ours)
    return Standing(ours, warning=cause)


def _published(row: MLBackend, version: str) -> bool:
    """Whether ``version`` may be from the backend of this connection. What that answered last may be out of date."""
    last = row.model_version
    of_our_kind = VERSION_NAME.fullmatch(last) if last else not row.answers
    return last == version or bool(of_our_kind and VERSION_NAME.fullmatch(version))


def not_listed(project: Project) -> str:
    """For the owner."""
    where = f" at {project.connection_url or project.address}" if project.connection_url or project.address else ""
    return (
        f"Label Studio no longer lists this backend{where} in the project, so nothing is trained or written. Connect it"
        f' again under Settings > Model, or forget the project: "python -m backend forget {project.name}"'
    )


def stands_back(rival: MLBackend) -> str:
    """For the owner."""
    return (
        f"The backend at {rival.url} was connected later and has the queue, so this one stands back: nothing is trained"
        " or written. Remove one of the two connections under Settings > Model"
    )
