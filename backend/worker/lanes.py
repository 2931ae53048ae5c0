"""Which projects a worker is working on: each in a lane of its own, a thread, and only so many at a time.

So a Label Studio that hangs keeps nobody waiting but its own projects. Not even all of them together take the last lane
of another Label Studio, and projects that fail again and again leave half of the lanes to the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from backend.errors import BackendError, understood

log = logging.getLogger(__name__)

REST_SECONDS = 2.0
"""How long a project's work rests that failed where not even that could be noted in the state, on a full disk."""


@dataclass(frozen=True)
class Lane:
    """What is being done for one project. ``studio``: the address of its Label Studio."""

    studio: str
    failing: bool
    thread: threading.Thread


class Lanes:
    """The lanes of one worker. Used from the thread that looks for work; each lane ends itself."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._lanes: dict[int, Lane] = {}
        self._rests: dict[int, float] = {}
        """Project → until when, in monotonic time."""
        self._changed = threading.Condition()

    @property
    def projects(self) -> frozenset[int]:
        """Those that are being worked on."""
        return frozenset(self._lanes)

    def start(
        self, project_id: int, studio: str, studios: Collection[str], failing: bool, work: Callable[[], bool]
    ) -> bool:
        """Do ``work`` for a project in a new lane, unless there is none for it. Returns whether it was started.

        Args:
            studios: the addresses of all projects' Label Studios, each of which can count on a lane.
            failing: the project's last attempt failed.
            work: returns whether anything was done, so that it is worth looking again at once.
        """
        with self._changed:
            if project_id in self._lanes or self._rests.get(project_id, 0.0) > time.monotonic():
                return False
            if not self._admits(studio, studios, failing):
                return False
            name = f"project {project_id}"
            thread = threading.Thread(target=self._run, args=(project_id, work), name=name, daemon=True)
            self._lanes[project_id] = Lane(studio, failing, thread)
            thread.start()
            return True

    def _admits(self, studio: str, studios: Collection[str], failing: bool) -> bool:
        free = self._total - len(self._lanes)
        if free <= 0:
            return False
        if failing and sum(lane.failing for lane in self._lanes.values()) >= max(1, self._total // 2):
            return False
        at_work = {lane.studio for lane in self._lanes.values()}
        if studio not in at_work:
            return True
        return free > len(set(studios) - at_work)

    def _run(self, project_id: int, work: Callable[[], bool]) -> None:
        done = False
        try:
            done = work()
        except Exception as error:  # for example, the database cannot be reached
            log_failure(f"Working on project {project_id} failed", error)
            self._rests[project_id] = time.monotonic() + REST_SECONDS
        finally:
            with self._changed:
                self._lanes.pop(project_id, None)
                if done:
                    self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until some work was done, at most so long."""
        with self._changed:
            self._changed.wait(seconds)

    def join(self, until: float) -> bool:
        """Wait for all lanes to end, at most until the monotonic time ``until``. Returns whether they did."""
        for lane in list(self._lanes.values()):
            lane.thread.join(max(0.0, until - time.monotonic()))
        return not self._lanes


def log_failure(what: str, error: Exception) -> None:
    """In words if the cause is known, else with a traceback."""
    known = understood(error)
    if isinstance(known, BackendError):
        log.error("%s: %s", what, known)
    else:
        log.error(what, exc_info=error)
