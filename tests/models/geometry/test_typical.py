"""Typical images: one of each cluster, the large clusters first."""

from __future__ import annotations

import numpy as np
import torch

from models.data import Runtime
from models.geometry.directions import main_directions
from models.geometry.neighbor_index import NeighborIndex
from models.geometry.space import Space
from models.geometry.typical import cluster, typical_first, typical_of_all, typicality, typicality_by_index
from tests.models.geometry.large_pools import Pool, clustered

CPU = torch.device("cpu")
SIZES = [40, 25, 18, 14, 12, 11, 10, 9, 8, 7]  # of ten clusters, largest first


def blobs(sizes: list[int] = SIZES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 12) in clusters far from each other, shuffled, and the cluster of each."""
    rng = np.random.default_rng(seed)
    of_point = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = 30 * np.eye(12)[: len(sizes)]
    return centers[of_point] + rng.normal(0, 1, (len(of_point), 12)), of_point


def first(points: np.ndarray, count: int, chosen: int = 0, seed: int = 0) -> np.ndarray:
    return typical_first(points, chosen, Runtime(CPU, seed), "score")[:count]


def test_nothing_is_picked_twice_and_a_seed_decides() -> None:
    points, _ = blobs()
    torch.manual_seed(3)
    found = typical_first(points, 0, Runtime(CPU, 5), "score")
    assert len(set(found.tolist())) == len(found)
    torch.manual_seed(4)  # no global generator takes part
    assert (found == typical_first(points, 0, Runtime(CPU, 5), "score")).all()


def test_the_first_are_of_a_cluster_each() -> None:
    """Ten of them in the round of ten clusters; k-means may take two for one and cut another in two."""
    points, of_point = blobs()
    assert len(set(of_point[first(points, 10)])) >= 9


def test_large_clusters_come_first() -> None:
    points, of_point = blobs([60, 30] + [6] * 8)
    assert set(of_point[first(points, 3)]) >= {0, 1}


def test_a_cluster_with_a_label_waits() -> None:
    points, of_point = blobs()
    labeled = points[of_point == 0][:2]
    found = first(np.concatenate([points, labeled]), 8, chosen=2)
    assert 0 not in of_point[found]


def test_the_typical_point_of_a_cluster_is_in_its_middle() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(np.concatenate([rng.normal(0, 1, (60, 3)), [[6.0, 6.0, 6.0]]]))
    score = typicality(points)
    assert int(score.argmin()) == 60
    assert float(points[score.argmax()].norm()) < float(points.norm(dim=1).median())


def test_typicality_is_one_over_the_mean_distance() -> None:
    """Worked out by hand: 0, 1 and 3 on a line."""
    score = typicality(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64))
    np.testing.assert_allclose(score, [1 / 2, 1 / 1.5, 1 / 2.5])


def test_clusters_far_apart_are_found() -> None:
    points, of_point = blobs([30, 30, 30])
    found = cluster(torch.from_numpy(points), 3, torch.Generator().manual_seed(0)).numpy()
    assert len({(mine, theirs) for mine, theirs in zip(found, of_point, strict=True)}) == 3


def test_a_direction_without_variation_is_left_alone() -> None:
    points = torch.cat([torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.ones(20, 1)], dim=1)
    assert torch.isfinite(main_directions(points, torch.Generator().manual_seed(0))).all()


def test_of_a_whole_pool_the_first_are_of_a_cluster_each_and_in_its_middle() -> None:
    points, of_point = blobs([400, 250, 180, 140, 120, 110, 100, 90, 80, 70])
    pool = Pool(torch.from_numpy(points).float())
    rows = np.arange(len(points))
    found = typical_of_all(rows, rows[:0], pool, Runtime(CPU, 0), "score")
    assert len(set(found.tolist())) == len(found)
    assert len(set(of_point[found[:10]])) >= 8  # k-means may take two for one and cut another in two
    assert {0, 1} <= set(of_point[found[:4]])
    middles = torch.stack([torch.from_numpy(points[of_point == one]).mean(0) for one in range(10)])
    away = (torch.from_numpy(points) - middles[of_point]).norm(dim=1)
    assert away[found[:10]].mean() < 0.75 * away.mean()


def test_of_a_whole_pool_a_cluster_with_a_label_waits() -> None:
    points, of_point = blobs([400, 250, 180, 140, 120, 110, 100, 90, 80, 70])
    rows = np.arange(len(points))
    labeled = rows[of_point == 0][:2]
    rest = np.setdiff1d(rows, labeled)
    found = typical_of_all(rest, labeled, Pool(torch.from_numpy(points).float()), Runtime(CPU, 0), "score")
    assert 0 not in of_point[rest[found[:8]]]


def test_typicality_by_an_index_is_nearly_that_of_all_neighbors() -> None:
    pool = Pool(clustered(2000))  # of more, `typicality` takes a part
    runtime, rows = Runtime(CPU, 0), np.arange(2000)
    space = Space.of(rows, pool, runtime, standard=True)
    coordinates = space.coordinates(pool.features)
    found = typicality_by_index(NeighborIndex.over(space, coordinates, runtime), coordinates, runtime)
    exact = typicality(coordinates)
    assert (found <= exact * 1.01).all(), "neighbors that are missed are replaced by farther ones"
    ranks = [values.argsort().argsort().float() for values in (found, exact)]
    assert float(torch.corrcoef(torch.stack(ranks))[0, 1]) > 0.9


def test_copies_are_as_typical_as_can_be() -> None:
    pool = Pool(torch.cat([clustered(300), clustered(1).expand(60, -1)]))
    space = Space.of(np.arange(360), pool, Runtime(CPU, 0))
    coordinates = space.coordinates(pool.features)
    found = typicality_by_index(NeighborIndex.over(space, coordinates, Runtime(CPU, 0)), coordinates, Runtime(CPU, 0))
    assert found[300:].min() > found[:300].max()
