"""``status``: the contents of the state, as tables for people or as JSON for programs. Only reads."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend import exposure
from backend.errors import OwnerError
from backend.head import head_size
from backend.plain import shown
from backend.settings.core import Settings
from backend.state import Project, State, Version, keeping
from backend.tasks import KINDS
from backend.web.metrics import cycle_summary

VERSIONS_SHOWN = 5
BROKEN_SHOWN = 20
BROKEN_KEYS = ("source", "reason", "attempts", "retry_at", "deaths", "waiting")


def snapshot(state: State, settings: Settings, only: str = "") -> dict[str, Any]:
    """Everything that ``status`` shows, as plain data, of all projects or ``only`` of one. Times are in seconds since
    the epoch.

    Raises:
        OwnerError: there is no such project, or there are several.
    """
    now = state.now()
    chosen = [state.projects.find(only)] if only else state.projects.all()
    projects = [_project(state, settings, project, now) for project in chosen]
    return {"time": now, "warnings": _warnings(state), "projects": projects}


def _warnings(state: State) -> list[str]:
    """What concerns all projects. A password that has been set since the last start is not asked for yet."""
    found = [state.notes.get(exposure.NOTE), state.notes.get(keeping.NOTE)]
    for project in state.projects.kept():
        what = f"Project {project.number} ({project.title or project.key})"
        found.append(f"{what} is set aside: {project.standing_reason}. Everything of it is kept.")
    return [warning for warning in found if warning]


def _project(state: State, settings: Settings, project: Project, now: float) -> dict[str, Any]:
    versions = state.versions.of_project(project.id)
    cycles = state.cycles.recent(project.id)
    newest = versions[0].metrics if versions else {}
    try:
        own = settings.for_project(project.extra_params)
        if kind := KINDS.get(str(newest.get("task"))):
            own = kind.with_default_sampler(own)
        sampler, error = own.sampler, project.last_error
        budget = own.budget_after(state.versions.learned(project.id))
    except OwnerError as refused:
        sampler, budget, error = "?", 0, str(refused)
    running = next((cycle for cycle in cycles if cycle.status == "running"), None)
    return {
        "id": project.number,
        "name": project.name,
        "standing": project.standing,
        "title": project.title,
        "sampler": sampler,
        "task": newest.get("task"),
        "frame": newest.get("frame"),
        "counts": state.tasks.counts(project.id),
        "synthetic": state.synthetic.counts(project.id),
        "head": _head(state, settings, project, versions),
        "pending_annotations": project.pending_annotations,
        "budget": budget,
        "due": due_in_words(project, versions, budget),
        "running": None if running is None else cycle_summary(running),
        "held_by": project.lease_owner if project.lease_expires > now else None,
        "last_error": error,
        "connection": project.connection_url or project.address,
        "hands_off": project.hands_off,
        "health": _health(versions, project),
        "queue_note": project.queue_note,
        "queue_noted_at": project.queue_noted_at,
        "retry_at": project.retry_at if project.retry_at > now else None,
        "current_version": next((v.name for v in versions if v.id == project.current_version_id), None),
        "versions": [
            {"name": v.name, "cycle": v.cycle, "status": v.status, "published_at": v.published_at, "metrics": v.metrics}
            for v in versions
        ],
        "cycles": [cycle_summary(cycle) for cycle in cycles],
        "broken_images": [
            {"task": image.task_id} | {key: getattr(image, key) for key in BROKEN_KEYS}
            for image in state.tasks.broken_images(project.id)
        ],
        "ignored_annotations": state.labels.ignored(project.id),
        "checkpoint_unreadable": newest.get("checkpoint_unreadable"),
        "regions_unread": newest.get("regions_unread", []),
        "regions_unread_count": newest.get("regions_unread_count", 0),
    }


def _health(versions: list[Version], project: Project) -> str:
    """Why the order in use is not that of the project's sampler; "" where it is."""
    current = next((version for version in versions if version.id == project.current_version_id), None)
    if current is None or not current.metrics.get("health", {}).get("why"):
        return ""
    health = current.metrics["health"]
    return f"the order is by {health['order']}, because that of {current.sampler} is not to be trusted: {health['why']}"


def _head(state: State, settings: Settings, project: Project, versions: list[Version]) -> dict[str, int] | None:
    """If only the head of the current order is published: how many tasks that is, and how many of their predictions are
    written already. None: all of it is published, or there is none."""
    current = next((version for version in versions if version.id == project.current_version_id), None)
    try:
        own = settings.for_project(project.extra_params)
    except OwnerError:
        return None
    size = None if current is None else head_size(state, own, current)
    if current is None or size is None:
        return None
    written, missing = state.scores.head(current, size)
    return {"size": written + missing, "written": written}


def due_in_words(project: Project, versions: list[Version], budget: int) -> list[str]:
    """The work that is waiting for a worker; empty if there is none."""
    due = []
    if project.current_version_id is None:
        due.append("first order")
    if any(version.status in ("scored", "publishing") for version in versions):
        due.append("publishing")
    if project.train_requested:
        due.append("cycle (asked for)")
    elif 0 < budget <= project.pending_annotations:
        due.append("cycle")
    if project.refresh_seq > project.refresh_seen and project.current_version_id is not None:
        due.append("comparison")
    return due


def show(found: dict[str, Any], console: Console) -> None:
    """Print the snapshot as tables."""
    for warning in found["warnings"]:
        console.print(shown(warning), style="yellow", markup=False)
    if not found["projects"]:
        console.print("No project is connected yet.")
        return
    console.print(_overview(found))
    for project in found["projects"]:
        if project["last_error"]:
            console.print(shown(f"Project {project['name']}: {project['last_error']}"), style="red", markup=False)
        if project["hands_off"]:
            console.print(shown(f"Project {project['name']}: {project['hands_off']}"), style="red", markup=False)
        if project["health"]:
            words = f"Project {project['name']}: {project['health']}"
            console.print(shown(words), style="yellow", markup=False)
        if project["queue_note"]:
            words = f"Project {project['name']}, {_local_time(project['queue_noted_at'])}: {project['queue_note']}"
            console.print(shown(words), style="yellow", markup=False)
        if any(project["synthetic"].values()):
            words = ", ".join(f"{count} {what}" for what, count in project["synthetic"].items())
            console.print(shown(f"Project {project['name']}, generated images: {words}"), markup=False)
        if project["checkpoint_unreadable"]:
            words = f"the newest version had to learn from the beginning: {project['checkpoint_unreadable']}"
            console.print(shown(f"Project {project['name']}: {words}"), style="yellow", markup=False)
    console.print(_versions(found))
    if any(project["broken_images"] for project in found["projects"]):
        console.print(_broken(found))
    if any(project["ignored_annotations"] for project in found["projects"]):
        console.print(_ignored(found))
    if any(project["regions_unread"] for project in found["projects"]):
        console.print(_unread(found))


def _overview(found: dict[str, Any]) -> Table:
    names = ("project", "task", "sampler", "tasks", "labeled", "scored", "published", "broken", "new labels", "due")
    table = _table("Projects", *names, "running")
    for project in found["projects"]:
        counts, running = project["counts"], project["running"]
        phase = ""
        if running:
            phase = f"cycle {running['cycle']}: {running['phase']} {running['done']}/{running['total']}"
        elif project["held_by"]:
            phase = "upkeep"
        _add(
            table,
            f"{project['name']} {project['title']}".strip(),
            _task_and_frame(project),
            project["sampler"],
            *(str(counts[key]) for key in ("tasks", "labelled", "scored")),
            _published(project["head"]),
            str(counts["broken"]),
            f"{project['pending_annotations']}/{project['budget']}",
            ", ".join(project["due"]) or "-",
            phase or "-",
        )
    return table


def _published(head: dict[str, int] | None) -> str:
    """How much of the order is in Label Studio."""
    if head is None:
        return "all"
    written = "" if head["written"] == head["size"] else f"{head['written']} of "
    return f"the next {written}{head['size']}"


def _task_and_frame(project: dict[str, Any]) -> str:
    """The kind of task, and the size (W×H) at which the newest version used the images."""
    if not project["frame"]:
        return "-"
    height, width = project["frame"]
    return f"{project['task']} {width}×{height}"


def _versions(found: dict[str, Any]) -> Table:
    table = _table("Versions", "project", "version", "status", "published", "labels", "pool", "accuracy", "seconds")
    for project in found["projects"]:
        seconds = {c["cycle"]: sum(c["seconds"].values()) for c in reversed(project["cycles"]) if c["seconds"]}
        for version in project["versions"][:VERSIONS_SHOWN]:
            current = version["name"] == project["current_version"]
            spent = seconds.get(version["cycle"])
            _add(
                table,
                project["name"],
                version["name"],
                f"{version['status']} (in use)" if current and version["status"] != "current" else version["status"],
                _local_time(version["published_at"]),
                str(version["metrics"].get("labels", 0)),
                str(version["metrics"].get("pool", "-")),
                _quality(version["metrics"]),
                "-" if spent is None else f"{spent:.1f}",
            )
    return table


def _quality(metrics: dict[str, Any]) -> str:
    """On labels that were left out of the training: accuracy, or of masks mean IoU."""
    accuracy, mean_iou = metrics.get("train_cv_accuracy"), metrics.get("train_mean_iou")
    if mean_iou is not None:
        return f"IoU {100 * mean_iou:.0f} %"
    return "-" if accuracy is None else f"{100 * accuracy:.0f} %"


def _broken(found: dict[str, Any]) -> Table:
    table = _table("Images set aside, or waiting for their host", "project", "task", "reason", "attempts", "next try")
    for project in found["projects"]:
        images = project["broken_images"]
        for image in images[:BROKEN_SHOWN]:
            wait = max(0.0, image["retry_at"] - found["time"])
            values = (project["name"], image["task"], image["reason"], image["attempts"], f"in {wait:.0f} s")
            _add(table, *values)
        if len(images) > BROKEN_SHOWN:
            _add(table, project["name"], f"and {len(images) - BROKEN_SHOWN} more", "", "", "")
    return table


def _ignored(found: dict[str, Any]) -> Table:
    table = _table("Annotations that do not count", "project", "why", "annotations")
    for project in found["projects"]:
        for reason, count in project["ignored_annotations"].items():
            _add(table, project["id"], reason, count)
    return table


def _unread(found: dict[str, Any]) -> Table:
    table = _table("Regions that the last cycle could not use", "project", "what is wrong")
    for project in found["projects"]:
        for problem in project["regions_unread"]:
            _add(table, project["name"], problem)
        if more := project["regions_unread_count"] - len(project["regions_unread"]):
            _add(table, project["name"], f"and {more} more")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _add(table: Table, *values: object) -> None:
    """Add a row of plain text, so that a title such as "[old] pets" is not read as markup, and none is obeyed by the
    terminal."""
    table.add_row(*(Text(shown(str(value))) for value in values))


def _local_time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    when = datetime.fromtimestamp(seconds)
    today = datetime.fromtimestamp(time.time()).date() == when.date()
    return when.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")
