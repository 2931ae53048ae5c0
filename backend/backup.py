"""Backups: one archive with everything that cannot be made again from Label Studio, taken while the backend runs.

    manifest.json    what this is
    state.sqlite3    the whole state at one moment, from whichever database
    projects/…       checkpoints and kept predictions of the versions that the state knows

Images are not in it: they are fetched again. It holds the tokens that the state holds, so it is for its owner only.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from backend import __version__
from backend.errors import BackendError, OwnerError
from backend.files import checkpoint_path, predictions_folder, project_folder
from backend.settings.core import Settings
from backend.state import Project, State, Version, keeping
from backend.state.database import Database, database_file
from backend.store.reading import whole_folder
from models.files import DRAFT, whole_file

log = logging.getLogger(__name__)

FORMAT = 1
_MANIFEST, _STATE = "manifest.json", "state.sqlite3"
_TRIES = 3


def write(state: State, settings: Settings, path: Path) -> str:
    """Write a backup to ``path``, whole or not at all. Returns what is in it, in words.

    Raises:
        OwnerError: the file cannot be written.
    """
    try:
        with whole_file(path) as file, tempfile.TemporaryDirectory(prefix=".backup-", dir=path.parent) as scratch:
            os.fchmod(file.fileno(), 0o600)
            for attempt in range(_TRIES):
                copied = Path(scratch) / f"{attempt}.sqlite3"
                keeping.snapshot(state.database, copied)
                words, missing = _write_archive(file, copied, settings)
                if not missing:
                    break  # else a version was replaced, and its checkpoint removed, in the seconds since the snapshot
    except OSError as error:
        raise OwnerError(f"The backup cannot be written to {path}: {error.strerror or error}") from error
    return words


def _write_archive(file: BinaryIO, copied: Path, settings: Settings) -> tuple[str, list[str]]:
    """Returns what is in it, and the names of current versions whose checkpoint is not."""
    with _opened(copied) as state:
        files, missing, count = [], [], 0
        for project in _every(state):
            count += 1
            whole_folder(settings, project)
            for version in state.versions.of_project(project.id, removed=False):
                found = list(_files_of(settings, project, version))
                files += found
                if version.checkpoint and not found and version.id == project.current_version_id:
                    missing.append(version.name)
    manifest = {"what": "backup of the active-learning backend", "format": FORMAT, "version": __version__}
    manifest |= {"made_at": time.time(), "projects": count, "files": len(files)}
    file.seek(0)
    file.truncate()
    with tarfile.open(fileobj=file, mode="w") as tar:
        _add_text(tar, _MANIFEST, json.dumps(manifest, indent=2))
        tar.add(copied, _STATE)
        for name, source in files:
            try:
                tar.add(source, name, recursive=False)
            except FileNotFoundError:
                log.info("%s was removed meanwhile", source)
    return f"{count} projects, {len(files)} files of versions", missing


def _files_of(settings: Settings, project: Project, version: Version) -> Iterator[tuple[str, Path]]:
    """(name in the archive, path) of each file of a version."""
    folder = project_folder(settings.directory, project.folder_key)
    checkpoint = checkpoint_path(folder, version.name)
    kept = predictions_folder(folder, version.name)
    for file in [checkpoint, *(sorted(kept.rglob("*")) if kept.is_dir() else ())]:
        if file.is_file() and file.suffix != DRAFT:
            yield str(file.relative_to(settings.directory)), file


def restore(settings: Settings, path: Path) -> str:
    """Put back a backup. A SQLite database that is there is kept under another name; another database must hold no
    project. Returns what was done, in words.

    Raises:
        OwnerError: the file is no backup, or other processes of the backend are running.
        BackendError: the database that ``DATABASE_URL`` names holds projects.
    """
    settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = State.url_for(settings)
    file = database_file(url)
    with (
        keeping.alone(file, "A backup cannot be restored"),
        tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.directory) as scratch,
    ):
        manifest = _extract(path, Path(scratch))
        copied = Path(scratch) / _STATE
        with _opened(copied) as state:
            _point_to_checkpoints(state, settings)
        kept = ""
        if file is None:
            with _opened(copied) as state:
                target = Database(url)
                try:
                    keeping.copy(state.database, target)
                finally:
                    target.close()
        else:
            if file.exists():
                kept = f" What was there is kept as {keeping.set_aside(file, 'replaced').name}."
            os.replace(copied, file)
        _put_files(Path(scratch), settings.directory)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest["made_at"]))
    return f"The backup of {made} with {manifest['projects']} projects is restored.{kept}"


def _extract(path: Path, scratch: Path) -> dict[str, Any]:
    """Unpack a backup. Returns its manifest."""
    try:
        with tarfile.open(path, "r:") as tar:
            tar.extractall(scratch, filter="data")
        manifest = json.loads((scratch / _MANIFEST).read_text())
        if manifest["format"] != FORMAT or not (scratch / _STATE).is_file():
            raise OwnerError(f"{path} is a backup of format {manifest['format']}; this version reads {FORMAT}.")
        return dict(manifest)
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise OwnerError(f"{path} cannot be read: {error.strerror}") from error
        raise OwnerError(f"{path} is not a backup of this backend: {error}") from error
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise OwnerError(f"{path} is not a backup of this backend: {error}") from error


def _point_to_checkpoints(state: State, settings: Settings) -> None:
    """Let versions refer to their checkpoints where they are going to be: ``MODEL_DIR`` may be another one now."""
    for project in _every(state):
        folder = project_folder(settings.directory, project.folder_key)
        for version in state.versions.of_project(project.id):
            if version.checkpoint:
                state.versions.move_checkpoint(version, str(checkpoint_path(folder, version.name)))
        state.projects.update(project.id, lease_owner=None, lease_expires=0.0)


def _put_files(scratch: Path, directory: Path) -> None:
    for file in sorted((scratch / "projects").rglob("*")):
        if file.is_file():
            target = directory / file.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)


def _every(state: State) -> list[Project]:
    return [*state.projects.all(), *state.projects.kept()]


@contextmanager
def _opened(path: Path) -> Iterator[State]:
    """The state in a database that nobody else uses. Closed, all of it is in the one file."""
    try:
        state = State(f"sqlite:///{path}")
    except BackendError:
        raise
    except Exception as error:
        raise OwnerError(f"The database in the backup cannot be opened: {error}") from error
    try:
        yield state
    finally:
        state.close()


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), int(time.time())
    tar.addfile(info, io.BytesIO(data))
