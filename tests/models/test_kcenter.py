"""k-center greedy against brute force and against its definition."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from models.data import Runtime
from models.kcenter import k_center_greedy, spread_order

CPU = torch.device("cpu")


def radius(points: torch.Tensor, centers: torch.Tensor) -> float:
    return float(torch.cdist(points, centers).min(1).values.max())


def test_the_radius_is_at_most_twice_the_best() -> None:
    # Gonzalez 1985: greedy is a 2-approximation. The optimum by brute force over all choices of centers.
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        points = torch.rand(11, 2, generator=generator)
        best = min(radius(points, points[list(c)]) for c in combinations(range(11), 3))
        chosen, _ = k_center_greedy(points, 3)
        assert radius(points, points[chosen]) <= 2 * best + 1e-5


def test_equals_the_dense_reference() -> None:
    points = torch.rand(60, 5, generator=torch.Generator().manual_seed(1))
    centers = points[:4] + 0.01
    chosen, nearest = k_center_greedy(points, 10, centers)
    everything = centers
    for index in chosen.tolist():
        assert index == int(torch.cdist(points, everything).min(1).values.argmax())
        everything = torch.cat([everything, points[index : index + 1]])
    torch.testing.assert_close(nearest.sqrt(), torch.cdist(points, everything).min(1).values, atol=2e-3, rtol=1e-3)


def test_no_pick_repeats_even_among_duplicates() -> None:
    points = torch.ones(8, 3)
    chosen, nearest = k_center_greedy(points, 20)
    assert sorted(chosen.tolist()) == list(range(8)) and (nearest == 0).all()


def test_duplicates_of_labelled_points_come_last() -> None:
    points = torch.rand(20, 4, generator=torch.Generator().manual_seed(2))
    chosen, _ = k_center_greedy(points, 20, points[[3, 7]])
    assert set(chosen[-2:].tolist()) == {3, 7}


def test_the_radius_never_grows() -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(3))
    chosen, _ = k_center_greedy(points, 50)
    radii = [radius(points, points[chosen[: k + 1]]) for k in range(50)]
    assert all(later <= sooner + 1e-6 for sooner, later in pairwise(radii))


def test_spread_order_ranks_one_of_each_kind_first() -> None:
    # Three flat colours, very unequal in number: the first three ranks must be one of each.
    colours = np.array([0] * 40 + [120] * 5 + [255] * 3, dtype=np.uint8)
    pixels = np.broadcast_to(colours[:, None, None, None], (48, 16, 16, 3)).copy()
    ranks = spread_order(pixels, np.arange(48), np.empty(0, dtype=np.int64), Runtime(CPU, seed=0))
    assert sorted(ranks.tolist()) == list(range(48))
    assert sorted(colours[np.argsort(ranks)[:3]].tolist()) == [0, 120, 255]


def test_spread_order_keeps_away_from_what_is_labelled() -> None:
    colours = np.array([0] * 10 + [255] * 10, dtype=np.uint8)
    pixels = np.broadcast_to(colours[:, None, None, None], (20, 16, 16, 3)).copy()
    ranks = spread_order(pixels, np.arange(1, 20), np.array([0]), Runtime(CPU, seed=0))
    assert colours[1:][np.argmin(ranks)] == 255


def test_a_large_pool_is_ranked_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    import models.kcenter as module

    pixels = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(module, "MOST_POINTS", 12)
    ranks = spread_order(pixels, np.arange(30), np.empty(0, dtype=np.int64), Runtime(CPU, seed=0))
    assert sorted(ranks.tolist()) == list(range(30))
