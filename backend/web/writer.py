"""The web process's one hand on the database's pen: a request hands a change over and waits only so long.

While a worker stores the scores of a large pool, SQLite's one writer may be busy for longer than the second that Label
Studio gives a webhook. The change is then made a moment after the answer, in order, and before the process ends.
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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def __call__(self, change: Callable[[], Result], seconds: float) -> Result | None:
        """What ``change`` returns or raises; None when it is not made after ``seconds``, but will be."""
        made: Future[Result] = self._thread.submit(change)
        try:
            return made.result(seconds)
        except TooSlow:
            if made.done():  # a time-out of the change itself
                raise
            log.info("A change waits for the database; answering without")
            made.add_done_callback(_report)
            return None

    def close(self) -> None:
        """Make what is left, then end."""
        self._thread.shutdown(wait=True)


def _report(made: Future[Result]) -> None:
    if error := made.exception():
        log.error("A change that was answered for failed", exc_info=error)
