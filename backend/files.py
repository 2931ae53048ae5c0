"""Paths inside ``MODEL_DIR``, and who may read what is there. Whole files are written by :mod:`models.files`."""

from __future__ import annotations

import os
import re
from pathlib import Path


def keep_private() -> None:
    """Whatever this process and its children create from now on, only its user can read: the images may be anybody's,
    and the state may hold a token. For entry points."""
    os.umask(0o077)


VERSION_NAME = re.compile(r"([a-z0-9-]+)-c\d+-[0-9a-f]{8}")
"""What this backend names its versions, as any other of its kind does: <sampler>-c<cycle>-<8 hex digits>."""

NEIGHBORS = "neighbors.npz"
"""An index of features, beside them: it is made again where it is missing."""


def write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` to an open file, at ``offset``."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def project_folder(model_dir: str | Path, key: str) -> Path:
    """The folder for one project's images and checkpoints. It is named after Label Studio's key "<id>.<created>", so
    that a new project that reuses the id of a deleted one starts with an empty folder."""
    return Path(model_dir) / "projects" / key.replace(".", "-")


def predictions_folder(folder: Path, version_name: str) -> Path:
    """Where a version's predictions are kept in the project's ``folder``. It may not exist."""
    return folder / "answers" / version_name


def prepared_folder(folder: Path) -> Path:
    """Where the project's ``folder`` has what its sampler learned apart from cycles. It may not exist."""
    return folder / "prepared"


def learned_picture(folder: Path) -> Path:
    """A picture of what it learned there, for people: a PNG. It may not exist."""
    return prepared_folder(folder) / "sample.png"


def checkpoint_path(folder: Path, version_name: str) -> Path:
    """Where a version's checkpoint is in the project's ``folder``."""
    return folder / "checkpoints" / f"{version_name}.pt"


def checkpoint_here(folder: Path, stored: str) -> Path:
    """Where a checkpoint of the project's ``folder`` is on this machine. The path in the state, ``stored``, was written
    by the machine that trained it, whose ``MODEL_DIR`` may be another one."""
    here = folder / "checkpoints" / Path(stored).name
    return here if here.exists() else Path(stored)
