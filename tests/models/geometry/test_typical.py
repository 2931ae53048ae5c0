"""The first images to label: one of each cluster, the typical one, the large clusters first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data import Runtime
from models.geometry import typical
from models.geometry.typical import cluster, main_directions, typical_order, typicality

CPU = torch.device("cpu")
SIZES = [40, 25, 18, 14, 12, 11, 10, 9, 8, 7]  # of ten clusters, largest first


def blobs(sizes: list[int] = SIZES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 12) in clusters far from each other, shuffled, and the cluster of each."""
    rng = np.random.default_rng(seed)
    of_point = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = 30 * np.eye(12)[: len(sizes)]
    return centers[of_point] + rng.normal(0, 1, (len(of_point), 12)), of_point


def first(points: np.ndarray, count: int, chosen: int = 0, seed: int = 0) -> np.ndarray:
    return np.argsort(typical_order(points, chosen, Runtime(CPU, seed)))[:count]


def test_ranks_are_all_different_and_the_same_for_a_seed() -> None:
    points, _ = blobs()
    torch.manual_seed(3)
    ranks = typical_order(points, 0, Runtime(CPU, 5))
    assert sorted(ranks.tolist()) == list(range(len(points)))
    torch.manual_seed(4)  # no global generator takes part
    assert (ranks == typical_order(points, 0, Runtime(CPU, 5))).all()


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


@pytest.mark.parametrize("count", [1, 2, 9, 11])
def test_few_images_and_copies_of_one_have_an_order_too(count: int) -> None:
    for points in (np.random.default_rng(0).normal(size=(count, 5)), np.ones((count, 5))):
        assert sorted(typical_order(points, 0, Runtime(CPU, 0)).tolist()) == list(range(count))


def test_no_image_has_no_order() -> None:
    assert typical_order(np.empty((0, 5)), 0, Runtime(CPU, 0)).tolist() == []


def test_of_a_large_pool_a_sample_is_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typical, "LARGEST_SAMPLE", 40)
    points, of_point = blobs([100, 100, 100])
    ranks = typical_order(points, 0, Runtime(CPU, 0))
    assert sorted(ranks.tolist()) == list(range(300))
    assert len(set(of_point[np.argsort(ranks)[:10]])) == 3
