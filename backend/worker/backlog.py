"""How much work is waiting for a project, as far as it is stored outside the project's own row."""

from __future__ import annotations

from backend import head
from backend.events import Backlog
from backend.settings.core import Settings
from backend.state import Project, State


def backlog_of(state: State, project: Project, settings: Settings, removal_from: float = 0.0) -> Backlog:
    """The backlog of a project. ``removal_from``: nothing is to be removed from Label Studio before that time, because
    nothing could be."""
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
