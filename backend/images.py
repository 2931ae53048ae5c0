"""Task data → decoded pixels in a file, each image fetched and decoded once: the owner of task id ↔ row.

On disk, in one directory per project and size:

    pixels.u8   rows of size×size×3 bytes, and nothing else
    index       row → task id and digest of the image's address; replaced whole, atomically
    lock        held while something is written, so that two workers cannot

A row's pixels reach the disk before the index that names it, and a row that the index on disk names is never
overwritten. So a kill at any instant loses at most the last batch, and readers always see whole images.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.decoding import SMALL_SIZE, SMALL_UP_TO, decode, dimensions
from backend.errors import ImageError
from backend.imageindex import Index, replace_file

__all__ = ["Broken", "Fetch", "ImageCache", "decode"]

log = logging.getLogger(__name__)

Fetch = Callable[[int, str], bytes]
"""(task id, source) → the encoded image. Raises ImageError for one that cannot be had; other errors end the sync."""

Progress = Callable[[str, int, int], None]

LARGE_SIZE = 224
_BATCH_ROWS, _BATCH_SECONDS = 512, 5.0  # what a kill may lose
_LOOK_AT, _TRY_AT_MOST = 16, 64  # images, to choose a size


@dataclass(frozen=True)
class Broken:
    """An image that was set aside."""

    task_id: int
    source: str
    reason: str


class ImageCache:
    """The pixels of a project's tasks at one size. One writer at a time; any number of readers, in any process.

    Each thread needs an object of its own. A reader asks for ``rows`` each time it reads: rows of deleted tasks are
    used again.
    """

    def __init__(self, directory: Path, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be positive, not {size}")
        self.directory, self.size = Path(directory), size
        self.directory.mkdir(parents=True, exist_ok=True)
        self._index = Index(self.directory / "index", size, self._rows_on_disk)
        self._map: np.ndarray | None = None
        self._index.refresh()

    @classmethod
    def open_auto(cls, folder: Path, size: int, tasks: Iterable[tuple[int, str]], fetch: Fetch) -> ImageCache:
        """The cache of ``size`` under ``folder``; 0 chooses by the first images, once, and remembers.

        32 when the first ones are all up to 40 px on their longer side, else 224.
        """
        if size:
            return cls(folder / f"images-{size}", size)
        kept = folder / "image-size.json"
        try:
            chosen = int(json.loads(kept.read_text())["size"])
        except (OSError, ValueError, KeyError, TypeError):
            longest = _longest_sides(tasks, fetch)
            chosen = SMALL_SIZE if longest and max(longest) <= SMALL_UP_TO else LARGE_SIZE
            if longest:  # as long as no image can be had, nothing is decided
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(kept, json.dumps({"size": chosen, "longest_sides": longest}).encode())
                log.info("Images are kept at %d px: the first ones measure up to %d px", chosen, max(longest))
        return cls(folder / f"images-{chosen}", chosen)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def pixels(self) -> np.ndarray:
        """(M, H, W, 3) uint8, read-only, mapped from the file: index it with :meth:`rows`, never copy it whole."""
        self._index.refresh()
        count = self._index.row_count
        if count == 0:
            return np.empty((0, self.size, self.size, 3), np.uint8)
        if self._map is None or len(self._map) < count:
            shape = (count, self.size, self.size, 3)
            self._map = np.memmap(self._pixel_file, np.uint8, "r", shape=shape)
        return self._map

    def rows(self, task_ids: Sequence[int]) -> np.ndarray:
        """The row (N,) int64 of each task's pixels; -1 where there are none."""
        self._index.refresh()
        return self._index.rows(task_ids)

    def task_ids(self) -> list[int]:
        """Every task that has pixels here."""
        self._index.refresh()
        return self._index.task_ids()

    # -- writing -----------------------------------------------------------------------------------------------------

    def sync(
        self,
        tasks: Iterable[tuple[int, str]],
        fetch: Fetch,
        workers: int = 8,
        progress: Progress = lambda phase, done, total: None,
    ) -> list[Broken]:
        """Fetch and decode, in ``workers`` threads, what is missing or whose source changed; return what is broken.

        Memory stays flat: at most four images a thread are on their way at a time. Whatever ``fetch`` raises besides
        ImageError (Label Studio is down, the lease is lost, the disk is full) ends the sync; what was done is kept.
        """
        with self._writing():
            digests = [(task, source, _digest(source)) for task, source in tasks]
            missing = [item for item in digests if self._index.digest(item[0]) != item[2]]
            if not missing:
                return []
            broken: list[Broken] = []
            batch = _Batch(self)
            try:
                with contextlib.closing(_in_threads(missing, fetch, self.size, workers)) as results:
                    for done, (task, source, digest, outcome) in enumerate(results, 1):
                        if isinstance(outcome, ImageError):
                            broken.append(Broken(task, source, str(outcome)))
                            self._index.drop([task])  # pixels of an earlier source are not this task's any more
                        else:
                            batch.add(task, digest, outcome)
                        progress("images", done, len(missing))
            finally:
                batch.flush()
        return broken

    def forget(self, task_ids: Collection[int]) -> None:
        """Drop tasks; their rows are used again."""
        with self._writing():
            if self._index.drop(task_ids):
                self._index.save()

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _pixel_file(self) -> Path:
        return self.directory / "pixels.u8"

    @property
    def _row_bytes(self) -> int:
        return self.size * self.size * 3

    def _rows_on_disk(self) -> int:
        try:
            return self._pixel_file.stat().st_size // self._row_bytes
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however that ends
            self._index.refresh()
            yield


class _Batch:
    """Writes pixels at once and the index now and then."""

    def __init__(self, cache: ImageCache) -> None:
        self._cache, self._index = cache, cache._index
        self._file: int | None = None
        self._since, self._count = time.monotonic(), 0

    def add(self, task: int, digest: bytes, pixels: np.ndarray) -> None:
        if self._file is None:
            self._file = os.open(self._cache._pixel_file, os.O_RDWR | os.O_CREAT, 0o644)
        # written, not mapped: a full disk is then an error here, not a bus error that ends the process
        _write_all(self._file, pixels.tobytes(), self._index.next_row() * self._cache._row_bytes)
        self._index.place(task, digest)
        self._count += 1
        # the index is written whole, so the more there is in it the rarer
        enough = self._count >= max(_BATCH_ROWS, self._index.row_count // 16)
        if enough or time.monotonic() - self._since >= _BATCH_SECONDS:
            self._save()

    def flush(self) -> None:
        try:
            self._save()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _save(self) -> None:
        if self._file is not None:
            os.fsync(self._file)
        self._index.save()
        self._since, self._count = time.monotonic(), 0


_Item = tuple[int, str, bytes]


def _in_threads(
    missing: Sequence[_Item], fetch: Fetch, size: int, workers: int
) -> Generator[tuple[int, str, bytes, np.ndarray | ImageError], None, None]:
    """Pixels or an ImageError for each item, in the order in which they are ready."""

    def one(task: int, source: str) -> np.ndarray | ImageError:
        try:
            return decode(fetch(task, source), size)
        except ImageError as error:
            return error

    waiting = iter(missing)
    running: dict[Future[np.ndarray | ImageError], _Item] = {}
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="images") as pool:
        try:
            while True:
                for item in itertools.islice(waiting, 4 * max(1, workers) - len(running)):
                    running[pool.submit(one, item[0], item[1])] = item
                if not running:
                    return
                ready, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield (*running.pop(future), future.result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _longest_sides(tasks: Iterable[tuple[int, str]], fetch: Fetch) -> list[int]:
    found: list[int] = []
    for task, source in itertools.islice(tasks, _TRY_AT_MOST):
        with contextlib.suppress(ImageError):
            found.append(max(dimensions(fetch(task, source))))
        if len(found) == _LOOK_AT:
            break
    return found


def _digest(source: str) -> bytes:
    return hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
