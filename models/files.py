"""Atomic writes: a file appears completely or not at all, even if the process dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

DRAFT = ".draft"
"""Suffix of a file that is still being written. A killed process may leave one behind; it is safe to delete."""


@contextmanager
def whole_file(path: Path, several: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces ``path`` when the block succeeds. If it raises, ``path`` is unchanged.

    ``several`` processes may do so at once, of which the last one wins. Else the next attempt writes over what a killed
    one left.
    """
    draft = path.with_name(path.name + (f".{os.getpid()}" if several else "") + DRAFT)
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
    """Write ``data`` to ``path`` atomically."""
    with whole_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make sure that the names of the files in ``folder`` are on disk, which a file's own fsync does not see to."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot, and have no need to
            os.fsync(file)
    finally:
        os.close(file)
