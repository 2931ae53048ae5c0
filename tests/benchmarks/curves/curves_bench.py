"""What the tests of the curves share."""

from __future__ import annotations

NOT_COMPARED = ("train_seconds", "fit_seconds", "score_seconds", "peak_rss_mib", "peak_cuda_mib", "code")
"""Columns that differ from run to run."""


def quiet(*_: object) -> None:
    """Nobody listens."""


class Stopped(Exception):
    """Raised by a progress hook, as a kill would come."""
