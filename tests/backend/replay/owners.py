"""Somebody's labels to replay, and a classifier that learns them in a blink."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.replay.trials import Trained


@dataclass(frozen=True)
class Asked:
    """A stand-in for a network: right in the share of the scenes that it has seen. Scenes (L,) are integers."""

    scenes: np.ndarray
    seen: frozenset[int]
    sampler: str
    seed: int

    def accuracy(self, rows: np.ndarray) -> float:
        return float(np.isin(self.scenes[rows], list(self.seen)).mean())

    def order(self, rows: np.ndarray) -> np.ndarray:
        mixed = np.random.default_rng(self.seed).permutation(rows)
        if self.sampler == "random":
            return mixed
        known = np.isin(self.scenes[mixed], list(self.seen))
        if self.sampler == "new":  # one of each unseen scene first
            _, first = np.unique(self.scenes[mixed], return_index=True)
            known |= ~np.isin(np.arange(len(mixed)), first)
        else:  # what is known already
            known = ~known
        return mixed[np.argsort(known, kind="stable")]


@dataclass(frozen=True)
class Scenes:
    """Trains :class:`Asked`."""

    scenes: np.ndarray

    def __call__(
        self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
    ) -> Asked:
        return Asked(self.scenes, frozenset(self.scenes[labeled].tolist()), sampler, seed)
