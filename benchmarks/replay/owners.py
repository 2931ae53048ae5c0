"""Simulated owners: labels and features of a project, and whether `margin` should be ahead of random on them.

Axis letters: L labels, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.replay.trials import Trained
from backend.reporting.learning_curves import BASELINE

SAMPLER = "margin"

CERTAIN = "certain"
"""Asks first for what the classifier is surest of, the reverse of margin. None of the product's samplers: it stands for
another one that does well where margin does badly, and the other way round."""


@dataclass(frozen=True)
class Owner:
    """features (L, F) and classes (L,), integers below ``count``."""

    features: np.ndarray
    classes: np.ndarray
    count: int


def helps(rng: np.random.Generator, labels: int) -> Owner:
    """40 scenes that are shown again and again, each of one of 4 classes: margin asks for those that are still missing,
    where random asks for what is known."""
    scenes = 40
    scene, of_scene = rng.integers(0, scenes, labels), rng.integers(0, 4, scenes)
    return Owner(3 * np.eye(scenes)[scene] + rng.normal(0, 0.3, (labels, scenes)), of_scene[scene], 4)


def cannot(rng: np.random.Generator, labels: int) -> Owner:
    """Classes that have nothing to do with the images: no order is better than another."""
    return Owner(rng.normal(0, 1, (labels, 10)), rng.integers(0, 4, labels), 4)


def hurts(rng: np.random.Generator, labels: int) -> Owner:
    """6 classes in 20 dimensions, and two images in five that show nothing and are labeled anyhow: margin asks for
    these first, because they lie between all classes, and learns nothing from them."""
    classes, features = rng.integers(0, 6, labels), rng.normal(0, 1, (labels, 20))
    features[np.arange(labels), classes] += 4
    blank = rng.random(labels) < 0.4
    features[blank] = rng.normal(0, 0.3, (int(blank.sum()), 20))
    classes[blank] = rng.integers(0, 6, int(blank.sum()))
    return Owner(features, classes, 6)


OWNERS: Mapping[str, tuple[Callable[[np.random.Generator, int], Owner], str]] = {
    "helps": (helps, "ahead"),
    "cannot": (cannot, ""),
    "hurts": (hurts, "behind"),
}
"""Name -> how the owner's labels are made, and what a replay should say of `margin`."""

FALLBACKS: Sequence[tuple[str, str, str]] = (
    ("helps", SAMPLER, ""),
    ("helps", CERTAIN, SAMPLER),
    ("cannot", SAMPLER, ""),
    ("cannot", BASELINE, ""),
    ("hurts", SAMPLER, CERTAIN),
)
"""Owner, the sampler of the project, and which one it should fall back to; "" where it should keep its own."""


@dataclass(frozen=True)
class Linear:
    """A linear classifier of the least squares, with a penalty of 1: what is trained here in place of a head, because
    it takes a millisecond. weight (F + 1, C)."""

    owner: Owner
    weight: np.ndarray
    sampler: str
    seed: int

    def accuracy(self, rows: np.ndarray) -> float:
        return float((self._outputs(rows).argmax(axis=1) == self.owner.classes[rows]).mean())

    def order(self, rows: np.ndarray) -> np.ndarray:
        mixed = np.random.default_rng(self.seed).permutation(rows)
        if self.sampler not in (SAMPLER, CERTAIN):
            return mixed
        outputs = np.sort(self._outputs(mixed), axis=1)
        margin = outputs[:, -1] - outputs[:, -2]
        return mixed[np.argsort(margin if self.sampler == SAMPLER else -margin)]

    def _outputs(self, rows: np.ndarray) -> np.ndarray:
        return _with_one(self.owner.features[rows]) @ self.weight


@dataclass(frozen=True)
class TrainLinear:
    """See :class:`backend.replay.trials.Train`."""

    owner: Owner

    def __call__(
        self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
    ) -> Linear:
        rows, wanted = _with_one(self.owner.features[labeled]), np.eye(self.owner.count)[self.owner.classes[labeled]]
        weight = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ wanted)
        return Linear(self.owner, weight, sampler, seed)


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
