"""The directions in which points vary most.

Axis letters: N points, D dimensions, R directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 4
LEAST = 1e-6  # of a direction in which nothing varies, so that it stays one
DIRECTIONS = 64  # in which points are compared; what varies less is left out


def main_basis(points: Tensor, directions: int, generator: torch.Generator) -> Tensor:
    """An orthonormal basis (D, R) of the directions in which centered points (N, D) vary most, R <= D: by subspace
    iteration from a random start (Halko, Martinsson & Tropp 2011). `generator` lives on the CPU.
    """
    basis = torch.randn(points.shape[1], directions, generator=generator).to(points.device)
    for _ in range(ITERATIONS):
        basis, _ = torch.linalg.qr(points.T @ (points @ basis) + LEAST * basis)
    return basis


def main_directions(points: Tensor, generator: torch.Generator) -> Tensor:
    """Points (N, D) standardized and in the at most `DIRECTIONS` directions in which they vary most, (N, R)."""
    spread, mean = torch.std_mean(points, dim=0, correction=0)
    standard = (points - mean) / torch.where(spread > 1e-3 * spread.max().clamp(min=1e-12), spread, 1.0)
    wanted = min(DIRECTIONS, *standard.shape)
    return standard @ main_basis(standard, wanted, generator)
