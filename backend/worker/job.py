"""What every step of a worker's job is given: the project it works for, and how to ask whether it may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backend.files import project_folder
from models import ProgressFn

if TYPE_CHECKING:
    import torch

    from backend.labelstudio.client import LabelStudio
    from backend.settings.core import Settings
    from backend.state import Project, State

@dataclass(frozen=True)
class Job:
    """One turn of a worker on a leased project."""

    project: Project
    settings: Settings
    state: State
    gateway: LabelStudio
    owner: str
    device: torch.device
    check: Callable[[], None]
    """Raises when the lease is lost or the worker is to stop; called before every write and often in between."""
    show: ProgressFn = lambda phase, done, total: None
    """Where progress is shown besides the state."""

    @property
    def folder(self) -> Path:
        return project_folder(self.settings.model_dir, self.project.key)

    def reread(self) -> Job:
        """The same job with the project's row as it is now."""
        fresh = self.state.projects.get(self.project.id)
        return self if fresh is None else replace(self, project=fresh)


@dataclass
class Reporter:
    """Progress of a cycle into the state, at most twice a second, and the place where a cycle can be stopped."""

    job: Job
    cycle_id: int
    seconds: dict[str, float] = field(default_factory=dict)
    _phase: str = ""
    _since: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.job.check()
        now = time.monotonic()
        changed = phase != self._phase
        if changed:
            self.end_phase()
            self._phase, self._since = phase, now
        self.job.show(phase, done, total)
        if changed or done >= total or now - self._last >= 0.5:
            self._last = now
            self.job.state.cycles.report(self.cycle_id, phase, done, total)

    def end_phase(self) -> None:
        """Book the seconds since the phase began."""
        now = time.monotonic()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = "", now
