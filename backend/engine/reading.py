"""Rows of a pass, read on the machine that has the files. Nothing here needs torch, which takes seconds to load: Ray
has processes that only read.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

Source = Callable[[], np.ndarray]
"""How a process on this machine gets at an array."""


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


def source_of(array: np.ndarray) -> Source:
    """By its file, or out of Ray's memory."""
    mapped = MappedRows.of(array)
    return mapped.opened if mapped else functools.partial(_gotten, ray.put(np.ascontiguousarray(array)))


def _gotten(kept: ray.ObjectRef[np.ndarray]) -> np.ndarray:
    found: np.ndarray = ray.get(kept)
    return found


@ray.remote(num_cpus=0)
def read(sources: Sequence[Source], rows: np.ndarray) -> list[np.ndarray]:
    """The rows (B,) of each source, (B, ...), for an actor that may be on another machine."""
    found = []
    for source in sources:
        array = source()
        if array.flags.c_contiguous:
            found.append(np.take(array, rows, axis=0, mode="clip"))
        else:  # some columns of kept features, of which np.take would copy all
            found.append(array[rows])
    return found
