"""Which project computes on which of a worker's devices.

On each device one project at a time has a turn for each kind of work: one cycle trains there, one upkeep scores. A
project gets whichever device is free, and the one that it had last if that is: what was loaded for it is there still.
A device on which nobody has a turn is lent to a project that scores a pool, until somebody has one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from backend.events import Work
from models.lending import Lent

if TYPE_CHECKING:
    import torch

LOOK_SECONDS = 0.2
"""How often those who wait for a turn look whether they may go on."""


class Turns:
    """The turns on a worker's ``devices``. Used by all of its lanes."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.devices = tuple(devices)
        self._taken: set[tuple[Work, torch.device]] = set()
        self._lent: set[torch.device] = set()
        self._homes: dict[int, torch.device] = {}
        """Project → the device that it had last."""
        self._changed = threading.Condition()

    def taken(self, work: Work) -> bool:
        """Whether a project would have to wait for its turn for such work."""
        return all((work, device) in self._taken for device in self.devices)

    def home(self, project_id: int) -> torch.device:
        """The device for what a project computes without a turn: the one that it had last, unless somebody else has a
        turn there and on some other device nobody has."""
        with self._changed:
            return self._settle(project_id, self._best(project_id, self._unused() or self.devices))

    @contextmanager
    def wait(self, work: Work, project_id: int, check: Callable[[], None]) -> Iterator[torch.device]:
        """Have a turn for the block, on the device that is given. ``check`` is called while waiting for it; what it
        raises ends the wait."""
        while (device := self._take(work, project_id)) is None:
            check()
        try:
            with _current(device):
                yield device
        finally:
            with self._changed:
                self._taken.remove((work, device))
                self._changed.notify_all()

    @contextmanager
    def idle(self, besides: torch.device) -> Iterator[Sequence[Lent]]:
        """Have all devices, for the block, on which nobody has a turn, without the one that is used anyway."""
        with self._changed:
            found = [one for one in self._unused() if one != besides and one not in self._lent]
            self._lent.update(found)
        try:
            yield [Lent(one, lambda one=one: self._is_used(one)) for one in found]  # type: ignore[misc]
        finally:
            with self._changed:
                self._lent.difference_update(found)

    def _take(self, work: Work, project_id: int) -> torch.device | None:
        """The device on which the project has its turn now; None: none is free yet, although it was waited for."""
        with self._changed:
            if self.taken(work):
                self._changed.wait(LOOK_SECONDS)
            free = [one for one in self.devices if (work, one) not in self._taken]
            if not free:
                return None
            device = self._settle(project_id, self._best(project_id, free))
            self._taken.add((work, device))
            return device

    def _unused(self) -> list[torch.device]:
        return [one for one in self.devices if not self._is_used(one)]

    def _is_used(self, device: torch.device) -> bool:
        return any((work, device) in self._taken for work in Work)

    def _best(self, project_id: int, among: Sequence[torch.device]) -> torch.device:
        """The project's last one; else the first of those that are used least, now and by those who had it last."""
        homes = Counter(self._homes.values())
        last = self._homes.get(project_id)
        if last is not None and last in among:
            return last
        return min(among, key=lambda one: (self._is_used(one), one in self._lent, homes[one]))

    def _settle(self, project_id: int, device: torch.device) -> torch.device:
        self._homes[project_id] = device
        return device


def _current(device: torch.device) -> AbstractContextManager[object]:
    """In which the thread's own GPU is this one, for what is told no device."""
    if device.type != "cuda":
        return nullcontext()
    import torch

    return torch.cuda.device(device)
