"""How far two sets of points cover each other.

Axis letters: N real points, G generated points, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBORS = 3


def precision_and_recall(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The share of generated points (G, F) that lie among the real ones (N, F), and of real ones among the generated.

    A point lies among others if it is no further from one of them than that one's third neighbor among its own kind
    (Kynkäänniemi et al., NeurIPS 2019, equations 1 and 2). A set of a single point covers nothing.
    """
    real, fake = real.double(), fake.double()
    between = torch.cdist(real, fake)
    precision = (between <= _reach(real)[:, None]).any(dim=0).double().mean()
    recall = (between <= _reach(fake)[None, :]).any(dim=1).double().mean()
    return float(precision), float(recall)


def _reach(points: Tensor) -> Tensor:
    """The distance of each point (N, F) to its third neighbor, or to the last if there are fewer: (N,)."""
    distances = torch.cdist(points, points)
    distances.fill_diagonal_(-1.0)  # itself, also where another is at the same place
    rank = min(NEIGHBORS + 1, len(points))
    return distances.kthvalue(rank, dim=1).values
