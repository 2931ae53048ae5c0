"""Files that appear whole or not at all, whatever is killed meanwhile and whatever the disk lacks."""

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
