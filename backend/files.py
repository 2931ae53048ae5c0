"""Where files are in ``MODEL_DIR``, and how they are written: whole or not at all, whatever is killed meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

DRAFT = ".draft"
"""Behind the name of a file that is being written; one that a kill left may be deleted."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` when the block ends well; else ``path`` stays as it was."""
    draft = path.with_name(path.name + DRAFT)
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace_file(path: Path, data: bytes) -> None:
    """The same with all of it at hand."""
    with whole_file(path) as file:
        file.write(data)


def project_folder(model_dir: str | Path, key: str) -> Path:
    """Images and checkpoints of one project. Named by Label Studio's "<id>.<created>" key, so that a project that got
    the id of a deleted one starts from an empty folder."""
    return Path(model_dir) / "projects" / key.replace(".", "-")


def predictions_folder(folder: Path, version_name: str) -> Path:
    """Where, in a project's ``folder``, the predictions of a version are kept; it may not exist."""
    return folder / "answers" / version_name


def checkpoint_path(folder: Path, version_name: str) -> Path:
    """Where, in a project's ``folder``, the checkpoint of a version is."""
    return folder / "checkpoints" / f"{version_name}.pt"
