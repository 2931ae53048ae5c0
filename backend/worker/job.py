"""The job that each step of a worker's work receives: the project, its settings and services, and a lease check."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backend.files import project_folder
from models import ProgressFn

if TYPE_CHECKING:
    import torch

    from backend.labelstudio.client import LabelStudio
    from backend.labelstudio.records import ProjectInfo
    from backend.settings.core import Settings
    from backend.state import Project, State
    from models.inference.executors import Executor
    from models.lending import Lend


@dataclass(frozen=True)
class Job:
    """A worker's work on one leased project. ``owner`` is the name that holds the lease."""

    project: Project
    settings: Settings
    state: State
    gateway: LabelStudio
    owner: str
    device: torch.device
    """For what is computed without a turn; all devices of a worker are of one type."""
    check: Callable[[], None]
    """Raises LeaseLost or Stopped if work must not go on. Called before every write, and often in between."""
    show: ProgressFn = lambda phase, done, total: None
    """Also receives the progress that is stored in the state."""
    seen: dict[int, str] = field(default_factory=dict)
    """By task: when those had changed whose annotations the last quick comparison with Label Studio has read."""
    turns: Callable[[], AbstractContextManager[torch.device]] | None = None
    """See :meth:`turn`."""
    idle: Lend | None = None
    """See :class:`models.data.Runtime`."""
    executor: Executor | None = None
    """Who computes large passes over the pool; None: this process."""
    info: ProjectInfo | None = None
    """The project as Label Studio had it when the job began, for steps at its beginning; None: it was not asked."""

    @property
    def folder(self) -> Path:
        """The project's folder in ``MODEL_DIR``."""
        return project_folder(self.settings.model_dir, self.project.folder_key)

    def turn(self) -> AbstractContextManager[torch.device]:
        """Waits until no other project uses some device for the same kind of work; then the project has that device for
        the block. Network calls stay outside of it."""
        return nullcontext(self.device) if self.turns is None else self.turns()

    def reread(self) -> Job:
        """The same job with the project's current row, and the settings of before: a step ends under those that it
        began with. So what the new row has heard of settings is not seen to by this job."""
        fresh = self.state.projects.get(self.project.id)
        return self if fresh is None else replace(self, project=fresh)


@dataclass
class Reporter:
    """Stores a cycle's progress in the state, at most twice a second, and measures its phases. Each call also checks
    whether the cycle may go on."""

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
        """Add the seconds since the phase began to :attr:`seconds`."""
        now = time.monotonic()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = "", now
