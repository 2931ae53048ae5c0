"""Long work in Label Studio is done in small calls with pauses, so that its annotators never notice it."""

from __future__ import annotations

import time


class Pause:
    """Between two calls: lets others have Label Studio, which serves one request at a time, for as long as the calls
    since the last pause took."""

    def __init__(self, longest: float = 1.0) -> None:
        self._longest = longest
        self._since = time.monotonic()

    def __call__(self) -> None:
        time.sleep(min(self._longest, time.monotonic() - self._since))
        self._since = time.monotonic()
