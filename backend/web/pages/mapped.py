"""The map of the pool (:mod:`backend.reporting.pool_map`) on the page of a project: as SVG, and point by point for the
script that shows an image under the pointer. How it looks, page.css says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.reporting.pool_map import PoolMap
from backend.state import Project, State
from backend.tasks.base import AnyTaskKind

WIDTH, HEIGHT, _MARGIN = 1000, 600, 16
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
class Dot:
    """An image at (x, y), and what is known of it in words."""

    task: int
    x: float
    y: float
    words: str


@dataclass(frozen=True)
class MapFigure:
    """``groups``: in the order in which they are drawn. ``dots``: of all of them."""

    groups: Sequence[Group]
    dots: Sequence[Dot]
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def legend(self) -> Sequence[Group]:
        """The classes, then the next images and the rest."""
        return [*self.groups[1:-1], self.groups[-1], self.groups[0]]


def map_figure(
    found: PoolMap | None, state: State, project: Project, kind: AnyTaskKind | None, upcoming: Sequence[int]
) -> MapFigure | None:
    """The map as it is now: colored by the present labels. ``upcoming``: the tasks that are shown as next. None where
    there is no map."""
    if found is None or kind is None:
        return None
    tasks = found.tasks.tolist()
    said = {
        task: kind.classes_in(label) for task, label in state.labels.of(project.id, tasks).items() if label is not None
    }
    names = {task: classes[0] if len(classes) == 1 else SEVERAL for task, classes in said.items()}
    looks = _looks(Counter(names.values()))
    after = {task: place for place, task in enumerate(upcoming, 1)}
    paths: dict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    dots = []
    inner_width, inner_height = WIDTH - 2 * _MARGIN, HEIGHT - 2 * _MARGIN
    for task, (across, up) in zip(tasks, found.places.tolist(), strict=True):
        x, y = round(_MARGIN + inner_width * across, 1), round(_MARGIN + inner_height * (1 - up), 1)
        if task in said:
            look, words = looks[names[task]], f"labeled {', '.join(said[task]) or 'with no class'}"
        elif task in after:
            look, words = NEXT, f"next, at place {after[task]}"
        else:
            look, words = REST, "not labeled"
        paths[look].append(f"M{x:g} {y:g}h0")
        counts[look] += 1
        dots.append(Dot(task, x, y, words))
    called = {look: name for name, look in looks.items()} | {"other": OTHERS_OR_SEVERAL if SEVERAL in looks else OTHERS}
    colored = [Group(called[look], look, counts[look], "".join(paths[look])) for look in dict.fromkeys(looks.values())]
    ends = [Group(name, name, counts[name], "".join(paths[name])) for name in (REST, NEXT)]
    return MapFigure([ends[0], *colored, ends[1]], dots)


def _looks(counts: Mapping[str, int]) -> dict[str, str]:
    """Class → how its images look; those that are labeled most often have colors of their own."""
    names = sorted(counts, key=lambda name: (name == SEVERAL, -counts[name], name))
    own = [name for name in names if name != SEVERAL][:COLORS]
    return {name: f"class-{own.index(name)}" if name in own else "other" for name in names}


def map_points(figure: MapFigure, images: Mapping[int, str], folder: str, link: str) -> dict[str, Any]:
    """What the script asks for: ``points``, [task, x, y, words, name of the picture or ""] each; before the name of a
    picture comes the ``folder``, and before a task the ``link`` to it, "" if it is not known."""
    points = [[dot.task, dot.x, dot.y, dot.words, images.get(dot.task, "")] for dot in figure.dots]
    return {"points": points, "folder": folder, "link": link}
