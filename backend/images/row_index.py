"""The index of a cache: which row belongs to which task, and what the row was made from."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from backend.files import replace_file

log = logging.getLogger(__name__)

FORMAT = 1
"""Increased whenever decoding changes, so that older rows are rebuilt."""

_FREE = -1
_DIGEST_BYTES = 16


class Index:
    """Row → (task id, digest), in memory and in a file: one line of JSON, then M int64 task ids, then M digests.

    A file that is damaged, or has another format or size, counts as empty: everything in a cache can be rebuilt.
    """

    def __init__(self, path: Path, size: int | list[int], rows_on_disk: Callable[[], int]) -> None:
        self._path, self._size, self._rows_on_disk = path, size, rows_on_disk
        self._stamp: tuple[int, int, int] | None = None
        self._row_of: dict[int, int] = {}
        self._tasks: list[int] = []
        self._digests: list[bytes] = []
        self._free: list[int] = []  # rows that are free in the file on disk too, and so may be overwritten
        self._freed: list[int] = []  # rows that become free when the file is next saved

    @property
    def row_count(self) -> int:
        """The number of rows, free ones included."""
        return len(self._tasks)

    def rows(self, task_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The row (N,) int64 of each task; -1 if it has none."""
        return np.array([self._row_of.get(int(task), -1) for task in task_ids], dtype=np.int64)

    def task_ids(self) -> list[int]:
        """All tasks that have a row."""
        return list(self._row_of)

    def digest(self, task: int) -> bytes | None:
        """The digest of what a task's row was made from; None if it has no row."""
        row = self._row_of.get(task)
        return None if row is None else self._digests[row]

    def next_row(self) -> int:
        """The row that the next :meth:`place` fills. The file on disk does not name it, so that nobody reads it yet."""
        return self._free[-1] if self._free else len(self._tasks)

    def place(self, task: int, digest: bytes) -> None:
        """Assign :meth:`next_row`, whose bytes must be written already, to ``task``. Its previous row is freed."""
        self.drop([task])
        row = self.next_row()
        if self._free:
            self._free.pop()
            self._tasks[row], self._digests[row] = task, digest
        else:
            self._tasks.append(task)
            self._digests.append(digest)
        self._row_of[task] = row

    def drop(self, task_ids: Collection[int]) -> int:
        """Remove tasks. Returns how many of them were in the index."""
        count = 0
        for task in task_ids:
            row = self._row_of.pop(task, None)
            if row is not None:
                self._tasks[row], self._digests[row] = _FREE, bytes(_DIGEST_BYTES)
                self._freed.append(row)
                count += 1
        return count

    def save(self) -> None:
        """Write the file atomically. The rows that it names must be on disk already."""
        payload = np.array(self._tasks, dtype="<i8").tobytes() + b"".join(self._digests)
        header = {"format": FORMAT, "size": self._size, "rows": len(self._tasks), "crc": zlib.crc32(payload)}
        replace_file(self._path, json.dumps(header).encode() + b"\n" + payload)
        self._stamp = self._stamp_on_disk()
        self._free += self._freed
        self._freed = []

    def refresh(self) -> None:
        """Read the file again if it has been replaced, by another process."""
        stamp = self._stamp_on_disk()
        if stamp == self._stamp:
            return
        tasks, digests = self._read()
        self._stamp, self._tasks, self._digests = stamp, tasks, digests
        self._row_of = {task: row for row, task in enumerate(tasks) if task != _FREE}
        self._free = [row for row, task in enumerate(tasks) if task == _FREE]
        self._freed = []

    def _stamp_on_disk(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> tuple[list[int], list[bytes]]:
        try:
            line, _, payload = self._path.read_bytes().partition(b"\n")
            header = json.loads(line)
            rows = int(header["rows"])
            sound = (
                header["format"] == FORMAT
                and header["size"] == self._size
                and header["crc"] == zlib.crc32(payload)
                and len(payload) == rows * (8 + _DIGEST_BYTES)
                and rows <= self._rows_on_disk()  # checked after the index was read: the other files only grow
            )
        except FileNotFoundError:
            return [], []
        except (OSError, ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            log.warning("The index %s is damaged or has another format: its rows are rebuilt", self._path)
            return [], []
        tasks = np.frombuffer(payload, dtype="<i8", count=rows).tolist()
        digests = payload[8 * rows :]
        return tasks, [digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES)]
