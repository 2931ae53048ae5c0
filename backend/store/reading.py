"""A project's folder for who only reads it: pages and predictions, also on a machine where nobody works on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backend.errors import StoreUnavailable
from backend.files import learned_picture, project_folder
from backend.settings.core import Settings
from backend.state import Project

if TYPE_CHECKING:
    from backend.store.mirror import Mirror

log = logging.getLogger(__name__)

REST_SECONDS = 10.0
"""How long the store is left alone after it did not respond: a page shows what is here."""

_resting: dict[str, float] = {}
_fetched: dict[Path, tuple[str, set[str]]] = {}
"""Folder → the manifest that it was last looked for in, and what was fetched of it."""


def mirror_of(settings: Settings, project: Project) -> Mirror | None:
    """The project's folder in the store; None without one. Raises StoreUnavailable."""
    if not settings.store:
        return None
    from backend.store.mirror import Mirror  # here: it imports NumPy, and a store's library
    from backend.store.objects import open_objects

    return Mirror(open_objects(settings.store), project_folder(settings.model_dir, project.folder_key))


def folder_to_read(settings: Settings, project: Project, inside: str | None = None) -> Path:
    """The project's folder, in which some files were brought up to date: those that lie in it directly, the picture of
    what was learned, and those whose path begins with ``inside``. Where the store does not respond, they are as they
    are."""
    picture = learned_picture(Path()).as_posix()

    def wanted(path: str) -> bool:
        return "/" not in path or path == picture or (inside is not None and path.startswith(inside))

    return _with_files(settings, project, inside or "", wanted)


def whole_folder(settings: Settings, project: Project) -> Path:
    """The same with all files, without caches."""
    return _with_files(settings, project, "/", lambda path: True)


def _with_files(settings: Settings, project: Project, what: str, wanted: Callable[[str], bool]) -> Path:
    folder = project_folder(settings.model_dir, project.folder_key)
    if not settings.store or not project.stored:
        return folder
    manifest, fetched = _fetched.get(folder, ("", set()))
    if manifest == project.stored and what in fetched:
        return folder
    if _resting.get(settings.store, 0.0) > time.monotonic():
        return folder
    try:
        mirror = mirror_of(settings, project)
        if mirror is not None and mirror.pull_some(project.stored, wanted):
            _fetched[folder] = (project.stored, {what} | (fetched if manifest == project.stored else set()))
    except StoreUnavailable as error:
        _resting[settings.store] = time.monotonic() + REST_SECONDS
        log.warning("Project %s is shown as it is here: %s", project.name, error)
    return folder
