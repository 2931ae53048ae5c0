"""Brings a project's folder up to date before work on it, and stores what the work has changed: see
:mod:`backend.store.mirror`. Without the setting ``store``, none of this does anything."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from backend.errors import LeaseLost, Stopped, StoreUnavailable
from backend.files import project_folder
from backend.settings.core import Settings
from backend.state import Project, State
from backend.store.reading import mirror_of
from backend.store.record import last_used
from backend.worker.job import Job
from backend.worker.leases import Leases

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""How often a worker looks whether its disk holds more than it may."""

_GB = 10**9


def bring_up_to_date(job: Job) -> None:
    """Before anything of the folder is read. Raises StoreUnavailable where another machine has worked on the project
    since, and the store does not respond: what is here must not be taken for what counts."""
    mirror = mirror_of(job.settings, job.project)
    if mirror is not None:
        mirror.pull(job.project.stored, job.check)


def store_files(job: Job) -> None:
    """Store checkpoints and predictions, before the state's row that points to them. Where the store does not respond,
    the work goes on with what is here: annotators do not wait for it, and it is stored later."""
    try:
        _push(job)
    except StoreUnavailable as error:
        log.warning("Project %s: not stored yet: %s", job.project.name, error)


def store_all(job: Job, other_work: Callable[[], bool]) -> None:
    """Store whatever has changed, after work on the project. What gives way to ``other_work`` is stored after that.
    Raises StoreUnavailable."""
    if not _push(job, rows=True, enough=other_work):
        job.state.hints.add(job.project.id, tasks=True)


def _push(job: Job, *, rows: bool = False, enough: Callable[[], bool] = lambda: False) -> bool:
    mirror = mirror_of(job.settings, job.project)
    if mirror is None:
        return True
    return mirror.push(partial(_commit, job), job.check, rows=rows, enough=enough)


def _commit(job: Job, name: str) -> None:
    job.state.projects.update(job.project.id, job.owner, stored=name)


def remove(settings: Settings, project: Project) -> None:
    """Delete what the store has of a project that is deleted. What stays because the store does not respond is only
    space."""
    try:
        mirror = mirror_of(settings, project)
        if mirror is not None:
            mirror.remove()
    except StoreUnavailable as error:
        log.warning("Project %s: its objects were not deleted: %s", project.name, error)


def make_room(settings: Settings, state: State, leases: Leases, busy: Collection[int]) -> None:
    """Delete caches of images and features from this machine's disk while they take more than ``cache_gb``: those of
    the projects that were worked on least recently here, as long as no worker is at them and the store has them."""
    if not settings.store or not settings.cache_gb:
        return
    folders = {project_folder(settings.model_dir, one.folder_key): one for one in state.projects.all()}
    sizes = {folder: _bytes_in(folder) for folder in folders if folder.is_dir()}
    for folder in sorted(sizes, key=last_used):
        if sum(sizes.values()) <= settings.cache_gb * _GB:
            return
        project = folders[folder]
        if project.id not in busy:
            sizes[folder] -= _release(settings, state, leases, project.id)
    log.info("The projects take %.1f GB of disk, more than CACHE_GB", sum(sizes.values()) / _GB)


def _release(settings: Settings, state: State, leases: Leases, project_id: int) -> int:
    """Delete a project's caches here. Returns how many bytes they had."""
    with leases.hold(project_id) as owner:
        project = state.projects.get(project_id)
        if owner is None or project is None:
            return 0

        def commit(name: str) -> None:
            state.projects.update(project_id, owner, stored=name)

        try:
            mirror = mirror_of(settings, project)
            if mirror is None:
                return 0
            if mirror.is_current(project.stored):  # else another machine has gone on, and what is here is outdated
                mirror.push(commit, partial(leases.check, owner), rows=True)
        except (StoreUnavailable, LeaseLost, Stopped) as error:
            log.info("Project %s keeps its caches here: %s", project.name, error)
            return 0
        freed = 0
        for cache in mirror.release_caches():
            freed += _bytes_in(cache)
            shutil.rmtree(cache, ignore_errors=True)
        log.info("Project %s: %.2f GB of caches are only in the store from now on", project.name, freed / _GB)
        return freed


def _bytes_in(folder: Path) -> int:
    """On disk: what was never written takes no space. Files come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += 512 * path.lstat().st_blocks
    return total
