"""The state's files belong to one user: nobody else on the machine can read them, even if an earlier version made them.

New files get their rights from the process (:func:`backend.files.keep_private`); this is for what is there already, and
for processes that are not ours, such as label-studio-ml's own server.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_OTHERS = 0o077


def private_folder(folder: Path) -> None:
    """Take everybody else's rights from ``folder``, if it exists, and from ``projects`` inside it.

    A folder that is obviously more than the backend's own keeps its rights: a shared one such as /tmp, and one that the
    user works in.
    """
    if folder.is_dir() and not _is_more_than_ours(folder):
        _take_rights(folder)
    inside = folder / "projects"
    if inside.is_dir() and _take_rights(inside):  # once, after an upgrade: behind it nothing can be reached
        for parent, folders, files in os.walk(inside):
            for name in (*folders, *files):
                _take_rights(Path(parent, name))


def private_database(path: Path) -> None:
    """Make the database's file if it is missing, for its owner only: SQLite gives its other files the same rights."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:
        return  # whoever opens it says why that fails
    for suffix in ("", "-wal", "-shm"):
        _take_rights(path.with_name(path.name + suffix))


def _is_more_than_ours(folder: Path) -> bool:
    where = folder.resolve()
    places = {Path.home().resolve(), Path.cwd().resolve()}
    return bool(where.stat().st_mode & stat.S_ISVTX) or any(where in (place, *place.parents) for place in places)


def _take_rights(path: Path) -> bool:
    """Leave the rights to the owner. Returns whether there was anything to take."""
    try:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if not mode & _OTHERS or path.is_symlink():
            return False
        path.chmod(mode & ~_OTHERS)
    except FileNotFoundError:
        return False
    except OSError as error:  # another user's, or a file system without rights
        log.warning("%s can be read by others on this machine, and that cannot be changed: %s", path, error.strerror)
        return False
    return True
