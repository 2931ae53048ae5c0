"""Typical images, each of a part of the pool of its own.

Hacohen, Dekel & Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets (ICML 2022),
"TypiClust": of b clusters the most typical image each. How many labels there will be is not known here, so the
clusters get finer on the way: what was chosen among few large ones stays chosen among many small ones.

Axis letters: N points, D coordinates, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.directions import main_directions

ROUNDS: Sequence[int] = (10, 20, 50, 100, 200, 400)
"""Numbers of clusters, one after the other."""
NEIGHBORS = 20  # of a point, in its cluster, that say how typical it is
LARGEST_SAMPLE = 5_000  # points that are clustered
LLOYD_STEPS = 15
_CHUNK = 1 << 22


def typical_first(points: np.ndarray, chosen: int, runtime: Runtime, phase: str) -> np.ndarray:
    """Some of the points (N + `chosen`, D), the first to be labeled first, (K,) int64; the last ones are labeled.

    Each round makes more clusters than the one before it. Of every cluster without a chosen point the most typical one
    is next, the largest cluster first. Reports runtime.progress(phase, rounds, all of them).
    """
    generator = runtime.generator("typical clusters", "cpu")
    coordinates = main_directions(torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)), generator)
    taken = torch.arange(len(points)) >= len(points) - chosen
    order: list[int] = []
    for number, clusters in enumerate(ROUNDS):
        if clusters > len(points):
            break
        of_point = cluster(coordinates, clusters, generator)
        sizes = torch.bincount(of_point, minlength=clusters)
        covered = torch.bincount(of_point[taken], minlength=clusters) > 0
        for index in torch.argsort(sizes, descending=True, stable=True).tolist():
            if covered[index] or not sizes[index]:
                continue
            members = torch.nonzero(of_point == index).squeeze(1)
            best = int(members[int(typicality(coordinates[members]).argmax())])
            order.append(best)
            taken[best] = True
        runtime.progress(phase, number + 1, len(ROUNDS))
    return np.array(order, dtype=np.int64)


def cluster(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """The cluster of each point (N,), int64, from k-means: seeded by k-means++ (Arthur & Vassilvitskii 2007)."""
    centers = _seeds(points, clusters, generator)
    of_point = _nearest(points, centers)
    for _ in range(LLOYD_STEPS):
        sums = torch.zeros_like(centers).index_add_(0, of_point, points)
        sizes = torch.bincount(of_point, minlength=clusters)[:, None]
        centers = torch.where(sizes > 0, sums / sizes.clamp(min=1), centers)
        following = _nearest(points, centers)
        if torch.equal(following, of_point):
            break
        of_point = following
    return of_point


def typicality(points: Tensor) -> Tensor:
    """1 / the mean distance to the `NEIGHBORS` nearest of the other points, (N,); infinite among copies (TypiClust,
    equation 1). Of more points than fit, by those of a part of them at regular intervals."""
    others = points if len(points) ** 2 <= _CHUNK else points[:: -(-(len(points) ** 2) // _CHUNK)]
    nearest = torch.cdist(points, others).topk(min(NEIGHBORS + 1, len(others)), largest=False).values
    # The nearest is the point itself, where it is among the others: 0, and left out of the mean.
    return 1.0 / (nearest.sum(dim=1) / max(1, nearest.shape[1] - 1))


def _seeds(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    first = int(torch.randint(len(points), (), generator=generator))
    chosen = [first]
    squares = (points - points[first]).square().sum(dim=1)
    for _ in range(clusters - 1):
        if float(squares.sum()) <= 0:
            chosen.append(int(torch.randint(len(points), (), generator=generator)))
            continue
        chosen.append(int(torch.multinomial(squares.clamp(min=0.0), 1, generator=generator)))
        squares = torch.minimum(squares, (points - points[chosen[-1]]).square().sum(dim=1))
    return points[torch.tensor(chosen)].clone()


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    step = max(1, _CHUNK // len(centers))
    parts = [torch.cdist(part, centers).argmin(dim=1) for part in points.split(step)]
    return torch.cat(parts)
