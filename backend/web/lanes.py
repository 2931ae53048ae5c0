"""Which threads serve which requests: each kind of request has threads of its own, so that none waits for another's.

Label Studio waits one second for ``/health`` and ``/webhook``, and never repeats a webhook. So a request that may take
long, such as ``/predict`` with an image to fetch, has no thread that these could need.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Protocol

from backend.web.accept import asks_for_page

log = logging.getLogger(__name__)

OTHERS = "others"

PAGES = "pages"

LANES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "health": (("/", "/health"), 2),
    "webhook": (("/webhook",), 4),
    "setup": (("/setup",), 16),  # half of them may wait for Label Studio: see backend.web.key_check
    "predict": (("/predict",), 8),
    PAGES: (("/projects", "/assets"), 4),
    OTHERS: ((), 4),
}
"""Lane → its paths, and its number of threads. All other paths are of :data:`OTHERS`. Of the pages, it is everything
below these paths, and ``/`` if a browser asks for it."""

_PAGE_PATHS = tuple(f"{path}/" for path in LANES[PAGES][0])
_LANE_OF = {path: name for name, (paths, _) in LANES.items() for path in paths}


class Job(Protocol):
    """A complete request that waits to be served: see waitress's ``HTTPChannel``."""

    def service(self) -> None: ...

    def cancel(self) -> None: ...


class Lanes:
    """The threads of a process. Takes the place of waitress's dispatcher, which has one queue for all requests."""

    def __init__(self) -> None:
        self._queues: dict[str, queue.SimpleQueue[Job]] = {name: queue.SimpleQueue() for name in LANES}
        self._lock = threading.Lock()
        self._unfinished = 0
        for name, (_, threads) in LANES.items():
            for place in range(threads):
                threading.Thread(target=self._serve, args=(name,), name=f"{name}-{place}", daemon=True).start()

    def add_task(self, job: Job) -> None:
        """Have ``job`` served by its lane."""
        with self._lock:
            self._unfinished += 1
        self._queues[lane_of(job)].put(job)

    @property
    def idle(self) -> bool:
        """Whether nothing is being served or waits for it."""
        return self._unfinished == 0

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5.0) -> bool:
        """Wait for what is being served, at most ``timeout`` seconds."""
        until = time.monotonic() + timeout
        while not self.idle and time.monotonic() < until:
            time.sleep(0.05)
        return self.idle

    def _serve(self, name: str) -> None:
        waiting = self._queues[name]
        while True:
            job = waiting.get()
            try:
                job.service()
            except Exception:
                log.exception("A request failed outside of the application")
            finally:
                with self._lock:
                    self._unfinished -= 1


def lane_of(job: Job) -> str:
    """The lane of the request that ``job`` serves first."""
    request = next(iter(getattr(job, "requests", ())), None)
    path = str(getattr(request, "path", ""))
    if path == "/" and asks_for_page(str(getattr(request, "headers", {}).get("ACCEPT", ""))):
        return PAGES
    if path.startswith(_PAGE_PATHS):
        return PAGES
    return _LANE_OF.get(path if path == "/" else path.rstrip("/"), OTHERS)
