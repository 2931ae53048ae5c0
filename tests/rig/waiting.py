"""Waiting for something to become true, with patience for a busy machine and words for one that never comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0
"""How long to wait, in seconds, for what takes one or two on a machine with nothing else to do."""


def wait_for(what: str, found: Callable[[], Any], timeout: float = PATIENCE, every: float = 0.1) -> Any:
    """The first true result of ``found``. Fails the test, saying what it waited for, after ``timeout`` seconds.

    Waits ``every`` seconds between calls, and at least three times as long as a call takes: a request to Label Studio
    keeps a core busy that the awaited work could use.
    """
    deadline = time.monotonic() + timeout
    while True:
        start = time.monotonic()
        result = found()
        now = time.monotonic()
        if result:
            return result
        if now > deadline:
            raise AssertionError(f"waited {timeout:.0f} s for {what}; the last answer was {result!r}")
        time.sleep(max(every, 3 * (now - start)))
