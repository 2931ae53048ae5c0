"""One pass over rows on several devices at once, with the results of one device.

What a network says of a batch depends on that batch alone. So each batch goes through a copy of the network on
whichever device takes it next, and what comes of it is brought to the runtime's own device, where everything else is
done with the batches in their order. They are the same batches as on one device.

Devices that are lent are left as soon as somebody else wants them, and where their memory does not suffice.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.data import Runtime
from models.inference.fused import placed_copy
from models.inference.streaming import READ_AHEAD, stream_batches
from models.lending import Lent

FEWEST = 4
"""Batches of a pass that is worth copies of the network."""

AHEAD = READ_AHEAD + 2
"""How many batches each device may be ahead of what is done with them: those that it reads, and one that waits."""

LOOK_SECONDS = 0.2
"""How often a device that waits looks whether somebody wants it."""


@dataclass(frozen=True)
class Through:
    """What a batch goes through: `networks` in eval mode (see `models.inference.fused.scoring_copy`), and what is asked
    of these or of copies of them, for rows (B, ...) on their device -> tensors (B, ...) there. It keeps nothing between
    batches, and is asked in several threads at a time."""

    ask: Callable[..., tuple[Tensor, ...]]
    networks: Sequence[nn.Module]

    def __call__(self, read: Tensor) -> tuple[Tensor, ...]:
        return self.ask(*self.networks, read)

    def on(self, device: torch.device) -> Through:
        """The same on another device."""
        return Through(self.ask, [placed_copy(one, device) for one in self.networks])

    def stream(
        self, pixels: np.ndarray, parts: Sequence[np.ndarray], runtime: Runtime
    ) -> Generator[tuple[Tensor, ...], None, None]:
        """For each array of row numbers in `parts`, in their order, what comes of these rows of `pixels`, on the
        runtime's device: in inference mode.

        With `runtime.idle`, images are spread over the devices that this lends. Rows of anything else, such as kept
        features, are not: reading them costs more than what is asked of them.
        """
        if runtime.idle is None or pixels.dtype != np.uint8 or len(parts) < FEWEST:
            yield from _alone(pixels, parts, runtime, self)
            return
        with runtime.idle(runtime.device) as lent:
            if lent:
                with closing(_spread(pixels, parts, runtime, self, lent)) as stream:
                    yield from stream
            else:
                yield from _alone(pixels, parts, runtime, self)


def _alone(
    pixels: np.ndarray, parts: Sequence[np.ndarray], runtime: Runtime, through: Through
) -> Generator[tuple[Tensor, ...], None, None]:
    with closing(stream_batches(pixels, parts, runtime.device)) as stream:
        for read in stream:
            yield _inferred(through, read)


def _inferred(through: Through, read: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return through(read)


def _spread(
    pixels: np.ndarray, parts: Sequence[np.ndarray], runtime: Runtime, through: Through, lent: Sequence[Lent]
) -> Generator[tuple[Tensor, ...], None, None]:
    batches = _Batches(len(parts), AHEAD * (1 + len(lent)))
    helpers = [
        threading.Thread(
            target=_help,
            args=(pixels, parts, runtime, through, one, batches),
            name=f"pass on {one.device}",
            daemon=True,
        )
        for one in lent
    ]
    for helper in helpers:
        helper.start()
    try:
        mine = batches.for_their_owner()
        with closing(stream_batches(pixels, (parts[number] for number in mine), runtime.device)) as stream:
            for read in stream:
                batches.put(mine.reading.popleft(), _inferred(through, read))
                yield from batches.next_ones()
        while batches.left:  # others have them, or gave them back
            for number in batches.given_back():
                with closing(stream_batches(pixels, [parts[number]], runtime.device)) as stream:
                    batches.put(number, _inferred(through, next(stream)))
            yield from batches.next_ones()
    finally:
        batches.close()
        for helper in helpers:
            helper.join()


def _help(
    pixels: np.ndarray,
    parts: Sequence[np.ndarray],
    runtime: Runtime,
    through: Through,
    lent: Lent,
    batches: _Batches,
) -> None:
    """What a device that is lent does for the pass, in a thread of its own."""
    mine = batches.for_a_helper(lent.wanted)
    try:
        with torch.inference_mode(), _current(lent.device):
            there = through.on(lent.device)
            with closing(stream_batches(pixels, (parts[number] for number in mine), lent.device)) as stream:
                for read in stream:
                    found = tuple(one.to(runtime.device, non_blocking=True) for one in there(read))
                    batches.put(mine.reading.popleft(), found)
                    if batches.closed:
                        return
    except torch.OutOfMemoryError:
        batches.give_back(mine.reading)
    except BaseException as error:  # whatever it is, it belongs to whoever asked for the pass
        batches.fail(error)


def _current(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _Batches:
    """Which batches of a pass are taken, and what came of them. Used by all of its threads."""

    def __init__(self, count: int, ahead: int) -> None:
        self._count, self._ahead = count, ahead
        self._taken = self._done = 0
        self._returned: deque[int] = deque()
        self._found: dict[int, tuple[Tensor, ...]] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.closed = False

    @property
    def left(self) -> bool:
        """Whether some have not been given to the owner of the pass."""
        return self._done < self._count

    def for_their_owner(self) -> _Mine:
        """Without waiting: whoever does something with the batches must not wait for that."""
        return _Mine(lambda: self._take(self._count))

    def for_a_helper(self, wanted: Callable[[], bool]) -> _Mine:
        """As long as the device is not wanted, and never too far ahead."""
        return _Mine(lambda: self._take_in_time(wanted))

    def _take_in_time(self, wanted: Callable[[], bool]) -> int | None:
        with self._changed:
            while not self.closed and not wanted():
                if self._taken - self._done < self._ahead or self._taken >= self._count:
                    return self._take(self._count)
                self._changed.wait(LOOK_SECONDS)
        return None

    def _take(self, count: int) -> int | None:
        with self._changed:
            if self.closed or self._taken >= count:
                return None
            self._taken += 1
            return self._taken - 1

    def put(self, number: int, found: tuple[Tensor, ...]) -> None:
        with self._changed:
            self._found[number] = found
            self._changed.notify_all()

    def give_back(self, numbers: Sequence[int]) -> None:
        with self._changed:
            self._returned.extend(numbers)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def next_ones(self) -> Iterator[tuple[Tensor, ...]]:
        """What came of those that are next in order, as far as it is there. Raises what a helper has met."""
        while True:
            with self._changed:
                if self._error is not None:
                    raise self._error
                if self._done not in self._found:
                    return
                found = self._found.pop(self._done)
                self._done += 1
                self._changed.notify_all()
            yield found

    def given_back(self) -> list[int]:
        """Wait until the next one is there, or some were given back, which are taken then."""
        with self._changed:
            while not (self._error or self._returned or self._done in self._found):
                self._changed.wait()
            numbers = list(self._returned)
            self._returned.clear()
            return numbers

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class _Mine:
    """The numbers of the batches that one device takes, one by one. `reading`: those that it has not put yet."""

    def __init__(self, take: Callable[[], int | None]) -> None:
        self._take = take
        self.reading: deque[int] = deque()

    def __iter__(self) -> Any:
        while (number := self._take()) is not None:
            self.reading.append(number)
            yield number
