"""The images that a sampler picked for the head of the queue, and how they are found again among others.

Axis letters: K picks, N rows, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

SAME = 5e-2  # how far, as a share of their length, a pick's features may move between devices and precisions


@dataclass(frozen=True)
class Picks:
    """rows (K,) int64: the picks' rows in the pool, the first to be labeled first. features (K, F) float32: what the
    task network says of them. Both on the CPU.
    """

    rows: Tensor
    features: Tensor

    @classmethod
    def of(cls, rows: np.ndarray, features: np.ndarray) -> Self:
        return cls(torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(features.astype(np.float32)))

    def __len__(self) -> int:
        return len(self.rows)

    def candidates(self, rows: np.ndarray) -> np.ndarray:
        """The positions in `rows` (N,) that have the number of a pick."""
        return np.flatnonzero(np.isin(rows, self.rows.numpy()))

    def places(self, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        """For each of `rows` (N,), which are all `candidates`, its place among the picks, (N,) int64: -1 where its
        features (N, F) are not the pick's. Numbers alone mean nothing in another array of images.
        """
        order = np.argsort(self.rows.numpy())
        place = order[np.searchsorted(self.rows.numpy(), rows, sorter=order)]
        if features.shape[1] != self.features.shape[1]:
            return np.full(len(rows), -1)
        kept = self.features.numpy()[place]
        same = np.linalg.norm(features - kept, axis=1) <= SAME * np.linalg.norm(kept, axis=1)
        return np.where(same, place, -1)
