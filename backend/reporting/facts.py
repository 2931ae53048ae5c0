"""What is known of a project, gathered by a few queries that take as long for a large pool as for a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import OwnerError
from backend.reporting.accuracy import Accuracy, accuracy_of
from backend.reporting.auto_sampler import in_force
from backend.reporting.control import Control, LabelsSaved, control_of, labels_saved_of
from backend.reporting.cycles import seconds_left
from backend.reporting.replays import Replay, kept
from backend.settings.core import Settings
from backend.state import Cycle, Project, State, Version
from backend.store.reading import folder_to_read
from backend.tasks import KINDS

CYCLES_READ = 12
"""The last cycles of a project, which tell how its accuracy has moved."""


@dataclass(frozen=True)
class Facts:
    """A project as it was ``at`` one time.

    ``settings``: those in force for it, None where they are refused; then ``error`` says why, and else why the worker's
    last attempt failed. ``versions``: newest first, without removed ones. ``cycles``: the last ones, newest first.
    ``replay``: the last one that is kept; None if there is none.
    """

    project: Project
    settings: Settings | None
    error: str | None
    versions: list[Version]
    cycles: list[Cycle]
    counts: dict[str, int]
    at: float
    replay: Replay | None = None

    @property
    def current(self) -> Version | None:
        """The version that orders the queue."""
        return next((version for version in self.versions if version.id == self.project.current_version_id), None)

    @property
    def budget(self) -> int:
        """How many new annotations make a cycle due; 0 where the settings are refused."""
        learned = self.current.labels if self.current else 0
        return self.settings.budget_after(learned) if self.settings else 0

    @property
    def sampler(self) -> str:
        return self.settings.sampler if self.settings else "?"

    @property
    def running(self) -> Cycle | None:
        return next((cycle for cycle in self.cycles if cycle.status == "running"), None)

    @property
    def last_done(self) -> Cycle | None:
        """The last cycle that was done and trained something, or else the first order."""
        done = [cycle for cycle in self.cycles if cycle.status == "done"]
        return next((cycle for cycle in done if cycle.labels), next(iter(done), None))

    @property
    def failed(self) -> Cycle | None:
        """The cycle that failed last, if none was done since."""
        ended = next((cycle for cycle in self.cycles if cycle.status in ("done", "failed")), None)
        return ended if ended is not None and ended.status == "failed" else None

    @property
    def seconds_left(self) -> float | None:
        """Of the running cycle; None if none runs, or nothing tells."""
        return seconds_left(self.running, self.last_done, self.at) if self.running else None

    @property
    def accuracy(self) -> Accuracy | None:
        """That of the version in use."""
        return accuracy_of(self.current.metrics) if self.current else None

    @property
    def outlook(self) -> dict[str, Any] | None:
        """What more labels would bring, by the learning curve up to the version in use: see
        :mod:`backend.reporting.outlook`. None where nothing tells."""
        return self.current.metrics.get("outlook") if self.current else None

    @property
    def control(self) -> Control | None:
        """What the control arm says of the version in use; None without an arm, and before a cycle."""
        return control_of(self.current.metrics) if self.current else None

    @property
    def labels_saved(self) -> LabelsSaved:
        return labels_saved_of(self.control, self.settings)

    @property
    def health(self) -> str:
        """Why the order in use is not that of the project's sampler; "" where it is."""
        health = self.current.metrics.get("health", {}) if self.current else {}
        if not self.current or not health.get("why"):
            return ""
        name = self.current.sampler
        return f"the order is by {health['order']}, because that of {name} is not to be trusted: {health['why']}"

    @property
    def due(self) -> list[str]:
        """The work that is waiting for a worker; empty if there is none."""
        project, due = self.project, []
        if project.current_version_id is None:
            due.append("first order")
        if any(version.status in ("scored", "publishing") for version in self.versions):
            due.append("publishing")
        if project.train_requested:
            due.append("cycle (asked for)")
        elif 0 < self.budget <= project.pending_annotations:
            due.append("cycle")
        if project.refresh_seq > project.refresh_seen and project.current_version_id is not None:
            due.append("comparison")
        if project.replay_requested:
            due.append("replay (asked for)")
        return due

    @property
    def retry_in(self) -> float | None:
        """Seconds until the worker tries again after a failure; None if it does not wait."""
        wait = self.project.retry_at - self.at
        return wait if wait > 0 else None

    def next_cycle(self) -> dict[str, int | None]:
        """``budget``: how many new annotations make a cycle due; ``in_annotations``: how many of them are missing. Both
        None where the settings are refused."""
        if not self.budget:
            return {"in_annotations": None, "budget": None}
        missing = 0 if self.project.train_requested else max(0, self.budget - self.project.pending_annotations)
        return {"in_annotations": missing, "budget": self.budget}


def facts_of(state: State, settings: Settings, project: Project, now: float, *, cycles: int = CYCLES_READ) -> Facts:
    """What is known of ``project``. ``settings``: those of the process. ``cycles``: how many of the last ones are
    read."""
    return facts_of_all(state, settings, [project], now, cycles=cycles)[0]


def facts_of_all(
    state: State,
    settings: Settings,
    projects: Sequence[Project],
    now: float,
    *,
    versions: Mapping[int, list[Version]] | None = None,
    cycles: int = CYCLES_READ,
) -> list[Facts]:
    """The same of each of ``projects``, with as many queries as for one. ``versions``: project id → its versions, if
    they were read already."""
    ids = [project.id for project in projects]
    known = state.versions.of_projects(ids, removed=False) if versions is None else versions
    last, counts = state.cycles.recent_of(ids, cycles), state.tasks.counts_of(ids)
    found = []
    for project in projects:
        folder, of_it = folder_to_read(settings, project), known[project.id]
        own, error = _settings(settings, project, of_it, folder)
        found.append(Facts(project, own, error, of_it, last[project.id], counts[project.id], now, kept(folder)))
    return found


def _settings(
    settings: Settings, project: Project, versions: list[Version], folder: Path
) -> tuple[Settings | None, str | None]:
    newest: dict[str, Any] = versions[0].metrics if versions else {}
    try:
        own = in_force(settings.for_project(project.extra_params), folder)
    except OwnerError as refused:
        return None, str(refused)
    kind = KINDS.get(str(newest.get("task")))
    return (kind.with_default_sampler(own) if kind else own), project.last_error
