"""Rows of a memory-mapped pool, in batches, through a computation on the device, and the results back.

The memory this takes does not grow with the pool. Axis letters: N rows asked for, B batch, H W pixels.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.data import Runtime
from models.inference.executors import Pass

READ_AHEAD = 2  # batches that wait, read, while the device works on an earlier one
FEATURE_BATCH = 4096  # rows of kept features
FLUSH_EVERY = 32  # batches whose results gather on the device before one copy brings them to the host


class Passing(Protocol):
    """What each batch goes through on its own: a `models.inference.several_devices.Through`."""

    def __call__(self, read: Tensor) -> tuple[Tensor, ...]: ...

    def stream(
        self, pixels: np.ndarray, parts: Sequence[np.ndarray], runtime: Runtime
    ) -> Generator[tuple[Tensor, ...], None, None]: ...


def stream_batches(
    pixels: np.ndarray, batches: Iterable[np.ndarray], device: torch.device
) -> Generator[Tensor, None, None]:
    """For each array of row numbers in `batches`, those rows of `pixels` on `device`: (B, H, W, 3) uint8, or whatever
    else the rows of that array are.

    A thread reads ahead while the caller computes; on CUDA the copy goes through pinned memory and does not
    block. `batches` may be endless; closing the iterator ends the thread. Ascending rows read fastest.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-rows") as reader:
        waiting: deque[Future[Tensor]] = deque()
        for rows in batches:
            waiting.append(reader.submit(read_rows, pixels, rows, device))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft().result().to(device, non_blocking=True)
        while waiting:
            yield waiting.popleft().result().to(device, non_blocking=True)


def one_by_one(pixels: np.ndarray, rows: np.ndarray) -> Generator[Tensor, None, None]:
    """Each of the rows (N,) on its own, (1, ...) uint8 on the host. So a mapped file that is read through does not
    stay in the process's memory."""
    return stream_batches(pixels, rows[:, None], torch.device("cpu"))


def read_rows(pixels: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
    """Rows in host memory, pinned on their way to a CUDA device (torch keeps such a buffer until copied)."""
    on_cuda = device.type == "cuda"
    with torch.cuda.device(device) if on_cuda else nullcontext():
        kind = torch.uint8 if pixels.dtype == np.uint8 else torch.float16
        images = torch.empty((len(rows), *pixels.shape[1:]), dtype=kind, pin_memory=on_cuda)
    if pixels.flags.c_contiguous:
        # mode="raise" would copy through a temporary array; callers have checked the rows' range.
        np.take(pixels, rows, axis=0, out=images.numpy(), mode="clip")
    else:  # some columns of kept features: np.take would copy all of them first
        images.numpy()[:] = pixels[rows]
    _release_pages(pixels)
    return images


def _release_pages(pixels: np.ndarray) -> None:
    """Give the pages just read of a memory-mapped file back, so that a process never holds the whole pool.

    They stay in the system's page cache: reading them again costs no disk access.
    """
    if getattr(pixels, "mode", None) not in ("r", "r+"):  # pages of a "c" mapping may hold unsaved changes
        return
    base: object = pixels
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def eval_batch_size(runtime: Runtime, frame: tuple[int, int]) -> int:
    """Rows of `frame` (H, W) per batch while scoring: the runtime's, else what fills a CUDA device within about 2 GiB,
    or is computed in a processor's caches."""
    if runtime.eval_batch_size > 0:
        return runtime.eval_batch_size
    area = frame[0] * frame[1]
    # Nets for images up to 64 px work at full resolution, those for larger ones start with a stride of 4.
    small = max(frame) <= 64
    if runtime.device.type != "cuda":
        return max(8, min(128, 128 * 32**2 // area)) if small else max(1, min(16, round(8 * 224**2 / area)))
    base, side = (1024, 32) if small else (256, 224)
    fewest = 8 if area <= 512**2 else 1
    return max(fewest, min(base, base * side**2 // area))


def batches_of(rows: np.ndarray, runtime: Runtime, pixels: np.ndarray) -> list[np.ndarray]:
    """Positions 0..N-1 in `rows` (N,), in batches that suit the device, in ascending order of rows."""
    order = np.argsort(rows, kind="stable")
    of_images = pixels.dtype == np.uint8
    size = eval_batch_size(runtime, (pixels.shape[1], pixels.shape[2])) if of_images else FEATURE_BATCH
    return [order[start : start + size] for start in range(0, len(order), size)]


def map_rows(
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    compute: Callable[..., tuple[Tensor, ...]],
    phase: str = "score",
    beside: np.ndarray | None = None,
    through: Passing | None = None,
) -> tuple[np.ndarray, ...]:
    """`compute` on every row, in one pass in inference mode; its results in the order of `rows`.

    compute: images (B, H, W, 3) uint8 on the device, or whatever else the rows of `pixels` are, and the same rows of
    `beside` if that is given -> tensors of shape (B, ...), as many as it likes; it must not synchronize with the host.
    through: what each batch goes through first; `compute` is given the tensors that come of that, in place of the rows
    of `pixels`.
    Returns one array (N, ...) per tensor. `rows` must not be empty and must have been checked
    (`models.data.check_rows`). Batches are made in ascending order of rows, so that a result depends on neither the
    order nor the neighbors asked for beyond float rounding. `compute` keeps nothing between batches: the runtime's
    executor may have them computed elsewhere.

    Calls runtime.progress(phase, rows done, N) after every batch.
    """
    parts = batches_of(rows, runtime, pixels)
    gathered = _Gathered(len(rows))
    done = 0
    asked = [rows[part] for part in parts]
    whole = compute if through is None else partial(_after, through, compute)
    sources = [pixels] if beside is None else [pixels, beside]
    if runtime.executor is not None:
        work = Pass(sources, rows, parts, whole, runtime.device, lambda: runtime.progress(phase, done, len(rows)))
        if (elsewhere := runtime.executor.computed(work)) is not None:
            with closing(elsewhere):
                for part, values in elsewhere:
                    gathered.add(part, tuple(torch.from_numpy(one) for one in values))
                    done += len(part)
                    runtime.progress(phase, done, len(rows))
            return gathered.result()
    with torch.inference_mode(), ExitStack() as open_streams:
        streams = [_one_each(pixels, asked, runtime) if through is None else through.stream(pixels, asked, runtime)]
        streams += [] if beside is None else [_one_each(beside, asked, runtime)]
        opened = [open_streams.enter_context(closing(stream)) for stream in streams]
        for part, *read in zip(parts, *opened, strict=True):
            gathered.add(part, compute(*chain(*read)))
            done += len(part)
            runtime.progress(phase, done, len(rows))
        return gathered.result()


def _one_each(
    pixels: np.ndarray, batches: Sequence[np.ndarray], runtime: Runtime
) -> Generator[tuple[Tensor, ...], None, None]:
    with closing(stream_batches(pixels, batches, runtime.device)) as stream:
        for read in stream:
            yield (read,)


def _after(
    through: Passing, compute: Callable[..., tuple[Tensor, ...]], read: Tensor, *beside: Tensor
) -> tuple[Tensor, ...]:
    return compute(*through(read), *beside)


class _Gathered:
    """Results of batches, kept on the device and copied to their places on the host now and then."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: list[tuple[np.ndarray, tuple[Tensor, ...]]] = []
        self._host: list[np.ndarray] = []

    def add(self, positions: np.ndarray, values: tuple[Tensor, ...]) -> None:
        self._waiting.append((positions, values))
        if len(self._waiting) >= FLUSH_EVERY:
            self._flush()

    def _flush(self) -> None:
        positions = np.concatenate([part for part, _ in self._waiting])
        for index, tensors in enumerate(zip(*(values for _, values in self._waiting), strict=True)):
            values = torch.cat(tensors).cpu().numpy()
            if index == len(self._host):
                self._host.append(np.empty((self._count, *values.shape[1:]), dtype=values.dtype))
            self._host[index][positions] = values
        self._waiting.clear()

    def result(self) -> tuple[np.ndarray, ...]:
        if self._waiting:
            self._flush()
        return tuple(self._host)


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """Put the networks in eval mode and afterwards every submodule back into the mode it was in."""
    modes = [(module, module.training) for net in nets for module in net.modules()]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
