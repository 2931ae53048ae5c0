"""What the pages show, gathered from the state: never from Label Studio, and without torch.

Nothing here takes longer for a larger pool. What grows are lists of what is wrong, of which a page shows the beginning,
and what a person has labeled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backend.errors import BackendError
from backend.reporting.accuracy import Accuracy, accuracy_of
from backend.reporting.advice import Advice, advice_of
from backend.reporting.alerts import Alert, alerts_of
from backend.reporting.cycles import phase_seconds, share_done
from backend.reporting.facts import CYCLES_READ, Facts, facts_of, facts_of_all
from backend.reporting.origins import Origin, origins
from backend.reporting.outlook import CURVE_CYCLES, LEFT_OUT
from backend.reporting.pool_map import PoolMap
from backend.reporting.snapshot import known_of, warnings
from backend.reporting.words import next_cycle_in_words, preparation_in_words, replaying_in_words, running_in_words
from backend.settings.core import Settings
from backend.state import BrokenImage, Cycle, Project, State
from backend.store.reading import folder_to_read
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.web.pages.links import Links
from backend.web.pages.mapped import MapFigure, map_figure
from backend.web.pages.upcoming import NextTask, next_tasks

BROKEN_SHOWN = 20
CYCLES_SHOWN = 20
CLASSES_SHOWN = 40
LABELS_READ = 2_000
"""Different labels of which the classes are counted: of several choices per image, there may be many."""


@dataclass(frozen=True)
class Now:
    """The part of a page that changes while it is looked at. ``share``: of the running phase, from 0 to 1, None if
    nothing runs. ``preparation``: what is trained between cycles, "" if nothing is. ``replaying``: how far a replay is
    that was asked for, "" if none was. ``version``: that in use; when it changes, the rest of the page is out of
    date."""

    facts: Facts
    advice: Advice
    alerts: Sequence[Alert]
    running: str
    share: float | None
    preparation: str
    replaying: str
    next_cycle: str
    version: str

    @property
    def project(self) -> Project:
        return self.facts.project


@dataclass(frozen=True)
class Overview:
    """All connected projects, and what concerns all of them."""

    at: float
    warnings: Sequence[str]
    projects: Sequence[Now]


@dataclass(frozen=True)
class Point:
    """A point of the learning curve."""

    labels: int
    accuracy: Accuracy
    cycle: int


@dataclass(frozen=True)
class ClassRow:
    """A class: how many labels name it, its share in them, and in what the version in use predicts for the pool; None
    where that is not known."""

    name: str
    labels: int
    share: float
    predicted: float | None


@dataclass(frozen=True)
class CycleRow:
    """A cycle in the history. ``phases``: their seconds, in their order."""

    cycle: Cycle
    version: str
    phases: Sequence[tuple[str, float]]
    accuracy: Accuracy | None

    @property
    def seconds(self) -> float:
        return sum(spent for _, spent in self.phases)


@dataclass(frozen=True)
class ProjectFigures:
    """Everything that the page of a project shows. ``broken`` and ``classes`` are the first of them; ``more_classes``:
    how many others there are. ``settings``: None where they are refused. ``frame``: (H, W) of the cached images."""

    now: Now
    links: Links
    broken: Sequence[BrokenImage]
    ignored: dict[str, int]
    curve: Sequence[Point]
    metrics: dict[str, Any]
    classes: Sequence[ClassRow]
    more_classes: int
    next_tasks: Sequence[NextTask]
    mapped: MapFigure | None
    frame: tuple[int, int] | None
    cycles: Sequence[CycleRow]
    settings: Sequence[Origin] | None
    kind: str

    @property
    def ahead(self) -> Sequence[Sequence[float]]:
        """Where the curve is expected to go on; nothing where that is not known, or the curve is of something else."""
        return ahead_of(self.now.facts, LEFT_OUT) if self.curve else ()

    @property
    def largest_share(self) -> float:
        """Of any class, which the longest bar stands for."""
        return max([0.001, *(row.share for row in self.classes), *(row.predicted or 0.0 for row in self.classes)])


def ahead_of(facts: Facts, by: str) -> Sequence[Sequence[float]]:
    """(labels, accuracy, low, high) where the curve that was measured ``by`` these labels is expected to go on."""
    outlook = facts.outlook
    return outlook["ahead"] if outlook and outlook["rises"] and outlook.get("by", LEFT_OUT) == by else ()


def overview(state: State, settings: Settings) -> Overview:
    """Of all connected projects, by id."""
    at = state.now()
    known = facts_of_all(state, settings, state.projects.all(), at)
    return Overview(at, warnings(state), [_now(facts) for facts in known])


def now_of(state: State, settings: Settings, project: Project, at: float, cycles: int = CYCLES_READ) -> Now:
    """Of one project. ``cycles``: how many of the last ones are read."""
    return _now(facts_of(state, settings, project, at, cycles=cycles))


def _now(facts: Facts) -> Now:
    return Now(
        facts,
        advice_of(facts),
        alerts_of(known_of(facts)),
        running_in_words(facts),
        share_done(facts.running) if facts.running else None,
        preparation_in_words(facts),
        replaying_in_words(facts),
        next_cycle_in_words(facts),
        facts.current.name if facts.current else "",
    )


def project_figures(state: State, settings: Settings, project: Project) -> ProjectFigures:
    """Of one project, whatever its standing."""
    now = now_of(state, settings, project, state.now(), CURVE_CYCLES)
    facts = now.facts
    kind = _kind(facts)
    metrics = facts.current.metrics if facts.current else {}
    classes = _classes(state, facts, kind, metrics.get("predicted") or {})
    drawn = PoolMap.kept(folder_to_read(settings, project)) if facts.current else None
    upcoming = next_tasks(state, settings, facts, kind, drawn.copies if drawn else {})
    return ProjectFigures(
        now,
        Links.of(project, settings),
        state.tasks.broken_images(project.id, BROKEN_SHOWN),
        state.labels.ignored(project.id),
        _curve(facts.cycles),
        metrics,
        classes[:CLASSES_SHOWN],
        max(0, len(classes) - CLASSES_SHOWN),
        upcoming,
        map_figure(drawn, state, project, kind, [one.task for one in upcoming if not one.again]),
        frame_of(metrics),
        _history(state, facts),
        origins(settings, project, facts.settings) if facts.settings else None,
        kind.name if kind else str(metrics.get("task", "")),
    )


def frame_of(metrics: dict[str, Any]) -> tuple[int, int] | None:
    """(H, W) of the images in the cache that a version was made with; None if it needed none."""
    frame = metrics.get("frame")
    return (int(frame[0]), int(frame[1])) if isinstance(frame, list) and len(frame) == 2 else None


@lru_cache(maxsize=64)
def _read_kind(label_config: str, settings: Settings) -> AnyTaskKind:
    return kind_of(label_config, settings)


def _kind(facts: Facts) -> AnyTaskKind | None:
    """The project's kind of task; None where its label config or settings are refused, which the worker reports."""
    try:
        return _read_kind(facts.project.label_config, facts.settings) if facts.settings else None
    except BackendError:
        return None


def _curve(cycles: Sequence[Cycle]) -> list[Point]:
    """The accuracy of each cycle that measured it, oldest first; only those that measured what the last one did."""
    found = []
    for cycle in reversed(cycles):
        accuracy = accuracy_of(cycle.metrics) if cycle.status == "done" else None
        if accuracy is not None:
            found.append(Point(cycle.labels, accuracy, cycle.number))
    return [point for point in found if point.accuracy.measure == found[-1].accuracy.measure]


def _classes(state: State, facts: Facts, kind: AnyTaskKind | None, predicted: dict[str, float]) -> list[ClassRow]:
    """The classes, the most frequently labeled first; none where labels name none."""
    counts: Counter[str] = Counter()
    if kind is None or kind.draws:
        return []
    for label, tasks in state.labels.distinct(facts.project.id, LABELS_READ):
        counts.update(dict.fromkeys(kind.classes_in(label), tasks))
    total = max(1, counts.total())
    names = sorted({*kind.classes, *counts}, key=lambda name: (-counts[name], name))
    # those beyond the classes that are kept have a smaller share than any of them
    return [
        ClassRow(name, counts[name], counts[name] / total, predicted.get(name) if predicted else None) for name in names
    ]


def _history(state: State, facts: Facts) -> list[CycleRow]:
    versions = state.versions.names_by_cycle(facts.project.id, CYCLES_SHOWN)
    return [
        CycleRow(
            cycle,
            versions.get(cycle.number, "") if cycle.labels else "",
            list(phase_seconds(cycle).items()),
            accuracy_of(cycle.metrics),
        )
        for cycle in facts.cycles[:CYCLES_SHOWN]
    ]
