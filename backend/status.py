"""``status``: the contents of the state as tables for people."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.plain import shown
from backend.reporting.accuracy import MEAN_IOU, accuracy_of, percent
from backend.reporting.alerts import ERROR, alerts_of

VERSIONS_SHOWN = 5
BROKEN_SHOWN = 20


def show(found: dict[str, Any], console: Console) -> None:
    """Print the snapshot as tables."""
    for warning in found["warnings"]:
        console.print(shown(warning), style="yellow", markup=False)
    if not found["projects"]:
        console.print("No project is connected yet.")
        return
    console.print(_overview(found))
    for project in found["projects"]:
        alerts = alerts_of(project)
        for alert in alerts:
            at = "" if alert.at is None else f", {_local_time(alert.at)}"
            style = "red" if alert.level == ERROR else "yellow"
            console.print(shown(f"Project {project['name']}{at}: {alert.words}"), style=style, markup=False)
        if project["preparation"]:
            console.print(shown(f"Project {project['name']}: {project['preparation']}"), markup=False)
        if project["replaying"]:
            console.print(shown(f"Project {project['name']}: {project['replaying']}"), markup=False)
        if any(project["synthetic"].values()):
            words = ", ".join(f"{count} {what}" for what, count in project["synthetic"].items())
            console.print(shown(f"Project {project['name']}, generated images: {words}"), markup=False)
        if sentence := (project["control"] or {}).get("sentence"):
            console.print(shown(f"Project {project['name']}, compared with chance: {sentence}"), markup=False)
        if project["acceptance"]:
            console.print(shown(f"Project {project['name']}: {project['acceptance']['sentence']}"), markup=False)
        for subject in ("agreement", "relabeling"):
            if project[subject]:
                console.print(
                    shown(f"Project {project['name']}, annotators: {project[subject]['sentence']}"), markup=False
                )
        if not any(alert.words in project["advice"] for alert in alerts):
            console.print(shown(f"Project {project['name']}: {project['advice']}"), markup=False)
        if project["replay"]:
            console.print(shown(f"Project {project['name']}: {project['replay']['sentence']}"), markup=False)
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
    found = accuracy_of(metrics)
    if found is None:
        return "-"
    return f"IoU {percent(found.value)}" if found.measure == MEAN_IOU else percent(found.value)


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
