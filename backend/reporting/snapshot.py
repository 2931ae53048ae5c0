"""The contents of the state as plain data, for ``status``. Only reads."""

from __future__ import annotations

from typing import Any

from backend import exposure
from backend.head import head_size
from backend.reporting.acceptance import acceptance_of
from backend.reporting.advice import advice_of
from backend.reporting.agreement import agreement_of
from backend.reporting.cycles import cycle_summary
from backend.reporting.facts import Facts, facts_of_all
from backend.reporting.relabeling import relabeling_of
from backend.reporting.words import preparation_in_words, replaying_in_words
from backend.settings.core import Settings
from backend.state import State, keeping

BROKEN_KEYS = ("source", "reason", "attempts", "retry_at", "deaths", "waiting")


def snapshot(state: State, settings: Settings, only: str = "") -> dict[str, Any]:
    """Everything that ``status`` shows, as plain data, of all projects or ``only`` of one. Times are in seconds since
    the epoch.

    Raises:
        OwnerError: there is no such project, or there are several.
    """
    now = state.now()
    chosen = [state.projects.find(only)] if only else state.projects.all()
    versions = state.versions.of_projects([project.id for project in chosen])
    known = facts_of_all(state, settings, chosen, now, versions=versions)
    projects = [_project(state, facts) for facts in known]
    return {"time": now, "warnings": warnings(state), "projects": projects}


def warnings(state: State) -> list[str]:
    """What concerns all projects. A password that has been set since the last start is not asked for yet."""
    found = state.notes.several([exposure.NOTE, keeping.NOTE])
    for project in state.projects.kept():
        what = f"Project {project.number} ({project.title or project.key})"
        found.append(f"{what} is set aside: {project.standing_reason}. Everything of it is kept.")
    return [warning for warning in found if warning]


def _project(state: State, facts: Facts) -> dict[str, Any]:
    project, now = facts.project, facts.at
    advice, accuracy = advice_of(facts), facts.accuracy
    agreement, relabeling = agreement_of(state, project), relabeling_of(state, project, facts.current)
    acceptance = acceptance_of(project)
    return known_of(facts) | {
        "id": project.number,
        "name": project.name,
        "standing": project.standing,
        "title": project.title,
        "sampler": facts.sampler,
        "counts": facts.counts,
        "synthetic": state.synthetic.counts(project.id),
        "head": _head(state, facts),
        "pending_annotations": project.pending_annotations,
        "budget": facts.budget,
        "next_cycle": facts.next_cycle(),
        "accuracy": None if accuracy is None else accuracy.as_json(),
        "control": None if facts.control is None else facts.control.as_json(),
        "labels_saved": facts.labels_saved.as_json(),
        "acceptance": None if acceptance is None else acceptance.as_json(),
        "agreement": None if agreement is None else agreement.as_json(),
        "relabeling": None if relabeling is None else relabeling.as_json(),
        "advice": advice.sentence,
        "advice_code": advice.code,
        "outlook": facts.outlook,
        "replay": None if facts.replay is None else facts.replay.as_json(),
        "replaying": replaying_in_words(facts),
        "due": facts.due,
        "running": None if facts.running is None else cycle_summary(facts.running),
        "preparation": preparation_in_words(facts),
        "held_by": project.lease_owner if project.lease_expires > now else None,
        "connection": project.connection_url or project.address,
        "retry_at": project.retry_at if project.retry_at > now else None,
        "current_version": facts.current.name if facts.current else None,
        "versions": [
            {"name": v.name, "cycle": v.cycle, "status": v.status, "published_at": v.published_at, "metrics": v.metrics}
            for v in facts.versions
        ],
        "cycles": [cycle_summary(cycle) for cycle in state.cycles.recent(project.id)],
        "broken_images": [
            {"task": image.task_id} | {key: getattr(image, key) for key in BROKEN_KEYS}
            for image in state.tasks.broken_images(project.id)
        ],
        "ignored_annotations": state.labels.ignored(project.id),
    }


def known_of(facts: Facts) -> dict[str, Any]:
    """What is wrong with a project, or worth knowing, and what its newest version says of itself."""
    project, newest = facts.project, facts.versions[0].metrics if facts.versions else {}
    return {
        "last_error": facts.error,
        "hands_off": project.hands_off,
        "health": facts.health,
        "queue_note": project.queue_note,
        "queue_noted_at": project.queue_noted_at,
        "task": newest.get("task"),
        "frame": newest.get("frame"),
        "checkpoint_unreadable": newest.get("checkpoint_unreadable"),
        "regions_unread": newest.get("regions_unread", []),
        "regions_unread_count": newest.get("regions_unread_count", 0),
    }


def _head(state: State, facts: Facts) -> dict[str, int] | None:
    """If only the head of the current order is published: how many tasks that is, and how many of their predictions are
    written already. None: all of it is published, or there is none."""
    current = facts.current
    size = None if current is None or facts.settings is None else head_size(state, facts.settings, current)
    if current is None or size is None:
        return None
    written, missing = state.scores.head(current, size)
    return {"size": written + missing, "written": written}
