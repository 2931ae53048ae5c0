"""The leases that one worker process holds: taken, renewed in the background, asked for before every write."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from backend.errors import LeaseLost, Stopped
from backend.state import State

log = logging.getLogger(__name__)


class Leases:
    """``with leases.hold(project_id) as owner``: works on a project, if nobody else does."""

    def __init__(self, state: State, worker: str, seconds: float, stop: threading.Event) -> None:
        self._state, self._worker, self._seconds, self._stop = state, worker, seconds, stop
        self._held: dict[str, tuple[int, float]] = {}  # owner → project, and when its lease runs out (monotonic)
        self._guard = threading.Lock()

    @contextmanager
    def hold(self, project_id: int) -> Iterator[str | None]:
        """The owner's name to work under, one a thread; None when somebody else holds the project."""
        owner = f"{self._worker}:{threading.current_thread().name}"
        started = time.monotonic()
        if not self._state.leases.take(project_id, owner, self._seconds):
            yield None
            return
        with self._guard:
            self._held[owner] = (project_id, started + self._seconds)
        try:
            yield owner
        finally:
            with self._guard:
                self._held.pop(owner, None)
            self._state.leases.release(project_id, owner)

    def check(self, owner: str) -> None:
        """May ``owner`` go on?

        Raises:
            Stopped, LeaseLost: no.
        """
        if self._stop.is_set():
            raise Stopped("the worker was asked to stop")
        held = self._held.get(owner)
        if held is None or held[1] < time.monotonic():
            raise LeaseLost("the lease ran out before it could be renewed")

    def keep_renewing(self) -> None:
        """Renew all that is held, four times in a lease's life, until the worker stops. Runs in a thread of its own."""
        while not self._stop.wait(self._seconds / 4):
            for owner, held in list(self._held.items()):
                project_id, started = held[0], time.monotonic()
                try:
                    renewed = self._state.leases.renew(project_id, owner, self._seconds)
                except Exception:  # the database is away: the lease lives on until it runs out
                    log.exception("Renewing the lease on project %s failed", project_id)
                    continue
                with self._guard:
                    if self._held.get(owner) is held:  # else it was given back meanwhile; the next one has its own end
                        self._held[owner] = (project_id, started + self._seconds if renewed else 0.0)

    def release_all(self) -> None:
        """At the end of the process: another worker need not wait for the expiry."""
        for owner, (project_id, _) in list(self._held.items()):
            self._state.leases.release(project_id, owner)
