"""A map of the pool: images that a backbone finds alike lie near each other. And which of the next images are nearly
copies of each other.

The plane is that of the two principal components of the features, of which each image has been given length 1. A small
file in the project's folder, drawn with the first order and anew by each cycle: whatever it costs grows with what is
drawn, not with the pool.

Axis letters: P images on the map, Q next ones of the queue, F numbers of an image.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backend.control import Arm
from models.files import whole_file

log = logging.getLogger(__name__)

FILE = "map.npz"
FORMAT = 1
MOST = 2_000
"""Images on a map."""
LABELED, QUEUE = 800, 300
"""Of these, as many labeled ones at most, and so many from the head of the order."""
FEWEST = 10
NEAR = 0.95
"""From this cosine of their features on, two images count as near copies: benchmarks/results/near-copies.md."""
GROWTH = 2.0
"""The axes stay until there are so many times as many images to choose them by; then the map is laid out anew."""
_EDGE = 0.005
"""Share of the images that lie on the map's edge, on either side of an axis, so that a few do not squeeze the rest."""


@dataclass(frozen=True)
class PoolMap:
    """Where the images of ``tasks`` (P,) int64 lie: ``places`` (P, 2) float32 in [0, 1], across and up. ``queue`` (Q,)
    int64: the next tasks when the map was drawn, in their order; ``alike`` (Q,) int64: the first of them that each is
    nearly a copy of, or itself. ``center`` (F,) and ``axes`` (2, F) float32: of the plane, chosen by ``chosen_by``
    images of the feature set ``key``."""

    key: str
    tasks: np.ndarray
    places: np.ndarray
    queue: np.ndarray
    alike: np.ndarray
    center: np.ndarray
    axes: np.ndarray
    chosen_by: int

    @property
    def copies(self) -> dict[int, int]:
        """Task → the first of the queue that it is nearly a copy of, or itself."""
        return dict(zip(self.queue.tolist(), self.alike.tolist(), strict=True))

    def outgrown(self, images: int) -> bool:
        """Whether one of so many ``images`` would have more of them, or another plane."""
        return min(MOST, images) > len(self.tasks) or images >= GROWTH * self.chosen_by

    def keep(self, folder: Path) -> None:
        """In the project's ``folder``, in place of the one before."""
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / FILE) as file:
            np.savez(file, format=FORMAT, **asdict(self))

    @classmethod
    def kept(cls, folder: Path) -> PoolMap | None:
        """That of the project with this ``folder``; None if there is none, or it cannot be read."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as found:
                if int(found["format"]) != FORMAT:
                    return None
                values: dict[str, Any] = {name: found[name] for name in cls.__dataclass_fields__}
        except FileNotFoundError:
            return None
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            log.warning("%s cannot be read; another one will be drawn: %s", FILE, error)
            return None
        return cls(**values | {"key": str(values["key"]), "chosen_by": int(values["chosen_by"])})


def forget(folder: Path) -> None:
    """There is nothing to draw a map from."""
    (folder / FILE).unlink(missing_ok=True)


def drawn(
    features: Callable[[np.ndarray], np.ndarray],
    key: str,
    pool: np.ndarray,
    labeled: np.ndarray,
    queue: np.ndarray,
    before: PoolMap | None,
) -> PoolMap | None:
    """A map of some of the images; None where they are too few.

    Args:
        features: of tasks (N,), (N, F) of any float type. Asked for :data:`MOST` of them at most.
        key: names what the features are by.
        pool, labeled: tasks whose features are there, (N,) and (L,).
        queue: the next tasks, in their order; the first :data:`QUEUE` count.
        before: the map of the cycle before, whose axes stay where they can.
    """
    queue = queue[:QUEUE]
    tasks = chosen(pool, labeled, queue)
    if len(tasks) < FEWEST:
        return None
    points = of_length_one(features(tasks))
    count = len(pool) + len(labeled)
    if before is not None and before.key == key and count < GROWTH * before.chosen_by:
        center, axes, chosen_by = before.center, before.axes, before.chosen_by
    else:
        center, axes, chosen_by = points.mean(axis=0), principal_axes(points), count
    places = _between_edges((points - center) @ axes.T)
    rows = {task: row for row, task in enumerate(tasks.tolist())}
    first = near_copies(points[[rows[task] for task in queue.tolist()]])
    return PoolMap(key, tasks, places, queue, queue[first], center, axes, chosen_by)


def chosen(pool: np.ndarray, labeled: np.ndarray, queue: np.ndarray) -> np.ndarray:
    """The tasks (P,) int64, ascending, to draw: the ``queue``, some that are ``labeled``, and of the others of the
    ``pool`` as many as there is room for. Which ones, a hash of their ids says: so almost the same in each cycle."""
    by_hash = Arm("map", 1.0)
    some = by_hash.of(np.setdiff1d(labeled, queue))[:LABELED]
    sure = np.concatenate([queue, some])
    rest = by_hash.of(np.setdiff1d(pool, sure))[: max(0, MOST - len(sure))]
    return np.sort(np.concatenate([sure, rest])).astype(np.int64)


def principal_axes(points: np.ndarray) -> np.ndarray:
    """The two directions (2, F) in which ``points`` (P, F), P > 2, vary most, of length 1; their largest number is
    positive, so that a map is not mirrored by chance."""
    from scipy.sparse.linalg import svds  # here: only cycles need it

    off = points - points.mean(axis=0)
    if min(off.shape) < 3:
        return np.eye(2, off.shape[1], dtype=np.float32)
    _, strength, axes = svds(off.astype(np.float64), k=2, v0=np.ones(min(off.shape)))
    axes = axes[np.argsort(-strength)]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return (axes * np.where(largest < 0, -1.0, 1.0)).astype(np.float32)


def near_copies(points: np.ndarray, bound: float = NEAR) -> np.ndarray:
    """For each of ``points`` (Q, F) of length 1, the place (Q,) of the first one that it is nearly a copy of and that
    is no copy itself; its own where there is none. ``bound``: from this cosine on."""
    alike = points @ points.T >= bound
    first = np.arange(len(points))
    for place in range(len(points)):
        earlier = np.flatnonzero(alike[place, :place] & (first[:place] == np.arange(place)))
        if len(earlier):
            first[place] = earlier[0]
    return first


def of_length_one(features: np.ndarray) -> np.ndarray:
    """Features (N, F) of any float type as float32, each image's divided by its length."""
    points = features.astype(np.float32)
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)


def _between_edges(places: np.ndarray) -> np.ndarray:
    low, high = np.quantile(places, (_EDGE, 1 - _EDGE), axis=0)
    return ((places - low) / np.maximum(high - low, 1e-9)).clip(0, 1).astype(np.float32)
