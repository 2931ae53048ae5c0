"""Sets right the webhook to this backend while ``/setup`` is answered, so that no event is refused for want of a
password: Label Studio creates the webhook without one, and waits only a few seconds for ``/setup``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping

from backend.errors import BackendError
from backend.labelstudio.client import LabelStudio

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0
"""How long a webhook that was found in order is not looked at again: ``/setup`` comes before each live ``/predict``."""

MOST = 4
"""Repairs at a time; the worker does the others, at its next upkeep."""


class WebhookRepair:
    """Repairs the webhooks of projects, each in a thread of its own. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done: dict[int, float] = {}
        self._slots = threading.Semaphore(MOST)

    def __call__(
        self, project_id: int, gateway: LabelStudio, addresses: Collection[str], headers: Mapping[str, str]
    ) -> None:
        """Give the webhooks to this backend, at one of ``addresses``, their ``headers``. Returns at once."""
        if not headers or self._clock() - self._done.get(project_id, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        if not self._slots.acquire(blocking=False):
            return

        def repair() -> None:
            try:
                wrong = gateway.connections.repair_webhook(project_id, addresses, headers)
                if wrong:
                    log.info("Project %s: the webhook was set right: %s", project_id, ", ".join(wrong))
                if wrong is not None:  # None: Label Studio is about to create it, and calls /setup again afterwards
                    self._done[project_id] = self._clock()
            except BackendError as error:
                log.info("Project %s: the webhook could not be looked after yet: %s", project_id, error)
            except Exception:
                log.exception("Project %s: the webhook could not be looked after", project_id)
            finally:
                self._slots.release()

        threading.Thread(target=repair, name=f"webhook {project_id}", daemon=True).start()
