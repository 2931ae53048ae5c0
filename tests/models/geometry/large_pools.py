"""Pools of made up features for the tests of what goes through large ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime

CPU = torch.device("cpu")
WIDTH = 80


def clustered(count: int, seed: int = 0, clusters: int = 40) -> Tensor:
    """(N, 80) float32, in clusters, away from 0, with more directions than an index keeps."""
    draw = torch.Generator().manual_seed(seed)
    spread = torch.arange(1, WIDTH + 1) ** -0.6
    centers = 3.0 * torch.randn(clusters, WIDTH, generator=draw) * spread
    of_row = torch.randint(clusters, (count,), generator=draw)
    return 5.0 + centers[of_row] + torch.randn(count, WIDTH, generator=draw) * spread


class Pool:
    """Features that are read by number; `read` counts the rows."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.rows_read = features, 0

    def __call__(self, rows: np.ndarray) -> Tensor:
        self.rows_read += len(rows)
        return self.features[torch.from_numpy(rows)]


def runtime(seed: int = 0) -> Runtime:
    return Runtime(CPU, seed)
