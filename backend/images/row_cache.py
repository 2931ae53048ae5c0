"""A directory with one row of bytes for each task, in which images and masks are cached.

    <name>.u8 …  one or more files that consist of rows of a fixed length
    index        row → task id and digest of what the row was made from; changes are appended
    lock         held while something is written, so that there is only one writer
    layout.json  what a row of each file is, for who puts rows back without knowing what is in them

A row's bytes reach the disk before the index that names it, and a row that is named by the index on disk is never
overwritten. So a kill at any moment loses at most the last batch, and readers always see complete rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from backend.files import write_at
from backend.images.row_index import Index
from backend.images.row_log import FORMAT
from backend.images.row_table import TaskIds, as_array
from models.files import replace_file

_BATCH_ROWS, _BATCH_SECONDS = 512, 5.0  # how much work a kill may lose

LAYOUT = "layout.json"

Row = tuple[DTypeLike, tuple[int, ...]]
"""The data type and shape of a row of a file."""


class RowCache:
    """One writer at a time, and any number of readers, in any process. Each thread needs an object of its own.

    Readers must ask for ``rows`` each time they read, because the rows of deleted tasks are reused.
    """

    def __init__(self, directory: Path, size: int | list[int], files: Mapping[str, Row]) -> None:
        """``size``: an index that was made for another size counts as empty. ``files``: name → type and shape of its
        rows."""
        self.directory, self._files, self._size = Path(directory), dict(files), size
        self.directory.mkdir(parents=True, exist_ok=True)
        self._index = Index(self.directory / "index", size, self._rows_on_disk)
        self._maps: dict[str, np.ndarray] = {}
        self._index.refresh()

    # -- reading -----------------------------------------------------------------------------------------------------

    def rows(self, task_ids: TaskIds) -> np.ndarray:
        """The row (N,) int64 of each task; -1 if it has none."""
        self._index.refresh()
        return self._index.rows(task_ids)

    def present(self, task_ids: TaskIds) -> np.ndarray:
        """Those (M,) int64 of ``task_ids`` that have a row, in the given order."""
        tasks = as_array(task_ids)
        return tasks[self.rows(tasks) >= 0]

    def refresh(self) -> None:
        """Read what another process has written since."""
        self._index.refresh()

    @property
    def row_count(self) -> int:
        """M, free rows included, as it was last read."""
        return self._index.row_count

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """(N, 16) uint8: what each of ``rows`` (N,) was made from."""
        return self._index.digests(rows)

    def task_ids(self) -> list[int]:
        """All tasks that have a row, in the order of their rows."""
        self._index.refresh()
        return self._index.task_ids()

    def mapped(self, name: str) -> np.ndarray:
        """All rows (M, …) of a file, as a read-only memory map. Index it with :meth:`rows`; never copy all of it."""
        self._index.refresh()
        kind, shape = self._files[name]
        count = self._index.row_count
        if count == 0:
            return np.empty((0, *shape), kind)
        if name not in self._maps or len(self._maps[name]) < count:
            self._maps[name] = np.memmap(self.directory / name, kind, "r", shape=(count, *shape))
        return self._maps[name]

    def marks(self, start: int, end: int) -> np.ndarray:
        """(N, 24) uint8: the tasks of the rows from ``start`` to ``end``, as far as there are any, and what they were
        made from; 0 where a row is free."""
        return self._index.marks(start, end)

    # -- writing -----------------------------------------------------------------------------------------------------

    def put_back(self, start: int, marks: np.ndarray, parts: Sequence[np.ndarray]) -> None:
        """Let neighboring rows, from ``start`` on, be what they were in another copy of this cache: of its
        :meth:`marks` (N, 24), and, for each file, (N, bytes) uint8."""
        with self._writing():
            if self._index.vacate(start, marks):
                self._index.save()  # before their bytes change, so that nobody reads those as what they were
            for (name, row), part in zip(self._files.items(), parts, strict=True):
                file = os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    write_at(file, np.ascontiguousarray(part).tobytes(), start * row_bytes(row))
                    os.fsync(file)
                finally:
                    os.close(file)
            self._index.put_back(start, marks)
            self._index.save()

    def forget(self, task_ids: TaskIds) -> None:
        """Remove tasks. Their rows will be reused."""
        with self._writing():
            if self._index.drop(task_ids):
                self._index.save()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it ends
            widths = {name: row_bytes(row) for name, row in self._files.items()}
            note_layout(self.directory, {"files": widths, "size": self._size, "format": FORMAT})
            self._index.begin()
            yield

    @contextlib.contextmanager
    def _batch(
        self, before_index: Callable[[], None] = lambda: None, at_least: Callable[[], int] = lambda: 0
    ) -> Iterator[Batch]:
        """Write rows inside the block. What was written is kept, even if the block raises. ``before_index`` is called
        before each time the index is saved. Where that is much work, ``at_least`` says how many rows should be written
        in between."""
        batch = Batch(self, before_index, at_least)
        try:
            yield batch
        finally:
            batch.flush()

    def _rows_on_disk(self) -> int:
        try:
            return min((self.directory / name).stat().st_size // row_bytes(row) for name, row in self._files.items())
        except FileNotFoundError:
            return 0


class Batch:
    """Writes each row at once, and the index from time to time."""

    def __init__(self, cache: RowCache, before_index: Callable[[], None], at_least: Callable[[], int]) -> None:
        self._cache, self._index = cache, cache._index
        self._before_index, self._at_least = before_index, at_least
        self._open: dict[str, int] = {}
        self._since, self._count = time.monotonic(), 0

    def add(self, task: int, digest: bytes, *parts: np.ndarray) -> None:
        """Write one task's row: one part per file, in the order of the files."""
        for (name, row), part in zip(self._cache._files.items(), parts, strict=True):
            if name not in self._open:
                self._open[name] = os.open(self._cache.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
            data = np.ascontiguousarray(part, row[0]).tobytes()
            if len(data) != row_bytes(row):
                raise ValueError(f"a row of {name} has {row_bytes(row)} bytes, not {len(data)}")
            # written, not mapped, so that a full disk raises an error here instead of killing the process (SIGBUS)
            write_at(self._open[name], data, self._index.next_row() * len(data))
        self._index.place(task, digest)
        self._count += 1
        enough = self._count >= max(_BATCH_ROWS, self._at_least())
        if enough or time.monotonic() - self._since >= _BATCH_SECONDS:
            self._save()

    def drop(self, task: int) -> None:
        """Remove a task whose row is out of date."""
        self._index.drop([task])

    def flush(self) -> None:
        """Save the index and close the files."""
        try:
            self._save()
        finally:
            for file in self._open.values():
                os.close(file)
            self._open = {}

    def _save(self) -> None:
        for file in self._open.values():
            os.fsync(file)
        self._before_index()
        self._index.save()
        self._since, self._count = time.monotonic(), 0


def note_layout(directory: Path, layout: Mapping[str, Any]) -> None:
    """Say in the folder of a cache what a row of its files is, if that is not said yet."""
    path, content = directory / LAYOUT, json.dumps(layout).encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    replace_file(path, content)


def row_bytes(row: Row) -> int:
    """The length of a row in bytes."""
    return np.dtype(row[0]).itemsize * prod(row[1])
