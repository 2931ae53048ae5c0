"""The first images to label: each adds the most to what those before it are near to."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from models.data import Runtime
from models.geometry import herding
from models.geometry.herding import FARTHEST, herd, herding_order, kernel, smallest_distance

CPU = torch.device("cpu")


def blobs(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 12) in clusters far from each other, shuffled, and the cluster of each."""
    rng = np.random.default_rng(seed)
    of_point = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = 30 * np.eye(12)[: len(sizes)]
    return centers[of_point] + rng.normal(0, 1, (len(of_point), 12)), of_point


def picks(points: torch.Tensor, chosen: int, count: int, *how: Any) -> list[int]:
    points = torch.nn.functional.normalize(points)
    found: list[int] = herd(points, chosen, count, lambda done, total: None, *how).tolist()
    return found


def first(points: np.ndarray, count: int, chosen: int = 0, seed: int = 0) -> np.ndarray:
    return np.argsort(herding_order(points, chosen, Runtime(CPU, seed)))[:count]


def coverage(points: torch.Tensor, chosen: list[int], weights: torch.Tensor, sigma: float = 1.0) -> float:
    """The generalized coverage of the points (N, D), by its definition."""
    points = torch.nn.functional.normalize(points)
    covered = (-(torch.cdist(points, points[chosen]) / sigma).square()).exp().amax(dim=1)
    return float((weights * covered).mean())


@pytest.mark.parametrize(("chosen", "sigma"), [(0, 1.0), (7, 1.0), (7, 0.3)])
def test_each_pick_is_the_one_that_adds_the_most(chosen: int, sigma: float) -> None:
    """Picks are found with the gains of earlier ones as bounds; here, all gains are computed for each."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(150, 6, generator=generator, dtype=torch.float64)
    weights = torch.rand(150, generator=generator, dtype=torch.float64)
    had = list(range(150 - chosen, 150))
    for pick in picks(points, chosen, 25, weights, sigma):
        free = [one for one in range(150 - chosen) if one not in had]
        best = max(coverage(points, [*had, one], weights, sigma) for one in free)
        assert coverage(points, [*had, pick], weights, sigma) == pytest.approx(best, abs=1e-12)
        had.append(pick)


def test_the_coverage_is_near_the_best_one() -> None:
    """1 - 1/e of it at least, as of every greedy choice for a monotone submodular function (Nemhauser et al. 1978)."""
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    best = max(coverage(points, list(some), torch.ones(12)) for some in combinations(range(12), 3))
    assert coverage(points, picks(points, 0, 3), torch.ones(12)) >= (1 - np.exp(-1)) * best


def test_the_kernel_worked_out_by_hand() -> None:
    """Of perpendicular points |x - s|² is 2."""
    np.testing.assert_allclose(kernel(torch.eye(2), torch.eye(2)), [[1, np.exp(-2)], [np.exp(-2), 1]], rtol=1e-6)
    np.testing.assert_allclose(kernel(torch.eye(2), torch.eye(2), 2.0)[0], [1, np.exp(-0.5)], rtol=1e-6)


def test_what_is_far_away_counts_for_nothing_and_is_no_subnormal_number() -> None:
    """exp(-2 / 0.1²) = 1.4e-87 is too small for float32; its neighborhood takes ten times as long to compute."""
    near, far = kernel(torch.eye(2), torch.eye(2), 0.1)[0]
    assert near == 1 and torch.finfo(torch.float32).tiny < far == FARTHEST


def test_the_smallest_distance_is_between_different_points() -> None:
    right, up = [1.0, 0.0], [0.0, 1.0]
    assert smallest_distance(torch.tensor([right, right, up, [-1.0, 0.0]])) == pytest.approx(np.sqrt(2))
    assert smallest_distance(torch.tensor([right, right])) == smallest_distance(torch.tensor([right])) == 1.0


def test_nothing_is_picked_twice_and_never_more_than_there_is() -> None:
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(3))
    points[10:] = points[0]
    assert sorted(picks(points, 5, 400)) == list(range(25))


def test_ranks_are_all_different_and_the_same_for_a_seed() -> None:
    points, _ = blobs([20, 20, 20])
    torch.manual_seed(3)
    ranks = herding_order(points, 0, Runtime(CPU, 5))
    assert sorted(ranks.tolist()) == list(range(len(points)))
    torch.manual_seed(4)  # no global generator takes part
    assert (ranks == herding_order(points, 0, Runtime(CPU, 5))).all()


def test_the_first_are_of_a_cluster_each() -> None:
    points, of_point = blobs([40, 25, 18, 14, 12, 11, 10, 9, 8, 7])
    assert len(set(of_point[first(points, 10)])) == 10


def test_a_cluster_with_a_label_waits() -> None:
    points, of_point = blobs([40, 25, 18, 14, 12, 11])
    labeled = points[of_point == 0][:2]
    assert 0 not in of_point[first(np.concatenate([points, labeled]), 5, chosen=2)]


@pytest.mark.parametrize("count", [1, 2, 9, 11])
def test_few_images_and_copies_of_one_have_an_order_too(count: int) -> None:
    for points in (np.random.default_rng(0).normal(size=(count, 5)), np.ones((count, 5))):
        assert sorted(herding_order(points, 0, Runtime(CPU, 0)).tolist()) == list(range(count))


def test_no_image_has_no_order() -> None:
    assert herding_order(np.empty((0, 5)), 0, Runtime(CPU, 0)).tolist() == []


def test_of_a_large_pool_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "LARGEST_SAMPLE", 40)
    points, of_point = blobs([100, 100, 100])
    ranks = herding_order(points, 0, Runtime(CPU, 0))
    assert sorted(ranks.tolist()) == list(range(300))
    assert len(set(of_point[np.argsort(ranks)[:3]])) == 3
