"""The leases that one worker process holds: taken, renewed in the background, and checked before every write."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from backend.errors import LeaseLost, Stopped
from backend.state import State
from backend.state.leases import Holder
from backend.worker.lanes import log_failure

log = logging.getLogger(__name__)


class Leases:
    """Use as ``with leases.hold(project_id) as owner``. Safe to share between threads."""

    def __init__(self, state: State, worker: str, seconds: float, stop: threading.Event) -> None:
        self._state, self._worker, self._seconds, self._stop = state, worker, seconds, stop
        self._held: dict[str, tuple[int, float]] = {}  # owner → project, and when its lease expires (monotonic)
        self._watched: dict[
            int, tuple[Holder, float]
        ] = {}  # project → a lease, and since when it is as it is (monotonic)
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, project_id: int) -> Iterator[str | None]:
        """Hold the project for the block. Yields the owner's name to work under, one per thread; None if another worker
        or thread holds the project."""
        owner = f"{self._worker}:{threading.current_thread().name}"
        started = time.monotonic()
        if not self._state.leases.take(project_id, owner, self._seconds):
            self._watch(project_id)
            yield None
            return
        self._watched.pop(project_id, None)
        with self._lock:
            self._held[owner] = (project_id, started + self._seconds)
        try:
            yield owner
        finally:
            with self._lock:
                self._held.pop(owner, None)
            self._state.leases.release(project_id, owner)

    def _watch(self, project_id: int) -> None:
        """End another worker's lease that was taken while the clock was ahead, and has not been renewed for as long as
        it was taken for. By our own monotonic clock: a worker that lives renews it, and so keeps it."""
        holder = self._state.leases.holder(project_id)
        if holder is None or not holder.is_impossible(self._state.now()):
            self._watched.pop(project_id, None)
            return
        seen, since = self._watched.get(project_id, (None, 0.0))
        if seen != holder:
            self._watched[project_id] = (holder, time.monotonic())
        elif time.monotonic() - since >= holder.seconds and self._state.leases.end(project_id, holder):
            log.warning(
                "The lease of %s on project %s is ended: it would last %.0f s more, from when the clock was ahead",
                holder.owner,
                project_id,
                holder.expires - self._state.now(),
            )

    def check(self, owner: str) -> None:
        """Check that ``owner`` may go on.

        Raises:
            Stopped: the worker was asked to stop.
            LeaseLost: the lease expired or went to another worker.
        """
        if self._stop.is_set():
            raise Stopped("the worker was asked to stop")
        held = self._held.get(owner)
        if held is None or held[1] < time.monotonic():
            raise LeaseLost("the lease expired before it could be renewed")

    def keep_renewing(self) -> None:
        """Renew all held leases, four times per lease period, until the worker stops. Runs in a thread of its own."""
        while not self._stop.wait(self._seconds / 4):
            for owner, held in list(self._held.items()):
                project_id, started = held[0], time.monotonic()
                try:
                    renewed = self._state.leases.renew(project_id, owner, self._seconds)
                except Exception as error:  # the database cannot be reached: the lease is valid until it expires
                    log_failure(f"Renewing the lease on project {project_id} failed", error)
                    continue
                with self._lock:
                    if self._held.get(owner) is held:  # else it was released meanwhile, and perhaps taken again
                        self._held[owner] = (project_id, started + self._seconds if renewed else 0.0)

    def release_all(self) -> None:
        """Release everything at the end of the process, so that other workers need not wait for it to expire."""
        for owner, (project_id, _) in list(self._held.items()):
            self._state.leases.release(project_id, owner)
