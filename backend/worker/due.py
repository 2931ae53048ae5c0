"""What is due for each project, as a worker finds it: by the state, and by what it has tried itself."""

from __future__ import annotations

from backend import events, head
from backend.errors import OwnerError
from backend.events import Backlog, Work
from backend.settings.core import Settings
from backend.state import Project, State
from backend.worker import failures


class Due:
    """What is due for each project, for one worker with the ``settings`` of its process."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state, self._settings = state, settings
        self.since = state.now()
        """When the worker started: hints may have been lost before, while no worker was running."""
        self._removal_from: dict[int, float] = {}
        """By project: no earlier, because nothing could be removed that was superseded."""

    def work(self, project: Project) -> frozenset[Work]:
        """The work that is due for the project: see :func:`backend.events.due`."""
        now = self._state.now()
        self.since = min(self.since, now)  # the clock may have been set back
        if events.waits(project, now):
            return frozenset()
        try:
            settings = self._settings.for_project(project.extra_params)
        except OwnerError as error:  # for example, stored by an earlier version of the backend
            failures.note(self._state, project, error)
            return frozenset()
        backlog = self._backlog(project, settings)
        return events.due(
            project,
            backlog,
            now,
            budget=settings.budget_after(backlog.labels),
            reconcile_seconds=settings.reconcile_seconds if project.checked_at >= self.since else 0.0,
            cleanup_seconds=settings.cleanup_seconds,
        )

    def removal(self, project: Project, settings: Settings) -> bool:
        """Whether superseded versions are to be removed from Label Studio. ``settings``: those of the project."""
        backlog = self._backlog(project, settings)
        return events.removal_due(backlog, self._state.now(), self._settings.cleanup_seconds)

    def put_off_removal(self, project_id: int) -> None:
        """Nothing could be removed: it is not due again before the next comparison."""
        self._removal_from[project_id] = self._state.now() + self._settings.reconcile_seconds

    def _backlog(self, project: Project, settings: Settings) -> Backlog:
        return _backlog_of(self._state, project, settings, self._removal_from.get(project.id, 0.0))


def _backlog_of(state: State, project: Project, settings: Settings, removal_from: float) -> Backlog:
    """How much work is waiting for a project. ``removal_from``: see :class:`Due`."""
    versions = state.versions.of_project(project.id, removed=False)
    current = next((v for v in versions if v.id == project.current_version_id), None)
    now = state.now()
    superseded = sum(version.status == "superseded" for version in versions)
    return Backlog(
        has_version=current is not None,
        unfinished=state.versions.unpublished(project.id) is not None
        or (current is not None and head.is_short(state, settings, project, current, times=0.5)),
        superseded=superseded if now >= removal_from else 0,
        quiet_since=max(project.annotated_at, (current.published_at or 0.0) if current else now),
        broken_due=any(image.retry_at <= now for image in state.tasks.broken_images(project.id)),
        labels=current.labels if current else 0,
        used_up=current is not None and head.is_used_up(state, settings, project, current),
        images_to_send=current is not None and state.synthetic.has_to_send(project.id, current.name),
    )
