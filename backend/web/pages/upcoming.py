"""The next images of the queue, as the page of a project shows them: near copies folded together, and why each comes
where it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.files import predictions_folder
from backend.reporting.facts import Facts
from backend.settings.core import Settings
from backend.state import State, StoredPrediction, Version
from backend.store.reading import folder_to_read
from backend.tasks.base import AnyTaskKind
from backend.web.pages.overlays import colors_of
from backend.web.pages.reasons import Reasons

NEXT = 24
READ_AHEAD = 4 * NEXT
"""Of the queue, so that images may stand for their near copies."""


@dataclass(frozen=True)
class NextTask:
    """A task at the head of the queue: what is predicted for it, ``why`` it comes there ("": not known), and the
    ``source`` of its image. ``copies``: how many of those that come soon after it are nearly copies of it, and are not
    shown. ``again``: it is labeled, and asked again. ``drawn``: (class, color) of what its predicted mask shows; None
    where it has none."""

    task: int
    said: Sequence[str]
    confidence: float | None
    score: float
    source: str
    why: str
    copies: int = 0
    again: bool = False
    drawn: Sequence[tuple[str, str]] | None = None


def next_tasks(
    state: State, settings: Settings, facts: Facts, kind: AnyTaskKind | None, alike: Mapping[int, int]
) -> list[NextTask]:
    """The first :data:`NEXT`, soonest first. ``alike``: task → the one that it is nearly a copy of. The first of those
    stands for the others."""
    if facts.current is None:
        return []
    project, version = facts.project, facts.current
    again = _asked_again(state, version)
    groups: dict[int, list[StoredPrediction]] = {}
    for one in [*again, *state.scores.first(version, READ_AHEAD)]:
        groups.setdefault(alike.get(one.task_id, one.task_id), []).append(one)
    first = [(group[0], len(group) - 1) for group in list(groups.values())[:NEXT]]
    sources = state.tasks.sources(project.id, [one.task_id for one, _ in first])
    asked = frozenset(one.task_id for one in again)
    reasons = Reasons.of(state, facts, version, [one for one, _ in first], asked)
    folder = folder_to_read(settings, project, predictions_folder(Path(), version.name).as_posix())
    fits = kind is not None and kind.name == version.metrics.get("task")
    kept = kind.open_kept(predictions_folder(folder, version.name)) if kind and fits else None
    said = {one.task_id: kind.said(one, kept) if kind and fits else () for one, _ in first}
    return [
        NextTask(
            one.task_id,
            said[one.task_id],
            one.confidence,
            one.priority_score,
            sources.get(one.task_id, ""),
            reasons.why(one),
            copies,
            one.task_id in asked,
            colors_of(version, said[one.task_id]) if kind and kind.mask_of(one.task_id, kept) is not None else None,
        )
        for one, copies in first
    ]


def _asked_again(state: State, version: Version) -> list[StoredPrediction]:
    """The tasks that wait for one more annotator and have the first places in the order of ``version``, in theirs."""
    waiting = [one.task_id for one in state.team.asked(version.project_id) if one.placed_in == version.id]
    found = state.scores.of_tasks(version.project_id, waiting) if waiting else {}
    return sorted(found.values(), key=lambda one: one.priority_score)
