"""Features in the directions in which they vary most, of a pool that is too large to be held in memory as it is.

Axis letters: N rows, F features, P directions, B rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.directions import DIRECTIONS, main_basis

Read = Callable[[np.ndarray], Tensor]
"""Numbers (B,) of rows -> their features (B, F) float32 on the CPU. Ascending numbers are read fastest."""

PART = 8192  # rows read at a time
FITTED = 10_000  # rows that the directions are found by


@dataclass(frozen=True)
class Space:
    """(x - mean) / scale, in the directions of `basis`: mean (F,), scale (F,), basis (F, P), all on the CPU."""

    mean: Tensor
    scale: Tensor
    basis: Tensor

    @classmethod
    def of(cls, rows: np.ndarray, read: Read, runtime: Runtime, standard: bool = False) -> Space:
        """That of the rows (N,), by at most `FITTED` of them, drawn by chance. standard: each feature is divided by its
        standard deviation, as in `models.geometry.directions.main_directions`; else distances are as they were, but for
        what lies in none of the at most `DIRECTIONS` directions.
        """
        some = read(np.sort(runtime.rng("space").permutation(rows)[:FITTED]))
        spread, mean = torch.std_mean(some, dim=0, correction=0)
        scale = torch.ones_like(spread)
        if standard:
            scale = torch.where(spread > 1e-3 * spread.max().clamp(min=1e-12), spread, scale)
        centered = (some - mean) / scale
        return cls(mean, scale, main_basis(centered, min(DIRECTIONS, *some.shape), runtime.generator("space", "cpu")))

    def centered(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, F): in this space, before anything is left out."""
        return (features.cpu().float() - self.mean) / self.scale

    def coordinates(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, P) float32."""
        turned = self.basis / self.scale[:, None]
        return torch.addmm(-(self.mean @ turned), features.cpu().float(), turned)

    def with_rest(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, P + 1): the coordinates, and how long the part is that lies in none of the directions. So two
        rows are at least as far from each other as these are."""
        centered = self.centered(features)
        inside = centered @ self.basis
        rest = (centered.square().sum(1) - inside.square().sum(1)).clamp_min_(0.0).sqrt_()
        return torch.cat([inside, rest[:, None]], dim=1)


def in_parts(rows: np.ndarray, read: Read, compute: Callable[[Tensor], Tensor], runtime: Runtime, phase: str) -> Tensor:
    """`compute`, (B, F) -> (B, ...), of all rows (N,), a part at a time: (N, ...) in their order. Reports
    runtime.progress(phase, rows done, N)."""
    found: Tensor | None = None
    order = np.argsort(rows, kind="stable")
    for start in range(0, len(rows), PART):
        part = order[start : start + PART]
        values = compute(read(rows[part]))
        if found is None:
            found = torch.empty(len(rows), *values.shape[1:], dtype=values.dtype)
        found[torch.from_numpy(part)] = values
        runtime.progress(phase, start + len(part), len(rows))
    return torch.empty(0) if found is None else found
