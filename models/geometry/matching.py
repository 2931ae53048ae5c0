"""The real images nearest to generated ones, none of them twice.

Axis letters: G generated images, N rows of the pool, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor

PART = 4096  # rows compared at a time


class NearestRows:
    """The nearest rows of each generated image, gathered over parts of the pool.

    As many are kept of each as there are generated images, because in the worst case the others take all but the last.
    So memory does not grow with the pool. Exact at any size: an index would have to compare each row with hundreds of
    others before it can be asked, and here a row is compared with the generated images alone, once a cycle
    (`python -m benchmarks bench --only matching`).
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
