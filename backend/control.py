"""The control arm: a share of the tasks that no sampler chooses, so that what the others gain can be measured.

Whether a task belongs to it, when it is served and what it is for follow from a hash of the task's id, keyed by the
project: each task has a place in [0, 1), as if drawn by chance, and the arm are those below the fraction. They are
served in the order of their places. So nothing has to be stored for it, tasks that come late find their place among the
others, deleted ones leave no gap, and a smaller fraction is a part of a larger one. Whatever the fraction, those that
are labeled are the ones below some place, of a pool of any history: as good as drawn from it at random.

Half of the arm is kept out of all training, and measures (:meth:`Arm.measures`); the other half is trained on, too,
and alone trains what the sampler's labels are compared with.

Only labels that were given while an order with an arm was published count as drawn by chance. When that was is kept as
a list of (annotation id, fraction): the annotations above the id, up to the next entry, were given under that fraction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

History = Sequence[Sequence[float]]
"""[[the highest annotation id known when it began, fraction], ...], ascending."""

T = TypeVar("T", int, np.int64)


@dataclass(frozen=True)
class Arm:
    """The arm of the project that ``key`` names, with a ``fraction`` of its tasks; 0: there is none. ``history``: see
    the module."""

    key: str = ""
    fraction: float = 0.0
    history: History = ()

    def places(self, tasks: np.ndarray) -> np.ndarray:
        """The places (N,) float64 in [0, 1) of ``tasks`` (N,)."""
        return (_hashes(self.key, tasks) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def of(self, tasks: np.ndarray) -> np.ndarray:
        """Those of ``tasks`` (N,) int64 that belong to the arm, in the order in which they are served."""
        places = self.places(tasks)
        chosen = places < self.fraction
        return tasks[chosen][np.argsort(places[chosen], kind="stable")]

    def drawn(self, first: Mapping[int, int]) -> np.ndarray:
        """The labeled tasks (K,) int64 that count as drawn by chance, in the order of their places. ``first``: labeled
        task → the lowest id of the annotations that are its label."""
        tasks = np.fromiter(first, np.int64, len(first))
        if not self.fraction or not self.history or not len(tasks):
            return tasks[:0]
        began = np.array([after for after, _ in self.history])
        fractions = np.array([0.0, *(fraction for _, fraction in self.history)])
        # an annotation is of the period that began below its id
        period = np.searchsorted(began, np.fromiter(first.values(), np.int64, len(first)), side="left")
        places = self.places(tasks)
        counts = places < fractions[period]
        return tasks[counts][np.argsort(places[counts], kind="stable")]

    def measures(self, tasks: np.ndarray) -> np.ndarray:
        """Which of ``tasks`` (N,), of the arm, are kept out of training, (N,) bool: each with probability one half."""
        return (_hashes(self.key, tasks) & np.uint64(1)).astype(bool)


NO_ARM = Arm()


def history_after(history: History, published: float, newest: int) -> list[list[float]]:
    """The history once an order with the fraction ``published`` is known to be in use, and ``newest`` is the highest
    annotation id known. Without an arm, nothing that was drawn before counts any more: it may be learned from by now.
    """
    known = [[float(after), float(fraction)] for after, fraction in history]
    if not published:
        return []
    if known and known[-1][1] == published:
        return known
    return [*known, [float(newest), float(published)]]


def interleaved(chosen: Sequence[T], drawn: Sequence[T], fraction: float) -> list[T]:
    """One order of the tasks that were ``chosen`` and those ``drawn``, each in its own order: of any number of first
    places the fraction, rounded down, is drawn, as long as there are enough of both; then the others go on. So the
    first one is always chosen."""
    order: list[T] = []
    ahead, behind = iter(chosen), iter(drawn)
    left, waiting = len(chosen), len(drawn)
    taken = 0
    while left or waiting:
        due = waiting and int((len(order) + 1) * fraction + 1e-9) > taken
        if due or not left:
            order.append(next(behind))
            taken, waiting = taken + 1, waiting - 1
        else:
            order.append(next(ahead))
            left -= 1
    return order


def first_annotations(counted: Iterable[tuple[int, Sequence[Sequence[object]]]]) -> dict[int, int]:
    """Labeled task → the lowest id of the annotations that are its label, from (task, [[annotation id, …], …]), in the
    order of these ids."""
    lowest = {task: min(int(str(one[0])) for one in annotations) for task, annotations in counted if annotations}
    return dict(sorted(lowest.items(), key=lambda pair: pair[1]))


def _hashes(key: str, tasks: np.ndarray) -> np.ndarray:
    """(N,) uint64: SplitMix64 (Steele, Lea & Flood, OOPSLA 2014, figure 17) of each task's number, started from a
    digest of the key."""
    start = np.uint64(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little"))
    with np.errstate(over="ignore"):
        mixed = start + np.asarray(tasks).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
