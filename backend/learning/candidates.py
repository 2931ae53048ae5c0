"""Which unlabeled images a cycle scores, where the setting ``subset`` has it score a part of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from backend.control import Arm
from backend.images.row_table import TaskIds
from backend.learning.features import Features
from backend.learning.learner import Learner, random_subset
from backend.settings.core import Settings
from models.data import Runtime
from models.geometry.matching import LARGEST_EXACT
from models.geometry.neighbor_index import NOBODY, NeighborIndex
from models.geometry.space import Read, Space, in_parts
from models.inference.kept_rows import kept_rows
from models.inference.predictions import embed, predict

ANCHORS = 1_000
"""Labeled images whose neighbors are looked for; of more, so many by chance."""
NEIGHBORS = 4
"""Times as many neighbors as needed are looked for, because labeled images have some in common."""
FEWEST_NEIGHBORS = 16
_COMPARED = 1 << 24  # distances held at a time


def asks_network(settings: Settings) -> bool:
    """Whether candidates are chosen by the last cycle's network."""
    return settings.subset > 0 and settings.candidates != "random"


@dataclass(frozen=True)
class Candidates:
    """``previous``: the learner of the last cycle; None: there is none, and candidates are drawn by chance.
    ``runtime``: what that is asked with. ``labeled`` (L,): rows of ``pixels``."""

    settings: Settings
    previous: Learner | None
    pixels: np.ndarray
    labeled: np.ndarray
    runtime: Runtime
    features: Features | None = None

    @classmethod
    def among(
        cls, features: Features, labeled: TaskIds, settings: Settings, previous: Learner | None, runtime: Runtime
    ) -> Candidates:
        """For tasks of a project, some of which are ``labeled`` (L,), by what is kept of their images."""
        if previous is not None:
            runtime = replace(runtime, features=features.rows_for(previous))
        return cls(settings, previous, features.cache.pixels, features.cache.rows(labeled), runtime, features)

    def of_pool(self, unlabeled: np.ndarray, arm: Arm) -> tuple[np.ndarray, np.ndarray]:
        """The unlabeled tasks to score, all that have an image or the subset R of them: those that the sampler chooses
        from (N,), and those of the control arm (K,), which are served in this order."""
        assert self.features is not None
        found = self.features.present(unlabeled)
        drawn = arm.of(found)
        pool, size = np.setdiff1d(found, drawn), self.settings.subset
        if 0 < size < len(found):
            drawn = drawn[: round(arm.fraction * size)]
            size -= len(drawn)
            pool = pool[self.of(self.features.cache.rows(pool), size)] if size < len(pool) else pool
        return pool, drawn

    def of(self, rows: np.ndarray, size: int) -> np.ndarray:
        """``size`` of the positions in ``rows`` (N,) of ``pixels``, ascending; 0 < size < N.

        By uncertainty: those of whose predictions the network is least confident. By neighborhood: the nearest
        neighbors of each labeled image, then the second nearest of each, and so on, each once, by the network's
        features (SEALS, Coleman et al. 2022, with a number of candidates that is given, as in AnchorAL, Lesci & Vlachos
        2024); the rest by chance, where neighbors are too few.
        """
        how, net = self.settings.candidates, self.previous
        if how == "random" or net is None or net.frame != tuple(self.pixels.shape[1:3]):
            return random_subset(len(rows), size, self.runtime.seed)
        if how == "uncertainty":
            confidence = predict(net.net, self.pixels, rows, self.runtime, "candidates").confidence
            return np.sort(np.lexsort((self._chance(len(rows)), confidence))[:size])
        return np.sort(self._neighbors(net, rows, size))

    def _neighbors(self, learner: Learner, rows: np.ndarray, size: int) -> np.ndarray:
        if not len(self.labeled):
            return random_subset(len(rows), size, self.runtime.seed)
        read = kept_rows(learner.net, self.pixels, self.runtime)
        anchors = np.sort(self.runtime.rng("anchors").permutation(self.labeled)[:ANCHORS])
        each = min(len(rows), max(FEWEST_NEIGHBORS, NEIGHBORS * -(-size // len(anchors))))
        if read is not None and len(rows) > LARGEST_EXACT:
            index = NeighborIndex.kept(self.runtime.index, rows, read, self.runtime)
            found = index.roughly(index.space.coordinates(read(anchors)), each, rows)[1].numpy()
            order = np.argsort(rows, kind="stable")
            place = np.searchsorted(rows, found, sorter=order).clip(max=len(rows) - 1)
            ranked = np.where(found == NOBODY, NOBODY, order[place])
        else:
            ranked = self._compared(learner, rows, anchors, each, read)
        by_rank = ranked.T.ravel()  # the nearest of each, then the second nearest of each
        by_rank = np.concatenate([by_rank[by_rank != NOBODY], self._chance(len(rows)).argsort()])
        _, first = np.unique(by_rank, return_index=True)
        return by_rank[np.sort(first)[:size]]

    def _compared(
        self, learner: Learner, rows: np.ndarray, anchors: np.ndarray, each: int, read: Read | None
    ) -> np.ndarray:
        """Positions (L, K) in ``rows`` of the nearest of each anchor, by comparing each with each."""

        def asked(some: np.ndarray) -> Tensor:
            return torch.from_numpy(embed(learner.net, self.pixels, some, self.runtime, "candidates"))

        read = read or asked
        space = Space.of(rows, read, self.runtime)
        points = in_parts(rows, read, space.coordinates, self.runtime, "candidates")
        parts = space.coordinates(read(anchors)).split(max(1, _COMPARED // len(rows)))
        return torch.cat([torch.cdist(part, points).topk(each, largest=False).indices for part in parts]).numpy()

    def _chance(self, count: int) -> np.ndarray:
        return self.runtime.rng("candidates").permutation(count)
