"""What a backbone says of a project's images, kept in rows beside theirs.

In the folder of an image cache there is one folder for each backbone, its weights and the size of its input:

    rows.f16   row r: the features of the image in row r of the image cache
    stamps     row r: the task of that image, and the digest of what it was made from

A row counts while its stamp is that of the image's row. It is written once the features are on disk, so a kill costs no
more than the rows of the last seconds; and when the image's row is reused, its features no longer count.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from backend.files import write_at
from backend.images.row_cache import RowCache, note_layout
from backend.images.row_log import DIGEST_BYTES
from backend.images.row_table import TaskIds

STAMP = np.dtype([("task", "<i8"), ("digest", "u1", DIGEST_BYTES)])
_ROWS, STAMPS = "rows.f16", "stamps"
_AT_A_TIME = 1 << 16  # tasks, so that what is in between stays small


class FeatureCache:
    """One writer at a time, and any number of readers. Each thread needs an object of its own, as of the image cache.
    The features are a file: however many there are, none is in memory but those that are asked for."""

    def __init__(self, cache: RowCache, key: str, width: int) -> None:
        """``key``: names the backbone, its weights and the size of its input. ``width``: E, numbers of an image."""
        self.cache, self.width = cache, width
        self.directory = cache.directory / f"features-{key}"
        self._stored = StampedRows(self.directory, {_ROWS: 2 * width})
        self._map: np.ndarray | None = None

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> np.ndarray:
        """(M, E) float16, as a read-only memory map: as many rows as the image cache has. Those of tasks that are not
        ``present`` are of no use."""
        count = self.cache.row_count
        if self._map is None or len(self._map) != count:
            self._stored.make_room(_ROWS, count)
            shape = (count, self.width)
            path = self.directory / _ROWS
            self._map = np.memmap(path, np.float16, "r", shape=shape) if count else np.empty(shape, np.float16)
        return self._map

    def present(self, task_ids: TaskIds) -> np.ndarray:
        """Those (M,) int64 of ``task_ids`` whose image and its features are there, in the given order."""
        tasks = self.cache.present(task_ids)
        return tasks[self._known(tasks)]

    def missing(self, task_ids: TaskIds) -> np.ndarray:
        """Those (M,) int64 of ``task_ids`` whose image is there and its features are not, in the given order."""
        tasks = self.cache.present(task_ids)
        return tasks[~self._known(tasks)]

    def _known(self, tasks: np.ndarray) -> np.ndarray:
        count = self.cache.row_count
        known = np.zeros(len(tasks), bool)
        if not count or not len(tasks):
            return known
        self._stored.make_room(STAMPS, count)
        stamps = np.memmap(self.directory / STAMPS, STAMP, "r", shape=(count,))
        for first in range(0, len(tasks), _AT_A_TIME):
            part = tasks[first : first + _AT_A_TIME]
            rows = self.cache.rows(part)
            found = stamps[rows]
            same = (found["digest"] == self.cache.digests(rows)).all(axis=1)
            known[first : first + len(part)] = same & (found["task"] == part)
        return known

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, tasks: np.ndarray, values: np.ndarray) -> None:
        """Keep the features (N, E) of the images of ``tasks`` (N,), all of which have a row in the image cache."""
        rows = self.cache.rows(tasks)
        data = np.ascontiguousarray(values, np.float16)
        if data.shape != (len(tasks), self.width):
            raise ValueError(f"the features of {len(tasks)} images are {(len(tasks), self.width)}, not {data.shape}")
        stamps = np.zeros(len(tasks), STAMP)
        stamps["task"], stamps["digest"] = tasks, self.cache.digests(rows)
        self._stored.write(rows, _bytes_of(stamps), [data.view(np.uint8)])


class StampedRows:
    """A folder of files whose rows count while their stamps do: see the module's text."""

    def __init__(self, directory: Path, files: Mapping[str, int]) -> None:
        """``files``: name → bytes of a row, besides the stamps."""
        self.directory = directory
        self._files = dict(files)
        self._widths = {**self._files, STAMPS: STAMP.itemsize}
        directory.mkdir(parents=True, exist_ok=True)

    def stamps(self, start: int, end: int) -> np.ndarray:
        """(N, 24) uint8: the stamps of the rows from ``start`` to ``end``, as far as there are any; 0 where a row has
        none."""
        return self._mapped(STAMPS)[start:end]

    @property
    def row_count(self) -> int:
        return len(self._mapped(STAMPS))

    def values(self, name: str, start: int, end: int) -> np.ndarray:
        """(N, bytes) uint8: the rows of a file from ``start`` to ``end``."""
        self.make_room(name, end)
        return self._mapped(name)[start:end]

    def put_back(self, start: int, stamps: np.ndarray, parts: list[np.ndarray]) -> None:
        """Write neighboring rows, from ``start`` on: ``stamps`` (N, 24) and the rows (N, bytes) of each file."""
        self.write(np.arange(start, start + len(stamps)), stamps, parts)

    def write(self, rows: np.ndarray, stamps: np.ndarray, parts: list[np.ndarray]) -> None:
        """Write ``rows`` (N,) of each file, all uint8, and then, once those are on disk, their ``stamps`` (N, 24)."""
        with self._writing():
            for name, part in zip(self._files, parts, strict=True):
                self._write_rows(name, rows, part)
            self._write_rows(STAMPS, rows, stamps)

    def make_room(self, name: str, count: int) -> None:
        """Make a file as long as so many rows: what is not written takes no space, and counts as nothing."""
        file = os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(file).st_size < count * self._widths[name]:
                os.ftruncate(file, count * self._widths[name])
        finally:
            os.close(file)

    def _mapped(self, name: str) -> np.ndarray:
        width = self._widths[name]
        self.make_room(name, 0)
        count = (self.directory / name).stat().st_size // width
        if not count:
            return np.empty((0, width), np.uint8)
        return np.memmap(self.directory / name, np.uint8, "r", shape=(count, width))

    def _write_rows(self, name: str, rows: np.ndarray, data: np.ndarray) -> None:
        file = os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for row, line in zip(rows.tolist(), data, strict=True):
                write_at(file, line.tobytes(), row * len(line))
            os.fsync(file)
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it ends
            note_layout(self.directory, {"files": self._files, "stamped": True})
            yield


def _bytes_of(records: np.ndarray) -> np.ndarray:
    return records.view(np.uint8).reshape(len(records), -1)
