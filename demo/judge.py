"""Judges each version on the held-out images while the next labels are given, so that nobody waits for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor

from backend.state import Version
from demo.subjects.base import Stopped, Subject

Judgment = Callable[[], "float | None"]
"""How good a version is, in [0, 1]; waits until that is known. None: it has no model, or the judge was stopped."""


class Judge:
    """One version at a time, in a thread of its own."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        # one core: another is Label Studio's, which serves the next labels meanwhile
        self._executor = ThreadPoolExecutor(1, "judge", initializer=_on_one_core)

    def judge(self, version: Version) -> Judgment:
        """Begins to judge a version. Its checkpoint is read at once, because it goes with the next version.

        Raises:
            BackendError: it has a network for another kind of task.
        """
        learner = self.subject.learner(version)
        if learner is None:
            return lambda: None
        judging = self._executor.submit(self.subject.judge, learner)

        def wait() -> float | None:
            try:
                return judging.result()
            except (Stopped, CancelledError):
                return None

        return wait

    def stop(self) -> None:
        """Ends it soon, whatever is not judged yet."""
        self.subject.stop.set()
        self._executor.shutdown(cancel_futures=True)


def get_ready() -> None:
    """Loads torch and what is built on it. Takes seconds, which the first judgment need not wait for."""
    for name in ("backend.learning.learner", "models.inference.predictions"):
        importlib.import_module(name)


def _on_one_core() -> None:
    import torch

    torch.set_num_threads(1)
