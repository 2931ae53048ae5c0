"""Makes sure, before any work, that Label Studio still means the same project by its number as the state does."""

from __future__ import annotations

import logging
from dataclasses import replace

from backend.errors import BackendError, OwnerError
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings
from backend.state import Project, State
from backend.state.identities import studio_of
from backend.state.records import CONNECTED, UNCHECKED
from backend.worker.job import Job

log = logging.getLogger(__name__)


class AnotherProject(OwnerError):
    """Label Studio has another project under this number: one that was created at another time."""


def confirm(job: Job) -> Job:
    """The same job with its ``info``, after Label Studio, asked with our own credentials, has said that the project is
    the one that the state knows. Takes one request of 0.03 s.

    Raises:
        AnotherProject: it is not: nothing of it may be written there, and nothing of what is stored may be lost.
        LabelStudioRefused, LabelStudioUnavailable: nothing is known, so nothing is changed.
    """
    project, studio = job.project, studio_of(job.gateway.url)
    info = job.gateway.project(project.number)
    key, job = info.key, replace(job, info=info)
    if project.key not in (key, str(project.number)):
        raise AnotherProject(f"Label Studio at {studio} has another project under number {project.number}")
    if (project.key, project.studio, project.standing) == (key, studio, CONNECTED):
        return job
    job.state.projects.confirm(project, key, studio)
    return job.reread()


def set_aside(state: State, project: Project, reason: str, *, gone: bool = False) -> None:
    """Keep everything of a project and do no more work on it; or forget it, if it was only announced, so that there is
    nothing to keep."""
    if project.standing == UNCHECKED:
        log.info("Project %s is not what was announced: %s", project.name, reason)
        state.projects.remove(project.id)
        return
    log.warning("Project %s (%s) is set aside, everything of it is kept: %s", project.name, project.key, reason)
    state.projects.set_aside(project.id, reason, gone=gone)


def is_gone(settings: Settings, project: Project) -> bool:
    """Whether the project was deleted in Label Studio: the key works, but the project is not found. Not if Label Studio
    cannot be asked."""
    try:
        gateway = LabelStudio.of_project(settings, project)
        gateway.check()
        return not gateway.project_exists(project.number)
    except BackendError as error:
        log.debug("Project %s: whether it is gone cannot be told: %s", project.name, error)
        return False
