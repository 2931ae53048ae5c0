"""The real images nearest to generated ones, none of them twice.

Axis letters: G generated images, N rows of the pool, F features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.geometry.neighbor_index import NOBODY, NeighborIndex
from models.geometry.space import Read

PART = 4096  # rows compared at a time
LARGEST_EXACT = 200_000  # rows of a pool of which each is compared with each generated image
SHORTLIST = 64  # rows that each generated image has to choose from, where an index finds them
LONGER = 8  # times as many for one whose rows are all taken
PROBED = 64  # cells of the index that they are looked for in


class NearestRows:
    """The nearest rows of each generated image, gathered over parts of the pool.

    As many are kept of each as there are generated images, because in the worst case the others take all but the last.
    So memory does not grow with the pool. Exact at any size (`python -m benchmarks bench --only matching`); of more
    than `LARGEST_EXACT` rows whose features are kept, see `matches_by_index`.
    """

    def __init__(self, wanted: Tensor) -> None:
        """wanted: (G, F), float."""
        self._wanted = wanted.double()
        self._distances = torch.empty((len(wanted), 0), dtype=torch.float64, device=wanted.device)
        self._rows = torch.empty((len(wanted), 0), dtype=torch.int64, device=wanted.device)

    def add(self, features: Tensor, rows: Tensor) -> None:
        """Features (n, F) of rows (n,) int64 of the pool, all on one device."""
        for part, numbers in zip(features.split(PART), rows.split(PART), strict=True):
            distances = torch.cdist(self._wanted, part.double())
            if self._distances.shape[1] == len(self._wanted):  # of a large pool, hardly any row is still near enough
                near = (distances < self._distances[:, -1:]).any(dim=0)
                distances, numbers = distances[:, near], numbers[near]
            distances = torch.cat([self._distances, distances], dim=1)
            numbers = torch.cat([self._rows, numbers.expand(len(self._wanted), -1)], dim=1)
            nearest = distances.topk(min(len(self._wanted), distances.shape[1]), dim=1, largest=False)
            self._distances, self._rows = nearest.values, numbers.gather(1, nearest.indices)

    def unique(self) -> tuple[Tensor, Tensor]:
        """One row for each generated image, in their order, as long as there are rows: each the nearest that is not
        taken yet. Returns the rows (K,) int64, K <= G, and their distances (K,)."""
        taken: set[int] = set()
        found, distances = [], []
        for numbers, away in zip(self._rows.tolist(), self._distances.tolist(), strict=True):
            free = next((place for place, row in enumerate(numbers) if row not in taken), None)
            if free is None:
                break
            taken.add(numbers[free])
            found.append(numbers[free])
            distances.append(away[free])
        device = self._rows.device
        return torch.tensor(found, dtype=torch.int64, device=device), torch.tensor(
            distances, dtype=torch.float64, device=device
        )


def matches_by_index(index: NeighborIndex, wanted: Tensor, rows: np.ndarray, read: Read) -> tuple[Tensor, Tensor]:
    """What `NearestRows.unique` returns, on the CPU, of rows (N,) that are in the index, for generated images (G, F).

    Only a few cells of the index are looked through, so it takes no pass over the pool; which rows are nearest in
    these goes by all features. `python -m benchmarks neighbors` measures how often it is the same row. One that finds
    no free row in its cells is left out.
    """
    allowed = None if len(rows) == len(index.rows) else rows
    _, shortlists = index.nearest(wanted, SHORTLIST, read, allowed, PROBED)
    taken: set[int] = set()
    found, distances = [], []
    for one, shortlist in zip(wanted.cpu().double(), shortlists.tolist(), strict=True):
        free, length = _first_free(shortlist, taken), SHORTLIST
        while free is None and length < min(len(rows), len(taken) + SHORTLIST):
            length *= LONGER
            free = _first_free(index.nearest(one[None], length, read, allowed, PROBED)[1][0].tolist(), taken)
        if free is not None:
            taken.add(free)
            found.append(free)
            distances.append(float((read(np.array([free]))[0].double() - one).norm()))
    return torch.tensor(found, dtype=torch.int64), torch.tensor(distances, dtype=torch.float64)


def _first_free(shortlist: list[int], taken: set[int]) -> int | None:
    return next((row for row in shortlist if row != NOBODY and row not in taken), None)
