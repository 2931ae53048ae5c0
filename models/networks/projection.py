"""Features of a task network in the directions in which they vary most, for networks that learn from them.

Axis letters: B batch, N rows, F features, P directions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.geometry.directions import main_basis


class Projection(nn.Module):
    """(x - mean) basis / spread: features (B, F) -> (B, P) float32, of variance 1 on average over the directions."""

    def __init__(self, features: int, directions: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.basis: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("basis", torch.eye(features, directions))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, P)."""
        return ((x.float() - self.mean) @ self.basis) / self.spread

    @torch.no_grad()
    def settle(self, features: Tensor, generator: torch.Generator) -> None:
        """Take the mean, the main directions and the spread of features (N, F), N >= 1; `generator` on the CPU."""
        mean = features.mean(dim=0)
        centered = features - mean
        basis = main_basis(centered, self.basis.shape[1], generator)
        spread = (centered @ basis).square().mean().sqrt()
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.spread.copy_(spread if spread > 0 else torch.ones(()))
