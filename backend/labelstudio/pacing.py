"""How fast each host is asked for images: as fast as it lets us.

A host that answers "too many requests", or that it is overloaded, is left alone for as long as it asks, and is then
asked more slowly, faster again with each good answer. A host that cannot be reached is left alone for a minute. All
threads and projects of a process share what is known of a host.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from backend.errors import ImageLater

PATIENCE_SECONDS = 10.0
"""An image is not waited for longer than this; then it is its turn later."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Where a host does not say how long it wants to be left alone: this, and twice as long each time."""

MOST_SECONDS = 86_400.0
FIRST_INTERVAL, LONGEST_INTERVAL, SPEED_UP = 0.05, 2.0, 0.8
GIVE_UP_AFTER, GIVE_UP_SECONDS = 3, 60.0
"""A host that cannot be reached this often in a row is not tried again for a minute."""

_HOSTS_KEPT = 1000


@dataclass
class _Host:
    next_at: float = 0.0  # when the next request may begin
    interval: float = 0.0  # seconds between two requests
    refusals: int = 0  # in a row
    failures: int = 0  # in a row
    reason: str = ""


class Hosts:
    """What is known of each host. Thread-safe."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._guard = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    def wait_for_turn(self, host: str) -> None:
        """Wait until the host may be asked.

        Raises:
            ImageLater: that takes too long.
        """
        until = self._clock() + PATIENCE_SECONDS
        while (seconds := self._seconds_to_wait(host, until)) > 0:
            self._sleep(seconds)

    def _seconds_to_wait(self, host: str, until: float) -> float:
        """0 if the host may be asked now, which is then counted."""
        with self._guard:
            known, now = self._hosts.get(host), self._clock()
            if known is None or known.next_at <= now:
                if known is not None:
                    known.next_at = now + known.interval
                return 0.0
            if known.next_at > until:
                raise ImageLater(known.reason or f"{host} is busy", known.next_at - now)
            return known.next_at - now

    def refused(self, host: str, seconds: float | None) -> float:
        """The host asks to be left alone for ``seconds``, or does not say for how long. Returns for how long it is."""
        with self._guard:
            known, now = self._known(host), self._clock()
            if seconds is None:
                seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(known.refusals, 16))
            seconds = min(MOST_SECONDS, max(0.0, seconds))
            if known.next_at <= now + known.interval:  # one of the requests that were on their way together
                known.interval = min(LONGEST_INTERVAL, max(FIRST_INTERVAL, 2 * known.interval))
                known.refusals += 1
            known.next_at = max(known.next_at, now + seconds)
            known.reason = f"{host} asks to be asked again later"
            return seconds

    def failed(self, host: str) -> None:
        """The host could not be reached, or did not respond."""
        with self._guard:
            known = self._known(host)
            known.failures += 1
            if known.failures >= GIVE_UP_AFTER:
                known.next_at = max(known.next_at, self._clock() + GIVE_UP_SECONDS)
                known.reason = f"{host} could not be reached a moment ago"

    def answered(self, host: str) -> None:
        """The host responded, whatever it said."""
        known = self._hosts.get(host)
        if known is None:
            return
        with self._guard:
            known.failures = known.refusals = 0
            known.interval = SPEED_UP * known.interval if known.interval > 0.01 else 0.0

    def _known(self, host: str) -> _Host:
        if host not in self._hosts and len(self._hosts) >= _HOSTS_KEPT:
            self._hosts.pop(next(iter(self._hosts)))
        return self._hosts.setdefault(host, _Host())


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that a response asks to wait; None if it does not say. ``now``: seconds since the epoch."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return min(MOST_SECONDS, float(text))
    try:
        until = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    with contextlib.suppress(TypeError, ValueError, OverflowError):  # by the host's own clock
        now = parsedate_to_datetime(headers.get("Date") or "").timestamp()
    return min(MOST_SECONDS, max(0.0, until - now))


HOSTS = Hosts()
"""Those that this process knows."""
