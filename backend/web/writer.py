"""Writes to the database in a single thread, so that a request waits for its change only for a limited time.

While a worker stores the scores of a large pool, SQLite may be locked for longer than the second that Label Studio
waits for a webhook. The change is then made shortly after the response, in order, and before the process ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from typing import TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Writer:
    """Makes changes one after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def __call__(self, change: Callable[[], Result], seconds: float) -> Result | None:
        """Make a change, and return or raise what ``change`` does. If that takes longer than ``seconds``, return None;
        the change is then made later."""
        future: Future[Result] = self._executor.submit(change)
        try:
            return future.result(seconds)
        except TooSlow:
            if future.done():  # the change itself raised a timeout
                raise
            log.info("A change waits for the database; responding without it")
            future.add_done_callback(_log_failure)
            return None

    def close(self) -> None:
        """Make the remaining changes, then end."""
        self._executor.shutdown(wait=True)


def _log_failure(future: Future[Result]) -> None:
    if error := future.exception():
        log.error("A change failed after it had been acknowledged", exc_info=error)
