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


class ChunkedRows(ABC):
    """The rows of one cache, in chunks. Only the holder of the project's lease may use it."""

    layout: dict[str, Any]

    @property
    def chunk_rows(self) -> int:
        """How many rows are in a chunk; the last one may have fewer."""
        return max(1, CHUNK_BYTES // sum(self.layout["files"].values()))

    def names(self) -> dict[int, str]:
        """The number of each chunk in which there is anything → its name."""
        marks = self.marks()
        found = {}
        for number, start in enumerate(range(0, len(marks), self.chunk_rows)):
            part = marks[start : start + self.chunk_rows]
            if part.any():
                found[number] = f"{number:06d}-{hashlib.sha256(part.tobytes()).hexdigest()[:24]}"
        return found

    @abstractmethod
    def marks(self) -> np.ndarray:
        """(M, K) uint8: what each row was made from, and for which task; 0 where there is nothing."""

    @abstractmethod
    def parts(self, start: int, end: int) -> list[np.ndarray]:
        """The rows from ``start`` to ``end`` of each file, (N, bytes) uint8."""

    @abstractmethod
    def put_back(self, start: int, marks: np.ndarray, parts: list[np.ndarray]) -> None:
        """Put rows in the place of those from ``start`` on."""

    def chunk(self, number: int) -> bytes:
        """The content of a chunk: a line of JSON, marks, and the rows of each file."""
        marks, start = self.marks(), number * self.chunk_rows
        end = min(start + self.chunk_rows, len(marks))
        header = {"layout": self.layout, "start": start, "rows": end - start}
        pieces = [marks[start:end], *self.parts(start, end)]
        return b"".join([json.dumps(header).encode(), b"\n", *(piece.tobytes() for piece in pieces)])

    def take(self, content: bytes) -> None:
        """Put the rows of a chunk in their places.

        Raises:
            ValueError: it is not a chunk of this cache.
        """
        line, _, rest = content.partition(b"\n")
        header = json.loads(line)
        widths, width = list(self.layout["files"].values()), self.marks().shape[1]
        count = int(header["rows"]) if isinstance(header, dict) and header.get("layout") == self.layout else -1
        if len(rest) != count * (width + sum(widths)):
            raise ValueError("a chunk is of another cache, or damaged")
        data, position, pieces = np.frombuffer(rest, np.uint8), 0, []
        for wide in [width, *widths]:
            pieces.append(data[position : position + count * wide].reshape(count, wide))
            position += count * wide
        self.put_back(int(header["start"]), pieces[0], pieces[1:])


class ImageRows(ChunkedRows):
    """A cache of images or masks."""

    def __init__(self, folder: Path, layout: dict[str, Any]) -> None:
        self.layout = layout
        files = {name: (np.uint8, (width,)) for name, width in layout["files"].items()}
        self._cache = RowCache(folder, layout["size"], files)

    def marks(self) -> np.ndarray:
        return self._cache.marks()

    def parts(self, start: int, end: int) -> list[np.ndarray]:
        return [self._cache.mapped(name)[start:end] for name in self.layout["files"]]

    def put_back(self, start: int, marks: np.ndarray, parts: list[np.ndarray]) -> None:
        self._cache.put_back(start, marks, parts)


class FeatureRows(ChunkedRows):
    """The features of images."""

    def __init__(self, folder: Path, layout: dict[str, Any]) -> None:
        self.layout = layout
        self._rows = StampedRows(folder, layout["files"])

    def marks(self) -> np.ndarray:
        return self._rows.stamps()

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
