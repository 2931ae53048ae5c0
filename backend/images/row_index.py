"""The index of a cache: which row belongs to which task, and what the row was made from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from backend.images import row_log
from backend.images.row_log import DIGEST_BYTES, FREE, RECORD, DamagedIndex, End
from backend.images.row_table import RowTable, TaskIds

log = logging.getLogger(__name__)

_MARK = np.dtype([("task", "<i8"), ("digest", "u1", DIGEST_BYTES)])

_SUPERSEDED, _SPARE = 2, 4096
"""The file is rewritten once it has this many records for each row in use, and some more, that say nothing any longer:
so rarely that it costs a record little, and small files never."""


class Index:
    """Row → (task id, digest), in memory (:mod:`backend.images.row_table`) and in a file to which changes are appended
    (:mod:`backend.images.row_log`).

    A file that is damaged, or has another format or size, counts as empty: everything in a cache can be rebuilt. Only
    the end of a file may be missing, as a kill leaves it. A file of version 0.3.0 is read, and rewritten when it is
    next saved.
    """

    def __init__(self, path: Path, size: int | list[int], rows_on_disk: Callable[[], int]) -> None:
        self._path, self._size, self._rows_on_disk = path, size, rows_on_disk
        self._forget_all()

    def _forget_all(self) -> None:
        self._table = RowTable()
        self._changed: list[int] = []  # rows that differ from those in the file
        self._freed: list[int] = []  # rows that become free when the file is next saved
        self._free: np.ndarray | None = None  # rows that are free in the file too, once somebody has asked for one
        # the file as it was read: its header, where what counts ends, and whether batches may be appended there
        self._header: bytes | None = None
        self._end, self._appendable = End(0, b""), False

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def row_count(self) -> int:
        """The number of rows, free ones included."""
        return self._table.count

    def rows(self, task_ids: TaskIds) -> np.ndarray:
        """The row (N,) int64 of each task; -1 if it has none."""
        return self._table.rows(task_ids)

    def task_ids(self) -> list[int]:
        """All tasks that have a row, in the order of their rows."""
        tasks = self._table.tasks
        return tasks[tasks != FREE].tolist()

    def digest(self, task: int) -> bytes | None:
        """The digest of what a task's row was made from; None if it has no row."""
        row = self._table.row(task)
        return None if row < 0 else self._table.digests[row].tobytes()

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """(N, 16) uint8: the digests of ``rows`` (N,)."""
        return self._table.digests[rows]

    def marks(self, start: int, end: int) -> np.ndarray:
        """(N, 24) uint8: of the rows from ``start`` to ``end``, the task as 8 bytes, and its digest; 0 where a row is
        free."""
        tasks, digests = self._table.tasks[start:end], self._table.digests[start:end]
        marks, used = np.zeros(len(tasks), _MARK), tasks != FREE
        marks["task"][used], marks["digest"][used] = tasks[used], digests[used]
        return marks.view(np.uint8).reshape(len(marks), _MARK.itemsize)

    def outdated(self, task_ids: TaskIds, digests: Sequence[bytes]) -> np.ndarray:
        """(N,) bool: whether each task has no row, or one with another digest than that in ``digests`` (N)."""
        rows = self.rows(task_ids)
        wanted = np.frombuffer(b"".join(digests), np.uint8).reshape(len(rows), DIGEST_BYTES)
        outdated = rows < 0
        known = np.flatnonzero(~outdated)
        outdated[known] = (self._table.digests[rows[known]] != wanted[known]).any(1)
        return outdated

    def refresh(self) -> None:
        """Read what another process has appended to the file, or all of it if it was replaced."""
        try:
            file = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            if self._header is not None:
                self._forget_all()
            return
        try:
            self._catch_up(file)
        finally:
            os.close(file)

    def _catch_up(self, file: int) -> None:
        size, header = os.fstat(file).st_size, row_log.read_header(file)
        more = size - self._end.position
        known = header == self._header and row_log.end_at(file, self._end.position) == self._end
        if known and not more:
            return
        if known and more > 0 and self._appendable and not self._changed:
            # if this fails, a writer may just have cut off the end, so that everything is to be read once more
            with suppress(OSError, DamagedIndex):
                self._apply(row_log.read_batches(file, self._end.position, size))
                return
        self._forget_all()
        try:
            self._header, self._end = header, row_log.end_at(file, len(header))
            self._appendable = row_log.has_batches(header, self._size)
            self._table.reserve(min(size // (8 + DIGEST_BYTES), self._rows_on_disk()))
            if self._appendable:
                self._apply(row_log.read_batches(file, len(header), size))
            else:
                self._apply(row_log.read_released(file, header, size))
        except (OSError, DamagedIndex):
            log.warning("The index %s is damaged or has another format: its rows are rebuilt", self._path)
            self._forget_all()
            self._header, self._end = header, row_log.end_at(file, size)

    def _apply(self, parts: Iterable[tuple[np.ndarray, End]]) -> None:
        for records, end in parts:
            # checked after the index was read: the other files only grow
            if records["row"].max() >= self._rows_on_disk():
                raise DamagedIndex("it names rows that are not there")
            self._table.apply(records["row"], records["task"], records["digest"])
            self._end, self._free = end, None

    # -- writing -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make ready for changes: like :meth:`refresh`, but only for the one who holds the cache's lock. Cuts off what
        a killed writer left unfinished."""
        if self._changed:  # an earlier save failed, and another process may have overwritten those rows since
            self._forget_all()
        self.refresh()
        if self._appendable and row_log.cut(self._path, self._end):
            log.info("The end of the index %s was not written completely: its rows are rebuilt", self._path)

    def next_row(self) -> int:
        """The row that the next :meth:`place` fills. The file on disk does not name it, so that nobody reads it yet."""
        free = self._free_rows()
        return int(free[-1]) if len(free) else self._table.count

    def place(self, task: int, digest: bytes) -> None:
        """Assign :meth:`next_row`, whose bytes must be written already, to ``task``. Its previous row is freed."""
        if self._table.row(task) >= 0:
            self.drop([task])
        row, free = self.next_row(), self._free_rows()
        if len(free):
            self._free = free[:-1]
        self._table.fill(row, task, digest)
        self._changed.append(row)

    def vacate(self, start: int, marks: np.ndarray) -> int:
        """Free the rows from ``start`` on that ``marks`` (N, 24) are for, and the rows of the tasks in them. Returns
        how many there were."""
        here = self._table.tasks[start : start + len(marks)]
        return self.drop(np.union1d(here[here != FREE], _read_marks(marks)["task"]))

    def put_back(self, start: int, marks: np.ndarray) -> None:
        """Assign free rows, from ``start`` on, to the tasks of ``marks`` (N, 24): see :meth:`marks`. Their bytes must
        be written already."""
        read = _read_marks(marks)
        used = read["task"] != 0
        rows = start + np.arange(len(read))
        self._table.apply(rows, np.where(used, read["task"], FREE), read["digest"])
        self._changed += rows[used].tolist()
        self._free = None

    def drop(self, task_ids: TaskIds) -> int:
        """Remove tasks. Returns how many of them were in the index."""
        rows = np.unique(self.rows(task_ids))
        rows = rows[rows >= 0]
        self._table.free(rows)
        freed = rows.tolist()
        self._changed += freed
        self._freed += freed
        return len(freed)

    def save(self) -> None:
        """Write what has changed. The rows that it names must be on disk already."""
        changed = np.unique(np.array(self._changed, np.int64))
        records = (self._end.position - len(self._header or b"")) // RECORD.itemsize + len(changed)
        if not self._appendable or records > (1 + _SUPERSEDED) * self._table.live + _SPARE:
            rows = np.flatnonzero(self._table.tasks != FREE)
            self._header, self._end = row_log.rewrite(self._path, self._size, self._batches(rows))
            self._appendable = True
        elif len(changed):
            # what becomes free comes first, so that no task ever has two rows, wherever the file may end
            free = self._table.tasks[changed] == FREE
            changed = np.concatenate([changed[free], changed[~free]])
            self._end = row_log.append(self._path, self._end, self._batches(changed))
        if self._free is not None and self._freed:
            self._free = np.concatenate([self._free, self._freed])
        self._changed, self._freed = [], []

    def _batches(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for first in range(0, len(rows), row_log.BATCH_RECORDS):
            part = rows[first : first + row_log.BATCH_RECORDS]
            records = np.empty(len(part), RECORD)
            records["row"], records["task"] = part, self._table.tasks[part]
            records["digest"] = self._table.digests[part]
            yield records

    def _free_rows(self) -> np.ndarray:
        if self._free is None:
            self._free = np.setdiff1d(np.flatnonzero(self._table.tasks == FREE), self._freed)
        return self._free


def _read_marks(marks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(marks).view(_MARK)[:, 0]
