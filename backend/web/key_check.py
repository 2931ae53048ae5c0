"""Checks whether our API key opens the project in Label Studio, while the owner waits in the connect dialog.

Label Studio waits three seconds for ``/setup``, calls it twice, and calls it again before each live ``/predict``. So a
key that worked is trusted for a minute, and no response in time means "not known yet", not an error.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable

from backend.errors import BackendError, LabelStudioRefused
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.http import Connection, NotFound
from backend.labelstudio.records import ProjectInfo

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 2.0
CALL_SECONDS = 1.5
TRUSTED_SECONDS = 60.0
MAX_CHECKS = 8
"""Checks that may be running at a time. Each ends by its own timeouts, some seconds after we stopped waiting for it."""


class KeyCheck:
    """Asks Label Studio for a project, within a hard deadline. Thread-safe."""

    def __init__(self, deadline: float = DEADLINE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._deadline, self._clock = deadline, clock
        self._trusted: dict[str, tuple[float, ProjectInfo]] = {}
        self._slots = threading.Semaphore(MAX_CHECKS)

    def __call__(self, url: str, token: str, project_id: int) -> ProjectInfo | None:
        """The project as Label Studio describes it; None if Label Studio did not respond in time.

        Raises:
            LabelStudioRefused: the key is not accepted or does not give access to the project, or the server is not a
                Label Studio.
        """
        name = hashlib.sha256(repr((url, token, project_id)).encode()).hexdigest()
        now = self._clock()
        since, info = self._trusted.get(name, (-TRUSTED_SECONDS, None))
        if info is not None and now - since < TRUSTED_SECONDS:
            return info
        found = self._ask(url, token, project_id)
        if isinstance(found, NotFound):
            raise LabelStudioRefused(
                f"The API key opens Label Studio at {Connection(url, token, 1.0).display_url} but not project"
                f" {project_id}: set LABEL_STUDIO_URL to the Label Studio you connect from, and LABEL_STUDIO_API_KEY to"
                " the key of a user who has access to the project"
            )
        if isinstance(found, LabelStudioRefused):
            raise found
        if not isinstance(found, ProjectInfo):
            log.warning("Could not check the key for project %s, continuing without: %s", project_id, found)
            return None
        self._trusted = {key: entry for key, entry in self._trusted.items() if now - entry[0] < TRUSTED_SECONDS}
        self._trusted[name] = (self._clock(), found)
        return found

    def _ask(self, url: str, token: str, project_id: int) -> ProjectInfo | Exception:
        if not self._slots.acquire(blocking=False):
            return BackendError("too many earlier checks are still waiting for Label Studio")
        found: list[ProjectInfo | Exception] = []
        done = threading.Event()

        def ask() -> None:
            try:
                LabelStudio(url, token).check(CALL_SECONDS)
                found.append(LabelStudio(url, token, timeout=CALL_SECONDS).project(project_id))
            except Exception as error:
                found.append(error)
            finally:
                self._slots.release()
                done.set()

        threading.Thread(target=ask, name="key-check", daemon=True).start()
        done.wait(self._deadline)
        return found[0] if found else BackendError(f"no response within {self._deadline:g} s")
