"""A thread of the web process that finds projects again: at its start, and when a webhook comes of one that is unknown.

It runs here and not in the worker, because this is the process that Label Studio calls while it is being asked.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from backend import adoption, events
from backend.errors import BackendError, LabelStudioUnavailable
from backend.events import Event
from backend.labelstudio.client import LabelStudio
from backend.settings.core import Settings
from backend.state import State

log = logging.getLogger(__name__)

START_SECONDS = 2.0  # until this process takes requests
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
MOST_LOOKS = 4
"""How often a project is looked at again that names a backend which Label Studio does not reach."""

MOST_WAITING = 100
ASKED_AGAIN_SECONDS = 60.0
"""A project that is none of ours is asked about at most once in so many seconds, whoever sends webhooks of it."""


@dataclass
class _Waiting:
    due: float
    event: Event | None = None
    looks: int = 0


class Adopter:
    """Use :meth:`start` once. Thread-safe."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state, self._settings = state, settings
        self._gateway = adoption.gateway_of(settings)
        self._waiting: dict[int, _Waiting] = {}
        self._asked: dict[int, float] = {}
        self._changed = threading.Condition()
        self._ended = False

    def start(self) -> None:
        """Look at all projects, and from then on at those that are noticed. Without a key of our own it does nothing:
        Label Studio would not tell."""
        if self._gateway is None:
            log.info("Without LABEL_STUDIO_API_KEY, projects that name this backend cannot be found by themselves")
            return
        threading.Thread(target=self._run, args=(self._gateway,), name="adopter", daemon=True).start()

    def notice(self, number: int, event: Event | None = None) -> None:
        """Ask Label Studio about a project soon: ``event`` came of one that is not connected, or it could not be
        confirmed. Never waits."""
        now = time.monotonic()
        with self._changed:
            known = self._waiting.get(number)
            if known is not None:
                known.event = known.event if known.event and known.event.action in events.TRAIN else event
            elif self._gateway is not None and len(self._waiting) < MOST_WAITING:
                asked = self._asked.get(number, now - ASKED_AGAIN_SECONDS)
                self._waiting[number] = _Waiting(max(now, asked + ASKED_AGAIN_SECONDS), event)
                self._changed.notify()

    def close(self) -> None:
        """End soon."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self, gateway: LabelStudio) -> None:
        self._look_at_all(gateway)
        while (number := self._next()) is not None:
            try:
                self._look_at(gateway, number)
            except Exception:
                log.exception("Looking at project %d failed", number)

    def _look_at_all(self, gateway: LabelStudio) -> None:
        pause = START_SECONDS
        while not self._wait(pause):
            try:
                for number in adoption.adopt_all(self._state, self._settings, gateway):
                    self.notice(number)
                return
            except LabelStudioUnavailable as error:
                pause = min(2 * max(pause, FIRST_PAUSE), LONGEST_PAUSE)
                log.info("Asking Label Studio which projects name this backend in %.0f s again: %s", pause, error)
            except BackendError as error:
                log.warning("Label Studio was not asked which projects name this backend: %s", error)
                return
            except Exception:
                log.exception("Looking for projects that name this backend failed")
                return

    def _look_at(self, gateway: LabelStudio, number: int) -> None:
        with self._changed:
            waiting = self._waiting[number]
            self._asked = {one: at for one, at in self._asked.items() if time.monotonic() - at < ASKED_AGAIN_SECONDS}
        waiting.looks += 1
        try:
            named = adoption.adopt(self._state, self._settings, gateway, number)
            settled = adoption.is_known(self._state, number, gateway) or all(one.answers for one in named)
        except LabelStudioUnavailable as error:
            log.info("Project %d: %s", number, error)
            waiting.looks, settled = 1, False
        except BackendError as error:  # it does not exist, or cannot be served
            log.info("Project %d: %s", number, error)
            settled = True
        with self._changed:
            if settled or waiting.looks >= MOST_LOOKS:
                del self._waiting[number]
                self._asked[number] = time.monotonic()
            else:
                waiting.due = time.monotonic() + min(FIRST_PAUSE * 2**waiting.looks, LONGEST_PAUSE)
        if waiting.event is not None and adoption.is_known(self._state, number, gateway):
            events.record(self._state, waiting.event)

    def _next(self) -> int | None:
        """The number of the project that is to be looked at next, when it is time to; None at the end."""
        with self._changed:
            while not self._ended:
                number = min(self._waiting, key=lambda one: self._waiting[one].due, default=None)
                seconds = None if number is None else self._waiting[number].due - time.monotonic()
                if number is not None and seconds is not None and seconds <= 0:
                    return number
                self._changed.wait(seconds)
            return None

    def _wait(self, seconds: float) -> bool:
        """Wait. Returns whether it is the end."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)
