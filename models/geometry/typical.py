"""Typical images, each of a part of the pool of its own.

Hacohen, Dekel & Weinshall, Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets (ICML 2022),
"TypiClust": of b clusters the most typical image each. How many labels there will be is not known here, so the
clusters get finer on the way: what was chosen among few large ones stays chosen among many small ones.

Axis letters: N points, D coordinates, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from models.data import Runtime
from models.geometry.directions import main_directions
from models.geometry.neighbor_index import NeighborIndex
from models.geometry.space import Read, Space, in_parts

ROUNDS: Sequence[int] = (10, 20, 50, 100, 200, 400)
"""Numbers of clusters, one after the other."""
NEIGHBORS = 20  # of a point, in its cluster, that say how typical it is
LARGEST_SAMPLE = 5_000  # points that are clustered by `typical_first`
LARGEST_WHOLE = 20_000  # points that `typical_of_all` is given: each is asked for its neighbors, in each cycle
CLUSTERED = 20_000  # of all points of a large pool: so many find the clusters
ASKED = 1 << 15  # points whose neighbors are looked for at a time
PROBED = 12  # cells that neighbors are looked for in
LLOYD_STEPS = 15
_CHUNK = 1 << 22


def typical_first(points: np.ndarray, chosen: int, runtime: Runtime, phase: str) -> np.ndarray:
    """Some of the points (N + `chosen`, D), the first to be labeled first, (K,) int64; the last ones are labeled.

    Each round makes more clusters than the one before it. Of every cluster without a chosen point the most typical one
    is next, the largest cluster first. Reports runtime.progress(phase, rounds, all of them).
    """
    generator = runtime.generator("typical clusters", "cpu")
    coordinates = main_directions(torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)), generator)

    def most_typical(members: Tensor) -> int:
        return int(typicality(coordinates[members]).argmax())

    def of_clusters(many: int) -> Tensor:
        return cluster(coordinates, many, generator)

    return _one_of_each(len(points), chosen, of_clusters, most_typical, runtime, phase)


def typical_of_all(rows: np.ndarray, chosen: np.ndarray, read: Read, runtime: Runtime, phase: str) -> np.ndarray:
    """The same of rows (N,) and `chosen` ones (L,), that have a label, of a pool of any size: positions (K,) in `rows`.

    Clusters are found by some of the rows. How typical a row is goes by its neighbors in the whole pool, found by an
    index, where `typical_first` looks for them in the row's cluster. Memory: some hundred numbers a row.
    """
    everything = np.concatenate([rows, chosen])
    space = Space.of(everything, read, runtime, standard=True)
    coordinates = in_parts(everything, read, space.coordinates, runtime, "embed")
    known = typicality_by_index(NeighborIndex.over(space, coordinates, runtime), coordinates, runtime)
    generator = runtime.generator("typical clusters", "cpu")

    def of_clusters(many: int) -> Tensor:
        some = torch.randperm(len(coordinates), generator=generator)[:CLUSTERED]
        centers = _centers(coordinates[some], many, generator)[0]
        return _nearest(coordinates, centers)

    def most_typical(members: Tensor) -> int:
        return int(known[members].argmax())

    return _one_of_each(len(everything), len(chosen), of_clusters, most_typical, runtime, phase)


def typicality_by_index(index: NeighborIndex, coordinates: Tensor, runtime: Runtime) -> Tensor:
    """`typicality` of points (N, D) by the `NEIGHBORS` that an index of them finds: (N,). Reports
    runtime.progress("neighbors", points, N)."""
    found = torch.empty(len(coordinates))
    for start in range(0, len(coordinates), ASKED):
        squared, _ = index.roughly(coordinates[start : start + ASKED], NEIGHBORS + 1, probed=PROBED)
        away = squared.clamp_min(0.0).sqrt()
        beside = away.isfinite().sum(dim=1) - 1  # a cell may have fewer
        total = away.masked_fill(~away.isfinite(), 0.0).sum(dim=1)
        found[start : start + ASKED] = (beside / total).masked_fill(beside < min(NEIGHBORS, len(coordinates) - 1), 0.0)
        runtime.progress("neighbors", min(start + ASKED, len(coordinates)), len(coordinates))
    return found


def _one_of_each(
    count: int,
    chosen: int,
    of_clusters: Callable[[int], Tensor],
    most_typical: Callable[[Tensor], int],
    runtime: Runtime,
    phase: str,
) -> np.ndarray:
    """The order of `typical_first`: of_clusters: the cluster (N,) of each point, of so many; most_typical: which of the
    positions in a cluster comes first."""
    taken = torch.arange(count) >= count - chosen
    order: list[int] = []
    for number, clusters in enumerate(ROUNDS):
        if clusters > count:
            break
        of_point = of_clusters(clusters)
        sizes = torch.bincount(of_point, minlength=clusters)
        covered = torch.bincount(of_point[taken], minlength=clusters) > 0
        for index in torch.argsort(sizes, descending=True, stable=True).tolist():
            if covered[index] or not sizes[index]:
                continue
            members = torch.nonzero(of_point == index).squeeze(1)
            best = int(members[most_typical(members)])
            order.append(best)
            taken[best] = True
        runtime.progress(phase, number + 1, len(ROUNDS))
    return np.array(order, dtype=np.int64)


def cluster(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """The cluster of each point (N,), int64, from k-means: seeded by k-means++ (Arthur & Vassilvitskii 2007)."""
    return _centers(points, clusters, generator)[1]


def _centers(points: Tensor, clusters: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The centers (K, D) of the clusters, and the cluster of each point (N,)."""
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
    return centers, of_point


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
