"""Does our key open the project in Label Studio? Asked while the owner waits in the connect dialog.

Label Studio gives ``/setup`` three seconds, calls it twice, and calls it again before every live ``/predict``. So a
key that worked is believed for a minute, and no answer in time means "not known yet", never an error.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable

from backend.errors import BackendError, LabelStudioRefused
from backend.labelstudio.client import LabelStudio, ProjectInfo
from backend.labelstudio.http import Connection, NotFound

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 2.0
CALL_SECONDS = 1.5
BELIEVED_SECONDS = 60.0
AT_ONCE = 8
"""Checks that may hang at a time; each ends by its own time-outs some seconds after we stopped waiting for it."""


class KeyCheck:
    """Asks Label Studio, within a hard deadline, whatever it does."""

    def __init__(self, deadline: float = DEADLINE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._deadline, self._clock = deadline, clock
        self._believed: dict[str, tuple[float, ProjectInfo]] = {}
        self._slots = threading.Semaphore(AT_ONCE)

    def __call__(self, url: str, token: str, project_id: int) -> ProjectInfo | None:
        """What Label Studio says of the project; None when it said nothing in time.

        Raises:
            LabelStudioRefused: the key is not accepted, the project is not to be seen with it, or that is no
                Label Studio.
        """
        name = hashlib.sha256(repr((url, token, project_id)).encode()).hexdigest()
        now = self._clock()
        since, info = self._believed.get(name, (-BELIEVED_SECONDS, None))
        if info is not None and now - since < BELIEVED_SECONDS:
            return info
        found = self._ask(url, token, project_id)
        if isinstance(found, NotFound):
            raise LabelStudioRefused(
                f"The API key opens Label Studio at {Connection(url, token, 1.0).display_url} but not project"
                f" {project_id}: set LABEL_STUDIO_URL to the Label Studio you connect from, and LABEL_STUDIO_API_KEY to"
                " the key of a user who sees the project"
            )
        if isinstance(found, LabelStudioRefused):
            raise found
        if not isinstance(found, ProjectInfo):
            log.warning("Could not check the key for project %s, going on without: %s", project_id, found)
            return None
        self._believed = {key: kept for key, kept in self._believed.items() if now - kept[0] < BELIEVED_SECONDS}
        self._believed[name] = (self._clock(), found)
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
        return found[0] if found else BackendError(f"no answer in {self._deadline:g} s")
