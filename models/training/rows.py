"""Rows for training: shuffled batches, resident on the device where they fit, streamed where they do not.

Axis letters: L rows, B batch, H W pixels. A position is an index into the rows given, not a row of the pool.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from models.data import DataError, Runtime, check_pixels, check_rows
from models.inference.streaming import stream_batches

RESIDENT_BYTES_CUDA = 2 << 30
RESIDENT_BYTES_CPU = 256 << 20
LOAD_BYTES = 32 << 20  # read at a time while the resident copy is made


class TrainingRows:
    """L rows of the pool that training goes through again and again.

    resident  True: all rows lie on the device as uint8 and a batch is one gather there, if they take at most
              RESIDENT_BYTES_*. False: a thread reads batches from the pool ahead of use.
    device    where positions must live: the runtime's device when resident, else the host.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        resident_bytes: int | None = None,
        aligned_with: TrainingRows | None = None,
    ) -> None:
        """pixels (M, H, W, 3) uint8, or kept features (M, E) float16 in their place; rows (L,) of it.

        aligned_with: the images that these rows are the masks of, position for position; `pixels` is (K, H, W) then.
        Both are resident or neither is, and the same plan gives both in the same order.

        Raises DataError for no rows, or for pixels or rows of the wrong kind.
        """
        if aligned_with is None and pixels.dtype != np.float16:
            check_pixels(pixels)
        check_rows(rows, len(pixels))
        if len(rows) == 0:
            raise DataError("there is no row to train on")
        self._pixels = pixels
        self._rows = rows
        self._read_order: np.ndarray = rows if aligned_with is None else aligned_with._read_order
        self._target = runtime.device
        row_bytes = pixels.dtype.itemsize * int(np.prod(pixels.shape[1:]))
        if aligned_with is None:
            limit = resident_limit(runtime.device) if resident_bytes is None else resident_bytes
            self.resident = len(rows) * row_bytes <= limit
        else:
            self.resident = aligned_with.resident
        self.device = runtime.device if self.resident else torch.device("cpu")
        self._images: Tensor | None = None
        if self.resident:
            step = max(1, LOAD_BYTES // row_bytes)
            parts = [rows[start : start + step] for start in range(0, len(rows), step)]
            self._images = torch.cat(list(stream_batches(pixels, parts, runtime.device)))

    def __len__(self) -> int:
        return len(self._rows)

    def endless(self, batch_size: int, generator: torch.Generator) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Shuffled epochs without end, always exactly `batch_size` rows; same form as `batches`. `generator` lives on
        `self.device`.

        Close the iterator when done with it (contextlib.closing): a reader thread may wait behind it.
        """
        return self.batches(endless_positions(len(self), batch_size, generator))

    def batches(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """The batches of positions in `plan` (tensors on `self.device`; see `epoch_positions`): positions (B,) int64,
        images (B, H, W, 3) uint8, on the target device.
        """
        if self._images is not None:
            for positions in plan:
                yield positions, self._images[positions]
            return
        yield from self._streamed(plan)

    def _streamed(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        upcoming: list[np.ndarray] = []

        def rows_of_plan() -> Iterator[np.ndarray]:
            for positions in plan:
                places = positions.numpy()
                places = places[np.argsort(self._read_order[places], kind="stable")]  # ascending rows read faster
                upcoming.append(places)
                yield self._rows[places]

        for images in stream_batches(self._pixels, rows_of_plan(), self._target):
            positions = torch.from_numpy(upcoming.pop(0))
            if self._target.type == "cuda":
                positions = positions.pin_memory()
            yield positions.to(self._target, non_blocking=True), images


def epoch_positions(count: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Every position 0..count-1 once, shuffled, on the generator's device, in batches of at most about `batch_size`.

    The batches differ by at most one and none has a single one (batch statistics need two), except that a single
    position is given twice.
    """
    if count == 1:
        return (torch.zeros(2, dtype=torch.int64, device=generator.device),)
    shuffled = torch.randperm(count, generator=generator, device=generator.device)
    return shuffled.tensor_split(batches_per_epoch(count, batch_size))


def passes_over(count: int, rows: int, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Passes without end over `rows` of the positions 0..count-1, each as `epoch_positions` gives it. Where they are
    fewer than `count`, a pass goes on where the one before it ended, so that none is seen twice before all are seen.
    """
    if rows == count:
        while True:
            yield epoch_positions(count, batch_size, generator)
    for positions in endless_positions(count, rows, generator):
        yield positions.tensor_split(batches_per_epoch(rows, batch_size))


def batches_per_epoch(count: int, batch_size: int) -> int:
    """How many batches `epoch_positions` makes: as many as needed, but each of two rows or more."""
    return max(1, min(-(-count // batch_size), count // 2))


def endless_positions(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of exactly `batch_size` positions from one shuffled epoch after another, across borders."""
    left = torch.empty(0, dtype=torch.int64, device=generator.device)
    while True:
        while len(left) < batch_size:
            shuffled = torch.randperm(count, generator=generator, device=generator.device)
            left = torch.cat([left, shuffled])
        yield left[:batch_size]
        left = left[batch_size:]


def resident_limit(device: torch.device) -> int:
    """How much of what a training reads again and again may lie on the device."""
    if device.type != "cuda":
        return RESIDENT_BYTES_CPU
    free, _ = torch.cuda.mem_get_info(device)
    return min(RESIDENT_BYTES_CUDA, free // 4)
