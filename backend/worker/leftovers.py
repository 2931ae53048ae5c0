"""Removes what nobody knows any more: versions of ours in Label Studio, and files of projects that are deleted there.

Both are left behind where the state was lost or moved, and by projects that are gone. They are only removed after a
grace time, the setting ``keep_days``, so that a backup or another database can still be put back.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from pathlib import Path

from backend import adoption
from backend.errors import BackendError
from backend.files import VERSION_NAME, project_folder
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.http import NotFound
from backend.settings.core import Settings
from backend.state import Project, State
from backend.state.records import GONE
from backend.worker import identity, removal, storing
from backend.worker.job import Job
from samplers import SAMPLER_NAMES

log = logging.getLogger(__name__)

LOOK_SECONDS = 3600.0
"""How often a worker looks for files of deleted projects."""

_FOLDER = re.compile(r"(\d+)-(\d+)")
_DAY = 86_400.0


def spared_before(state: State, settings: Settings) -> float:
    """Files of versions from before this time stay although the state does not know them: it was made only then, less
    than the grace time ago."""
    made_at = state.database.made_at()
    return made_at if state.now() - made_at < settings.keep_days * _DAY else 0.0


def remove_unknown_versions(job: Job, seconds: float = removal.PIECE_SECONDS) -> None:
    """Delete the predictions of versions that are named as ours are, after a sampler, and that the state does not know,
    once they have been there for the grace time; for ``seconds``, with pauses. The rest stays for the next upkeep.

    Never those of the version that Label Studio's project names; and none while the project names another backend
    too, or none at all, because they may be that one's.
    """
    held = {name for name, count in job.gateway.predictions.versions(job.project.number).items() if count}
    unknown = sorted(name for name in held - job.state.versions.names(job.project.id) if _is_ours(name))
    since = _noticed(job, unknown)
    now = job.state.now()
    due = [name for name in unknown if now - since[name] >= job.settings.keep_days * _DAY]
    if not due or len(job.gateway.connections.of_project(job.project.number)) != 1:
        return
    until = time.monotonic() + seconds
    in_force = job.gateway.project(job.project.number).model_version
    for name in due:
        if name != in_force:
            log.info("Project %s: removing version %s, which is in no state any more", job.project.name, name)
            if not removal.delete_predictions(job, name, until):
                return


def _is_ours(name: str) -> bool:
    named = VERSION_NAME.fullmatch(name)
    return named is not None and named[1] in SAMPLER_NAMES


def _noticed(job: Job, unknown: list[str]) -> dict[str, float]:
    """When each of these versions was first seen, as it is noted from one upkeep to the next."""
    note = f"unknown versions {job.project.id}"
    before: dict[str, float] = json.loads(job.state.notes.get(note) or "{}")
    since = {name: before.get(name, job.state.now()) for name in unknown}
    job.state.notes.put(note, json.dumps(since) if since else "")
    return since


def remove_deleted_projects(state: State, settings: Settings) -> None:
    """Delete everything of projects that are gone from Label Studio for longer than the grace time, and the folders of
    those that the state has never known or has forgotten, after asking Label Studio once more."""
    now, grace = state.now(), settings.keep_days * _DAY
    for project in state.projects.kept():
        if project.standing == GONE and now - project.standing_since >= grace and identity.is_gone(settings, project):
            log.info("Project %s is gone from Label Studio: deleting its state and files", project.name)
            folder = project_folder(settings.directory, project.folder_key)
            state.projects.remove(project.id)
            shutil.rmtree(folder, ignore_errors=True)
            storing.remove(settings, project)
    gateway = adoption.gateway_of(settings)
    if gateway is None:
        return
    known = {project_folder(settings.directory, one.folder_key).name for one in _every(state)}
    for folder in sorted((settings.directory / "projects").glob("*")):
        if folder.name not in known and _FOLDER.fullmatch(folder.name):
            _remove_folder(state, gateway, folder, now, grace)


def _remove_folder(state: State, gateway: LabelStudio, folder: Path, now: float, grace: float) -> None:
    note = f"folder {folder.name}"
    if not (since := state.notes.get(note)):
        log.info("%s belongs to no connected project", folder)
        state.notes.put(note, repr(now))
    elif now - float(since) >= grace:
        try:
            gateway.check()
            gateway.project(int(folder.name.partition("-")[0]))
        except NotFound:
            log.info("Deleting %s, whose project is deleted in Label Studio", folder)
            shutil.rmtree(folder, ignore_errors=True)
            state.notes.put(note, "")
        except BackendError as error:
            log.debug("%s stays, Label Studio could not be asked: %s", folder, error)


def _every(state: State) -> list[Project]:
    return [*state.projects.all(), *state.projects.kept()]
