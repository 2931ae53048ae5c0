"""Typical images: one of each cluster, the large clusters first."""

from __future__ import annotations

import numpy as np
import torch

from models.data import Runtime
from models.geometry.directions import main_directions
from models.geometry.typical import cluster, typical_first, typicality

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
