"""The rows of a cache, in chunks that can be stored and put back: some megabytes of neighboring rows each.

A chunk is named after its number and after what its rows were made from. So whether two machines have the same rows can
be told without reading a pixel, and a chunk that is there already is not sent again.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backend.images.features import StampedRows
from backend.images.row_cache import LAYOUT, RowCache

CHUNK_BYTES = 16 << 20
_MARK_BYTES = 24


class ChunkedRows(ABC):
    """The rows of one cache, in chunks. Only the holder of the project's lease may use it, in one
    thread."""

    layout: dict[str, Any]

    @property
    def chunk_rows(self) -> int:
        """How many rows are in a chunk; the last one may have fewer."""
        return max(1, CHUNK_BYTES // sum(self.layout["files"].values()))

    def names(self) -> dict[int, str]:
        """The number of each chunk in which there is anything → its name."""
        found = {}
        for number, start in enumerate(range(0, self.row_count(), self.chunk_rows)):
            part = self.marks(start, start + self.chunk_rows)
            if part.any():
                found[number] = f"{number:06d}-{hashlib.sha256(part.tobytes()).hexdigest()[:24]}"
        return found

    @abstractmethod
    def row_count(self) -> int:
        """How many rows there are, also of those in which there is nothing."""

    @abstractmethod
    def marks(self, start: int, end: int) -> np.ndarray:
        """(N, 24) uint8: the tasks of the rows from ``start`` to ``end``, as far as there are any, and what they were
        made from; 0 where there is nothing."""

    @abstractmethod
    def parts(self, start: int, end: int) -> list[np.ndarray]:
        """The rows from ``start`` to ``end`` of each file, (N, bytes) uint8."""

    @abstractmethod
    def put_back(self, start: int, marks: np.ndarray, parts: list[np.ndarray]) -> None:
        """Put rows in the place of those from ``start`` on."""

    def chunk(self, number: int) -> bytes:
        """The content of a chunk: a line of JSON, marks, and the rows of each file."""
        start = number * self.chunk_rows
        marks = self.marks(start, start + self.chunk_rows)
        header = {"layout": self.layout, "start": start, "rows": len(marks)}
        pieces = [marks, *self.parts(start, start + len(marks))]
        return b"".join([json.dumps(header).encode(), b"\n", *(piece.tobytes() for piece in pieces)])

    def take(self, content: bytes) -> None:
        """Put the rows of a chunk in their places.

        Raises:
            ValueError: it is not a chunk of this cache.
        """
        line, _, rest = content.partition(b"\n")
        header = json.loads(line)
        widths = [_MARK_BYTES, *self.layout["files"].values()]
        count = int(header["rows"]) if isinstance(header, dict) and header.get("layout") == self.layout else -1
        if len(rest) != count * sum(widths):
            raise ValueError("a chunk is of another cache, or damaged")
        data, position, pieces = np.frombuffer(rest, np.uint8), 0, []
        for width in widths:
            pieces.append(data[position : position + count * width].reshape(count, width))
            position += count * width
        self.put_back(int(header["start"]), pieces[0], pieces[1:])


class ImageRows(ChunkedRows):
    """A cache of images or masks."""

    def __init__(self, folder: Path, layout: dict[str, Any]) -> None:
        self.layout = layout
        files = {name: (np.uint8, (width,)) for name, width in layout["files"].items()}
        self._cache = RowCache(folder, layout["size"], files)

    def row_count(self) -> int:
        self._cache.refresh()
        return self._cache.row_count

    def marks(self, start: int, end: int) -> np.ndarray:
        return self._cache.marks(start, end)

    def parts(self, start: int, end: int) -> list[np.ndarray]:
        return [self._cache.mapped(name)[start:end] for name in self.layout["files"]]

    def put_back(self, start: int, marks: np.ndarray, parts: list[np.ndarray]) -> None:
        self._cache.put_back(start, marks, parts)


class FeatureRows(ChunkedRows):
    """The features of images."""

    def __init__(self, folder: Path, layout: dict[str, Any]) -> None:
        self.layout = layout
        self._rows = StampedRows(folder, layout["files"])

    def row_count(self) -> int:
        return self._rows.row_count

    def marks(self, start: int, end: int) -> np.ndarray:
        return self._rows.stamps(start, end)

    def parts(self, start: int, end: int) -> list[np.ndarray]:
        return [self._rows.values(name, start, end) for name in self.layout["files"]]

    def put_back(self, start: int, marks: np.ndarray, parts: list[np.ndarray]) -> None:
        self._rows.put_back(start, marks, parts)


def caches_in(folder: Path) -> Iterator[tuple[str, ChunkedRows]]:
    """(path, its rows) of each cache in a project's folder, images before what was made of them."""
    for found in sorted(folder.rglob(LAYOUT), key=lambda path: path.parent):
        try:
            layout = json.loads(found.read_text())
            yield found.parent.relative_to(folder).as_posix(), open_rows(found.parent, layout)
        except (OSError, ValueError, KeyError, TypeError):  # half a file of a disk that was full: made anew when used
            continue


def open_rows(folder: Path, layout: dict[str, Any]) -> ChunkedRows:
    """The rows of the cache in ``folder``, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    return FeatureRows(folder, layout) if layout.get("stamped") else ImageRows(folder, layout)
