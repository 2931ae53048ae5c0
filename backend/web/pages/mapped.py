"""The map of the pool (:mod:`backend.reporting.pool_map`) on the page of a project: as SVG, and point by point for the
script that shows an image under the pointer. How it looks, page.css says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.reporting.pool_map import PoolMap
from backend.state import Project, State
from backend.tasks.base import AnyTaskKind

WIDTH, HEIGHT, _MARGIN = 2000, 1200, 32
COLORS = 8
"""Classes with a color of their own, the most frequently labeled ones; page.css has as many."""
SEVERAL, OTHERS, OTHERS_OR_SEVERAL = "several", "other classes", "other classes, several, or none"
NEXT, REST = "next", "rest"


@dataclass(frozen=True)
class Group:
    """Images that look the same on the map: all of a class, of the ``next`` ones or of the ``rest``. ``path``: a dot
    for each."""

    name: str
    look: str
    count: int
    path: str


@dataclass(frozen=True)
class MapFigure:
    """``groups``: in the order in which they are drawn. ``tasks`` (P,) at the places ``across`` (P,) and ``down`` (P,).
    ``said``: labeled task → its classes; ``after``: task → its place among the next ones."""

    groups: Sequence[Group]
    tasks: Sequence[int]
    across: Sequence[int]
    down: Sequence[int]
    said: Mapping[int, Sequence[str]]
    after: Mapping[int, int]
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def legend(self) -> Sequence[Group]:
        """The classes, then the next images and the rest."""
        return [*self.groups[1:], self.groups[0]]

    def words(self, task: int) -> str:
        """What is known of an image."""
        if task in self.said:
            return f"labeled {', '.join(self.said[task]) or 'with no class'}"
        return f"next, at place {self.after[task]}" if task in self.after else "not labeled"


def map_figure(
    found: PoolMap | None, state: State, project: Project, kind: AnyTaskKind | None, upcoming: Sequence[int]
) -> MapFigure | None:
    """The map as it is now: colored by the present labels. ``upcoming``: the tasks that are shown as next. None where
    there is no map."""
    if found is None or kind is None:
        return None
    tasks = found.tasks.tolist()
    labels = state.labels.of(project.id, tasks)
    said = {task: kind.classes_in(label) for task, label in labels.items() if label is not None}
    names = {task: classes[0] if len(classes) == 1 else SEVERAL for task, classes in said.items()}
    looks = _looks(Counter(names.values()))
    after = {task: place for place, task in enumerate(upcoming, 1)}
    inner = np.array([WIDTH - 2 * _MARGIN, HEIGHT - 2 * _MARGIN])
    places = (_MARGIN + inner * np.stack([found.places[:, 0], 1 - found.places[:, 1]], axis=1)).round().astype(int)
    across, down = places[:, 0].tolist(), places[:, 1].tolist()
    dots: dict[str, list[str]] = {look: [] for look in (REST, *looks.values(), NEXT)}
    look_of = dict.fromkeys(after, NEXT) | {task: looks[name] for task, name in names.items()}
    for task, x, y in zip(tasks, across, down, strict=True):
        dots[look_of.get(task, REST)].append(f"M{x} {y}h0")
    called = {look: name for name, look in looks.items()} | {"other": OTHERS_OR_SEVERAL if SEVERAL in looks else OTHERS}
    groups = [Group(called.get(look, look), look, len(every), "".join(every)) for look, every in dots.items()]
    return MapFigure(groups, tasks, across, down, said, after)


def _looks(counts: Mapping[str, int]) -> dict[str, str]:
    """Class → how its images look; those that are labeled most often have colors of their own."""
    names = sorted(counts, key=lambda name: (name == SEVERAL, -counts[name], name))
    own = [name for name in names if name != SEVERAL][:COLORS]
    return {name: f"class-{own.index(name)}" if name in own else "other" for name in names}


def map_points(figure: MapFigure, images: Mapping[int, str], folder: str, link: str) -> dict[str, Any]:
    """What the script asks for: ``points``, [task, x, y, words, name of the picture or ""] each; before the name of a
    picture comes the ``folder``, and before a task the ``link`` to it, "" if it is not known."""
    places = zip(figure.tasks, figure.across, figure.down, strict=True)
    points = [[task, x, y, figure.words(task), images.get(task, "")] for task, x, y in places]
    return {"points": points, "folder": folder, "link": link}
