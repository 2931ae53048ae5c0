"""The rows of a pass as a data source of Ray Data, read on the machine that has the files.

A row of the data set is a whole batch, so that nothing that Ray Data does with its blocks, which it merges and cuts by
their size, changes which rows are computed together. The last batch may be shorter: it is filled up with zeros, and
how many rows count stands beside it.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from models.inference.executors import Pass

BLOCK_BYTES = 32 << 20
"""What one task reads: so large that a task costs little, so small that many are under way in little memory."""

EACH = 8
"""Tasks that there are for each actor at least, so that all have something to do until the end."""


@dataclass(frozen=True)
class MappedRows:
    """An array that is a part of a file, by where it lies in it."""

    path: str
    inode: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: np.ndarray) -> MappedRows | None:
        """Of a read-only memory map or a view of one; None of any other array."""
        base: Any = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        if not (isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap) and base.mode == "r"):
            return None
        path = str(base.filename)
        offset = int(base.offset) + array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return cls(path, os.stat(path).st_ino, offset, array.shape, array.strides, array.dtype)

    def opened(self) -> np.ndarray:
        """The array. Raises FileNotFoundError where this file is not there, or is another one."""
        whole = np.memmap(self.path, np.uint8, "r")
        if os.stat(self.path).st_ino != self.inode:
            raise FileNotFoundError(errno.ENOENT, "another file than the worker's", self.path)
        found = np.ndarray.__new__(np.memmap, self.shape, self.dtype, whole, self.offset, self.strides)
        found.mode = "r"  # so that pages which were read are given back
        return found


class Batches(Datasource):
    """Batches of a pass, by their ``numbers``: rows of ``number``, ``count``, and one column for each source; without
    sources one of the rows' numbers, which actors on this machine read themselves."""

    def __init__(
        self, work: Pass, sources: Sequence[Callable[[], np.ndarray]], numbers: Sequence[int], actors: int
    ) -> None:
        super().__init__()
        self.size = max(len(part) for part in work.parts)
        self._row_bytes = [one.dtype.itemsize * int(np.prod(one.shape[1:], dtype=np.int64)) for one in work.sources]
        if not sources:
            self._row_bytes = [work.rows.dtype.itemsize]
        per_task = min(BLOCK_BYTES // (self.size * sum(self._row_bytes)), len(numbers) // (actors * EACH))
        per_task = max(1, per_task)
        self.tasks = [
            functools.partial(
                _read, sources, [(n, work.rows[work.parts[n]]) for n in numbers[at : at + per_task]], self.size
            )
            for at in range(0, len(numbers), per_task)
        ]
        self._lengths = [len(numbers[at : at + per_task]) for at in range(0, len(numbers), per_task)]

    def estimate_inmemory_data_size(self) -> int:
        return sum(self._lengths) * self.size * sum(self._row_bytes)

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        return [
            ReadTask(read, BlockMetadata(length, length * self.size * sum(self._row_bytes), None, None))
            for read, length in zip(self.tasks, self._lengths, strict=True)
        ]


def source_of(array: np.ndarray) -> Callable[[], np.ndarray]:
    """How a task on this machine gets at an array: by its file, or out of Ray's memory."""
    mapped = MappedRows.of(array)
    return mapped.opened if mapped else functools.partial(_gotten, ray.put(np.ascontiguousarray(array)))


def _gotten(kept: ray.ObjectRef[np.ndarray]) -> np.ndarray:
    found: np.ndarray = ray.get(kept)
    return found


def _read(
    sources: Sequence[Callable[[], np.ndarray]], batches: Sequence[tuple[int, np.ndarray]], size: int
) -> Iterable[Any]:
    columns: dict[str, np.ndarray] = {
        "number": np.array([number for number, _ in batches]),
        "count": np.array([len(rows) for _, rows in batches]),
    }
    if not sources:
        columns["rows"] = np.stack([np.pad(rows, (0, size - len(rows))) for _, rows in batches])
    for index, source in enumerate(sources):
        array = source()
        read = np.empty((len(batches), size, *array.shape[1:]), array.dtype)
        for place, (_, rows) in enumerate(batches):
            if array.flags.c_contiguous:
                np.take(array, rows, axis=0, out=read[place, : len(rows)], mode="clip")
            else:  # some columns of kept features
                read[place, : len(rows)] = array[rows]
            read[place, len(rows) :] = 0
        columns[f"rows{index}"] = read
    yield BlockAccessor.batch_to_arrow_block(columns)
