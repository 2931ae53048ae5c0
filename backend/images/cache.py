"""The cache of a project's images: each is fetched and decoded once, and its pixels are kept in a row of a file.

On disk there is one directory per project and image size, in the format of :mod:`backend.images.row_cache`:

    pixels.u8   rows of H×W×3 bytes
    sizes.u32   only for whole images: rows of two numbers, the height and width of the original
    index       row → task id and digest of the image's address
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from backend.errors import ImageError, ImageLater
from backend.images.decoding import SMALL_SIZE, SMALL_UP_TO, decode, decode_whole, dimensions, shown_size
from backend.images.row_cache import Row, RowCache
from backend.images.trying import Trying, source_digest, unnoted
from backend.memory import budget
from models import ProgressFn
from models.files import replace_file

__all__ = ["Broken", "Fetch", "ImageCache", "decode"]

log = logging.getLogger(__name__)

Fetch = Callable[[int, str], bytes]
"""(task id, source) → the encoded image. Raises ImageError if it is not available; other errors end the sync."""

Parts = tuple[np.ndarray, ...]
Decode = Callable[[bytes], Parts]
"""Encoded image → its row in each file. Raises ImageError."""

_Item = tuple[int, str]

LARGE_SIZE = 224
_PIXELS, _SIZES = "pixels.u8", "sizes.u32"
_SAMPLED, _TRIED = 16, 64  # images that are measured to choose a size, and that are tried at most
_COMPARED = 1 << 14  # sources that are compared at a time


@dataclass(frozen=True)
class Broken:
    """An image that was set aside. ``later``: it is not damaged, and waits that many seconds; None: it is."""

    task_id: int
    source: str
    reason: str
    later: float | None = None


class ImageCache(RowCache):
    """The pixels of a project's tasks, all of one size. See :class:`backend.images.row_cache.RowCache` for who may read
    and write.

    If ``frame`` is a number, it is the side of square images, cropped to their center, as a classifier needs them. If
    it is (H, W), whole images are stretched to it, so that masks fit onto them; their original sizes are kept as well.
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
        """The cache of square images of ``size`` under ``folder``.

        If ``size`` is 0, it is chosen once from the first images, and remembered: 32 if their longer sides are all at
        most 40 px, else 224.
        """
        if size:
            return cls(folder / f"images-{size}", size)
        remembered = folder / "image-size.json"
        try:
            chosen = int(json.loads(remembered.read_text())["size"])
        except (OSError, ValueError, KeyError, TypeError):
            longest = [max(size) for size in _first_sizes(tasks, fetch, dimensions)]
            chosen = SMALL_SIZE if longest and max(longest) <= SMALL_UP_TO else LARGE_SIZE
            if longest:  # while no image is available, nothing is decided
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(remembered, json.dumps({"size": chosen, "longest_sides": longest}).encode())
                log.info("Images are cached at %d px: the first ones measure up to %d px", chosen, max(longest))
        return cls(folder / f"images-{chosen}", chosen)

    @classmethod
    def open_whole(
        cls, folder: Path, size: int, tasks: Iterable[tuple[int, str]], fetch: Fetch, largest: int
    ) -> ImageCache:
        """The cache of whole images under ``folder``: the longer side is ``size`` px, the aspect ratio is that of the
        first images.

        If ``size`` is 0, it is the longest side of the first images, but at most ``largest``. The first images are
        measured once, and the result is remembered.
        """
        remembered = folder / "frame.json"
        try:
            known = json.loads(remembered.read_text())
            aspect, chosen = float(known["aspect"]), int(known["size"])
            if not (aspect > 0 and chosen > 0):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError):
            sizes = _first_sizes(tasks, fetch, shown_size)
            aspect = median(width / height for height, width in sizes) if sizes else 1.0
            chosen = min(largest, max((max(size) for size in sizes), default=largest))
            if sizes:
                folder.mkdir(parents=True, exist_ok=True)
                replace_file(remembered, json.dumps({"aspect": aspect, "size": chosen, "first": sizes}).encode())
                log.info("Whole images are cached at %d×%d px (height×width)", *frame_of(aspect, size or chosen))
        frame = frame_of(aspect, size or chosen)
        return cls(folder / f"frame-{frame[0]}x{frame[1]}", frame)

    @classmethod
    def open_existing(cls, folder: Path, frame: tuple[int, int]) -> ImageCache | None:
        """The cache of images of ``frame`` (H, W) under ``folder``, of whole images or of square ones; None if there is
        none. Makes no folder: for who only reads."""
        if (folder / f"frame-{frame[0]}x{frame[1]}" / "index").exists():
            return cls(folder / f"frame-{frame[0]}x{frame[1]}", frame)
        if frame[0] == frame[1] and (folder / f"images-{frame[0]}" / "index").exists():
            return cls(folder / f"images-{frame[0]}", frame[0])
        return None

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def pixels(self) -> np.ndarray:
        """(M, H, W, 3) uint8, as a read-only memory map. Index it with :meth:`rows`; never copy all of it."""
        return self.mapped(_PIXELS)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """(N, 2) int64: (height, width) of the originals of ``rows`` (N,), as browsers show them. Only for caches of
        whole images."""
        return np.asarray(self.mapped(_SIZES)[rows], np.int64)

    # -- writing -----------------------------------------------------------------------------------------------------

    def sync(
        self,
        tasks: Iterable[tuple[int, str]],
        fetch: Fetch,
        workers: int = 8,
        report: ProgressFn = lambda phase, done, total: None,
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        trying: Trying = unnoted,
    ) -> list[Broken]:
        """Fetch and decode, in ``workers`` threads, images that are missing or whose source changed, in the order of
        ``tasks``.

        Memory use stays flat: at most four images per thread are in flight at a time. If ``fetch`` raises anything but
        ImageError (Label Studio is down, the lease is lost, the disk is full), the sync ends; what was done is kept.

        Args:
            seconds: start no fetch when this much time has passed since the first one. One image is tried in any case;
                those that are not tried stay missing.
            clock: the time in seconds.
            trying: around the decoding of each image.

        Returns:
            The images that could not be fetched or decoded.
        """
        with self._writing():
            missing = self._missing(tasks)
            if not missing:
                return []
            broken: list[Broken] = []
            until = math.inf if seconds is None else clock() + seconds
            results = self._in_threads(missing, fetch, workers, lambda: clock() >= until, trying)
            with self._batch() as batch, contextlib.closing(results):
                for done, (task, source, outcome) in enumerate(results, 1):
                    if isinstance(outcome, ImageError):
                        later = outcome.seconds if isinstance(outcome, ImageLater) else None
                        broken.append(Broken(task, source, str(outcome), later))
                        batch.drop(task)  # its row, if any, is that of an earlier source
                    else:
                        batch.add(task, source_digest(source), *outcome)
                    report("images", done, len(missing))
        return broken

    def _missing(self, tasks: Iterable[_Item]) -> list[_Item]:
        """Those of ``tasks`` that have no row, or one of another source, in the given order."""
        missing: list[_Item] = []
        waiting = iter(tasks)
        while part := list(itertools.islice(waiting, _COMPARED)):
            outdated = self._index.outdated([task for task, _ in part], [source_digest(source) for _, source in part])
            missing += itertools.compress(part, outdated.tolist())
        return missing

    def _in_threads(
        self, missing: Sequence[_Item], fetch: Fetch, workers: int, too_late: Callable[[], bool], trying: Trying
    ) -> Generator[tuple[int, str, Parts | ImageError], None, None]:
        """The parts of each item's row, or an ImageError, in the order in which they are ready. Once it is
        ``too_late``, no item is begun but the first."""
        begun = itertools.count()

        def one(task: int, source: str) -> Parts | ImageError | None:
            if next(begun) and too_late():
                return None
            try:
                with budget().image():
                    data = fetch(task, source)
                    with trying(task, source):
                        return self._decode(data)
            except ImageError as error:
                return error

        waiting = iter(missing)
        running: dict[Future[Parts | ImageError | None], _Item] = {}
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="images") as executor:
            try:
                while True:
                    for item in itertools.islice(waiting, 4 * max(1, workers) - len(running)):
                        running[executor.submit(one, *item)] = item
                    if not running:
                        return
                    ready, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ready:
                        item, outcome = running.pop(future), future.result()
                        if outcome is None:
                            waiting = iter(())  # it is too late for the rest as well
                        else:
                            yield (*item, outcome)
            finally:
                executor.shutdown(wait=True, cancel_futures=True)


def frame_of(aspect: float, longer: int) -> tuple[int, int]:
    """(H, W) with an aspect ratio W / H of about ``aspect`` and the longer side ``longer``: multiples of 8, at least
    32."""
    longer = _rounded(longer)  # first, so that the other side is proportional to the rounded one
    return _rounded(longer / max(aspect, 1.0)), _rounded(longer * min(aspect, 1.0))


def _rounded(side: float) -> int:
    return max(32, 8 * math.floor(side / 8 + 0.5))


def _parts(pixels: np.ndarray, shown: tuple[int, int]) -> Parts:
    return pixels, np.array(shown)


def _first_sizes(
    tasks: Iterable[tuple[int, str]], fetch: Fetch, measure: Callable[[bytes], tuple[int, int]]
) -> list[tuple[int, int]]:
    """``measure`` of the first images that are available."""
    found: list[tuple[int, int]] = []
    for task, source in itertools.islice(tasks, _TRIED):
        with contextlib.suppress(ImageError), budget().image():
            found.append(measure(fetch(task, source)))
        if len(found) == _SAMPLED:
            break
    return found
