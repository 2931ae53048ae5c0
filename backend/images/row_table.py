"""What an index holds in memory: the task and the digest of every row, and the way from a task to its row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from backend.images.row_log import DIGEST_BYTES, FREE

TaskIds = Iterable[int] | np.ndarray
"""Task ids in any form. Lists and arrays are converted without a loop."""

_NO_ROW = -1
_SPREAD = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: Knuth, The Art of Computer Programming 3, section 6.4
_WORD = (1 << 64) - 1
_AT_A_TIME = 1 << 16  # tasks, so that what is in between stays small


class RowTable:
    """M rows, free ones included, in arrays of about 40 bytes a row.

    A task is found by open addressing with double hashing: of the slots that it may be in, one after the other, one has
    the number of its row. Slots are never emptied: one whose row has another task by now is passed over, and all are
    made anew when too many are in use.
    """

    def __init__(self) -> None:
        self.count = 0
        """The number of rows M."""
        self.live = 0
        """How many of them belong to a task."""
        self._tasks = np.empty(1, np.int64)  # row → task, with space for more rows
        self._digests = np.empty((1, DIGEST_BYTES), np.uint8)
        self._find_again()

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> np.ndarray:
        """(M,) int64: the task of each row, or ``FREE``."""
        return self._tasks[: self.count]

    @property
    def digests(self) -> np.ndarray:
        """(M, 16) uint8: what each row was made from."""
        return self._digests[: self.count]

    def row(self, task: int) -> int:
        """The row of a task; -1 if it has none."""
        if task == FREE:
            return _NO_ROW
        slot, step = self._first_slot(task)
        while (row := int(self._slots[slot])) != _NO_ROW and self._tasks[row] != task:
            slot = (slot + step) & self._mask
        return row

    def rows(self, task_ids: TaskIds) -> np.ndarray:
        """The row (N,) int64 of each task; -1 if it has none."""
        wanted = as_array(task_ids)
        found = np.empty(len(wanted), np.int64)
        for first in range(0, len(wanted), _AT_A_TIME):
            part = slice(first, first + _AT_A_TIME)
            found[part] = self._found(wanted[part])
        return found

    def _found(self, tasks: np.ndarray) -> np.ndarray:
        found = np.full(len(tasks), _NO_ROW, np.int64)
        left = np.arange(len(tasks))
        slots, steps = self._first_slots(tasks)
        while len(left):
            rows = self._slots[slots]
            used = rows != _NO_ROW
            right = used & (self._tasks[rows] == tasks[left])
            found[left[right]] = rows[right]
            on = used & ~right
            left, steps = left[on], steps[on]
            slots = (slots[on] + steps) & self._mask
        found[tasks == FREE] = _NO_ROW
        return found

    # -- writing -----------------------------------------------------------------------------------------------------

    def fill(self, row: int, task: int, digest: bytes) -> None:
        """Assign a free row, or the next new one, to a task without a row."""
        self._grow(row + 1)
        self._tasks[row], self._digests[row] = task, np.frombuffer(digest, np.uint8, DIGEST_BYTES)
        self.live += 1
        if self._enough_slots(1):
            slot, step = self._first_slot(task)
            while self._slots[slot] != _NO_ROW:
                slot = (slot + step) & self._mask
            self._slots[slot] = row

    def free(self, rows: np.ndarray) -> None:
        """Take distinct rows (K,) from their tasks."""
        self._tasks[rows], self._digests[rows] = FREE, 0
        self.live -= len(rows)

    def apply(self, rows: np.ndarray, tasks: np.ndarray, digests: np.ndarray) -> None:
        """Assign rows (K,) to tasks (K,), or free those whose task is ``FREE``. Of a row that is named twice, the last
        assignment counts."""
        if not len(rows):
            return
        rows, back = np.unique(rows[::-1], return_index=True)
        last = len(tasks) - 1 - back
        tasks, digests = tasks[last], digests[last]
        self._grow(int(rows[-1]) + 1)
        filled = rows[tasks != FREE]
        self.live += len(filled) - int((self._tasks[rows] != FREE).sum())
        self._tasks[rows], self._digests[rows] = tasks, digests
        if self._enough_slots(len(filled)):
            self._put(filled)

    def reserve(self, space: int) -> None:
        """Make space for so many rows. It takes no memory until it is used."""
        if space > len(self._tasks):
            tasks, digests = np.empty(space, np.int64), np.empty((space, DIGEST_BYTES), np.uint8)
            tasks[: self.count], digests[: self.count] = self.tasks, self.digests
            self._tasks, self._digests = tasks, digests

    def _grow(self, count: int) -> None:
        if count > len(self._tasks):
            self.reserve(count + count // 8)
        if count > self.count:
            self._tasks[self.count : count], self._digests[self.count : count] = FREE, 0
            self.count = count

    # -- slots -------------------------------------------------------------------------------------------------------

    def _enough_slots(self, more: int) -> bool:
        """Whether there is room for more rows. If not, it is made, and all rows that have a task have their slots."""
        self._used += more
        if 3 * self._used <= 2 * len(self._slots):
            return True
        self._find_again()
        return False

    def _find_again(self) -> None:
        """Make all slots anew: a power of two of them, between a quarter and half of which are in use."""
        self._bits = max(4, (2 * self.live - 1).bit_length())
        self._mask = (1 << self._bits) - 1
        self._slots = np.full(1 << self._bits, _NO_ROW, np.int32)
        self._used = self.live
        self._put(np.flatnonzero(self.tasks != FREE))

    def _put(self, rows: np.ndarray) -> None:
        for first in range(0, len(rows), _AT_A_TIME):
            left = rows[first : first + _AT_A_TIME]
            slots, steps = self._first_slots(self._tasks[left])
            while len(left):
                unused = self._slots[slots] == _NO_ROW
                self._slots[slots[unused]] = left[unused]  # of those that want the same slot, one gets it
                on = self._slots[slots] != left
                left, steps = left[on], steps[on]
                slots = (slots[on] + steps) & self._mask

    def _first_slot(self, task: int) -> tuple[int, int]:
        """The first slot that a task may be in, and how far it is to each next one: an odd number, which leads to all
        of them."""
        spread = int(task) * _SPREAD & _WORD
        return spread >> (64 - self._bits), spread & self._mask | 1

    def _first_slots(self, tasks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for tasks (K,)."""
        spread = tasks.astype(np.uint64) * np.uint64(_SPREAD)
        steps = (spread & np.uint64(self._mask)).astype(np.int64) | 1
        return (spread >> np.uint64(64 - self._bits)).astype(np.int64), steps


def as_array(task_ids: TaskIds) -> np.ndarray:
    """Task ids as an array (N,) int64."""
    if isinstance(task_ids, np.ndarray | list | range):
        return np.asarray(task_ids, np.int64)
    return np.fromiter(task_ids, np.int64)
