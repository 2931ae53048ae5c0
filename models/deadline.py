"""When training has to be over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Deadline:
    """When training has to be over: ``at`` on ``clock``, both in seconds."""

    at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """So many seconds from now."""
        return cls(clock() + seconds, clock)

    def left(self) -> float:
        """Seconds from now; 0 or less once it has passed."""
        return self.at - self.clock()

    def share(self, share: float) -> Deadline:
        """When this share of the time that is left will have passed."""
        now = self.clock()
        return replace(self, at=now + share * (self.at - now))
