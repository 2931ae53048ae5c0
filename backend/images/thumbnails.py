"""Small pictures of tasks for people, from the image cache of a project: nothing is fetched for them."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from backend.images.cache import ImageCache
from backend.images.trying import source_digest

SIDE = 320
"""The longer side of a picture is at most so many pixels: twice what a page shows, for sharp screens."""

CACHES = 4
"""Caches that are kept open: their index takes about 40 bytes an image."""

QUALITY = 82


@dataclass(frozen=True)
class _Opened:
    """A cache, and the folder that it was opened in."""

    cache: ImageCache
    folder: os.stat_result

    def is_on_disk(self) -> bool:
        """Whether it is still the one in its place. A project that was forgotten and connected again has another one
        there, and what is mapped of the old one could still be read."""
        try:
            return os.path.samestat(self.cache.directory.stat(), self.folder)
        except FileNotFoundError:
            return False


class Thumbnails:
    """The pictures of all projects. Thread-safe."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, tuple[int, int]], _Opened] = OrderedDict()  # most recently used last
        self._lock = threading.Lock()  # a cache is for one thread at a time

    def present(self, folder: Path, frame: tuple[int, int], sources: Mapping[int, str]) -> set[int]:
        """The tasks whose image is there. ``folder``: the project's in ``MODEL_DIR``. ``frame``: (H, W) of the images
        in its cache. ``sources``: task id → the address of its image: one from another address does not count."""
        with self._lock:
            cache = self._cache(folder, frame)
            return (
                set() if cache is None else {task for task, source in sources.items() if _row(cache, task, source) >= 0}
            )

    def jpeg(self, folder: Path, frame: tuple[int, int], task: int, source: str) -> bytes | None:
        """The picture of a task as a JPEG; None if its image is not there."""
        with self._lock:
            cache = self._cache(folder, frame)
            row = -1 if cache is None else _row(cache, task, source)
            if cache is None or row < 0:
                return None
            pixels = np.array(cache.pixels[row])  # a copy
            if _row(cache, task, source) != row:  # the task was deleted meanwhile, and its row may be another's
                return None
        return encoded(pixels)

    def _cache(self, folder: Path, frame: tuple[int, int]) -> ImageCache | None:
        key = (folder, frame)
        if key in self._open and not self._open[key].is_on_disk():
            del self._open[key]
        if key not in self._open:
            cache = ImageCache.open_existing(folder, frame)
            if cache is None:
                return None
            while len(self._open) >= CACHES:
                self._open.popitem(last=False)
            self._open[key] = _Opened(cache, cache.directory.stat())
        self._open.move_to_end(key)
        return self._open[key].cache


def _row(cache: ImageCache, task: int, source: str) -> int:
    """The row of a task's image; -1 if it has none, or one from another address."""
    rows = cache.rows([task])
    if rows[0] < 0 or cache.digests(rows)[0].tobytes() != source_digest(source):
        return -1
    return int(rows[0])


def encoded(pixels: np.ndarray) -> bytes:
    """Pixels (H, W, 3) uint8 as a JPEG of at most :data:`SIDE` on its longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    target = io.BytesIO()
    image.save(target, "JPEG", quality=QUALITY)
    return target.getvalue()
