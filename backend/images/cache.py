"""Task data → decoded pixels in a file, each image fetched and decoded once: the owner of task id ↔ row.

On disk, in one directory per project and size, as ``backend.images.row_cache`` says:

    pixels.u8   rows of H×W×3 bytes
    sizes.u32   of whole images: rows of two numbers, height and width of the original
    index       row → task id and digest of the image's address
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from backend.errors import ImageError
from backend.files import replace_file
from backend.images.decoding import SMALL_SIZE, SMALL_UP_TO, decode, decode_whole, dimensions, shown_size
from backend.images.row_cache import Row, RowCache

__all__ = ["Broken", "Fetch", "ImageCache", "decode"]

log = logging.getLogger(__name__)

Fetch = Callable[[int, str], bytes]
"""(task id, source) → the encoded image. Raises ImageError for one that cannot be had; other errors end the sync."""

Progress = Callable[[str, int, int], None]

Parts = tuple[np.ndarray, ...]
Decode = Callable[[bytes], Parts]
"""Encoded image → a row of each file. Raises ImageError."""

_Item = tuple[int, str, bytes]

LARGE_SIZE = 224
_PIXELS, _SIZES = "pixels.u8", "sizes.u32"
_LOOK_AT, _TRY_AT_MOST = 16, 64  # images, to choose a size


@dataclass(frozen=True)
class Broken:
    """An image that was set aside."""

    task_id: int
    source: str
    reason: str


class ImageCache(RowCache):
    """The pixels of a project's tasks in one frame: see :class:`backend.images.row_cache.RowCache` for who may read and
    write.

    ``frame`` as a number is the side of square images, of which the middle is kept: a classifier's. As (H, W) it is
    the frame that whole images are stretched to, so that masks fit on them; then their own sizes are kept beside.
    """

    def __init__(self, directory: Path, frame: int | tuple[int, int]) -> None:
        self.frame = (frame, frame) if isinstance(frame, int) else frame
        if min(self.frame) < 1:
            raise ValueError(f"the frame must be positive, not {frame}")
        files: dict[str, Row] = {_PIXELS: (np.uint8, (*self.frame, 3))}
        if isinstance(frame, int):
            self._decode: Decode = lambda data: (decode(data, frame),)
        else:
            self._decode = lambda data: _parts(*decode_whole(data, frame))
            files[_SIZES] = ("<u4", (2,))
        super().__init__(directory, frame if isinstance(frame, int) else list(frame), files)

    @classmethod
    def open_auto(cls, folder: Path, size: int, tasks: Iterable[tuple[int, str]], fetch: Fetch) -> ImageCache:
        """The cache of square images of ``size`` under ``folder``; 0 chooses by the first images, once, and remembers.

        32 when the first ones are all up to 40 px on their longer side, else 224.
        """
        if size:
            return cls(folder / f"images-{size}", size)
        kept = folder / "image-size.json"
        try:
            chosen = int(json.loads(kept.read_text())["size"])
        except (OSError, ValueError, KeyError, TypeError):
            longest = [max(size) for size in _first_sizes(tasks, fetch, dimensions)]
            chosen = SMALL_SIZE if longest and max(longest) <= SMALL_UP_TO else LARGE_SIZE
            if longest:  # as long as no image can be had, nothing is decided
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(kept, json.dumps({"size": chosen, "longest_sides": longest}).encode())
                log.info("Images are kept at %d px: the first ones measure up to %d px", chosen, max(longest))
        return cls(folder / f"images-{chosen}", chosen)

    @classmethod
    def open_whole(
        cls, folder: Path, size: int, tasks: Iterable[tuple[int, str]], fetch: Fetch, largest: int
    ) -> ImageCache:
        """The cache of whole images under ``folder``: longer side ``size`` px, in the shape of the first ones.

        0 chooses the size too: the longest side of the first images, but at most ``largest``. Looked at once, and
        remembered with what was chosen.
        """
        kept = folder / "frame.json"
        try:
            known = json.loads(kept.read_text())
            aspect, chosen = float(known["aspect"]), int(known["size"])
            if not (aspect > 0 and chosen > 0):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            sizes = _first_sizes(tasks, fetch, shown_size)
            aspect = median(wide / high for high, wide in sizes) if sizes else 1.0
            chosen = min(largest, max((max(size) for size in sizes), default=largest))
            if sizes:
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(kept, json.dumps({"aspect": aspect, "size": chosen, "first": sizes}).encode())
                log.info("Whole images are kept in %d×%d px (height×width)", *frame_of(aspect, size or chosen))
        frame = frame_of(aspect, size or chosen)
        return cls(folder / f"frame-{frame[0]}x{frame[1]}", frame)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def pixels(self) -> np.ndarray:
        """(M, H, W, 3) uint8, read-only, mapped from the file: index it with :meth:`rows`, never copy it whole."""
        return self.mapped(_PIXELS)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """(N, 2) int64: (height, width) of the originals of ``rows`` (N,), as browsers show them. Whole ones only."""
        return np.asarray(self.mapped(_SIZES)[rows], np.int64)

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
            with self._batch() as batch, contextlib.closing(self._in_threads(missing, fetch, workers)) as results:
                for done, (task, source, digest, outcome) in enumerate(results, 1):
                    if isinstance(outcome, ImageError):
                        broken.append(Broken(task, source, str(outcome)))
                        batch.drop(task)  # pixels of an earlier source are not this task's any more
                    else:
                        batch.add(task, digest, *outcome)
                    progress("images", done, len(missing))
        return broken

    def _in_threads(
        self, missing: Sequence[_Item], fetch: Fetch, workers: int
    ) -> Generator[tuple[int, str, bytes, Parts | ImageError], None, None]:
        """A row's parts or an ImageError for each item, in the order in which they are ready."""

        def one(task: int, source: str) -> Parts | ImageError:
            try:
                return self._decode(fetch(task, source))
            except ImageError as error:
                return error

        waiting = iter(missing)
        running: dict[Future[Parts | ImageError], _Item] = {}
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


def frame_of(aspect: float, longer: int) -> tuple[int, int]:
    """(H, W) of about the shape ``aspect``, W / H, with the longer side ``longer``: multiples of 8, 32 at least."""
    longer = _rounded(longer)  # first, so that the other side fits it
    return _rounded(longer / max(aspect, 1.0)), _rounded(longer * min(aspect, 1.0))


def _rounded(side: float) -> int:
    return max(32, 8 * math.floor(side / 8 + 0.5))


def _parts(pixels: np.ndarray, shown: tuple[int, int]) -> Parts:
    return pixels, np.array(shown)


def _first_sizes(
    tasks: Iterable[tuple[int, str]], fetch: Fetch, measure: Callable[[bytes], tuple[int, int]]
) -> list[tuple[int, int]]:
    """What ``measure`` says of the first images that can be had."""
    found: list[tuple[int, int]] = []
    for task, source in itertools.islice(tasks, _TRY_AT_MOST):
        with contextlib.suppress(ImageError):
            found.append(measure(fetch(task, source)))
        if len(found) == _LOOK_AT:
            break
    return found


def _digest(source: str) -> bytes:
    return hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).digest()
