"""k-center greedy against brute force and against its definition."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch

from models.geometry.k_center import k_center_greedy

CPU = torch.device("cpu")


def radius(points: torch.Tensor, centers: torch.Tensor) -> float:
    return float(torch.cdist(points, centers).min(1).values.max())


def test_the_radius_is_at_most_twice_the_best() -> None:
    # Gonzalez 1985: greedy is a 2-approximation. The optimum by brute force over all choices of centers.
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        points = torch.rand(11, 2, generator=generator)
        best = min(radius(points, points[list(c)]) for c in combinations(range(11), 3))
        chosen, _, _ = k_center_greedy(points, 3)
        assert radius(points, points[chosen]) <= 2 * best + 1e-5


def test_equals_the_dense_reference() -> None:
    points = torch.rand(60, 5, generator=torch.Generator().manual_seed(1))
    centers = points[:4] + 0.01
    chosen, _, nearest = k_center_greedy(points, 10, centers)
    everything = centers
    for index in chosen.tolist():
        assert index == int(torch.cdist(points, everything).min(1).values.argmax())
        everything = torch.cat([everything, points[index : index + 1]])
    torch.testing.assert_close(nearest.sqrt(), torch.cdist(points, everything).min(1).values, atol=2e-3, rtol=1e-3)


def test_no_pick_repeats_even_among_duplicates() -> None:
    points = torch.ones(8, 3)
    chosen, _, nearest = k_center_greedy(points, 20)
    assert sorted(chosen.tolist()) == list(range(8)) and (nearest == 0).all()


def test_duplicates_of_labeled_points_come_last() -> None:
    points = torch.rand(20, 4, generator=torch.Generator().manual_seed(2))
    chosen, _, _ = k_center_greedy(points, 20, points[[3, 7]])
    assert set(chosen[-2:].tolist()) == {3, 7}


def test_radii_are_the_distances_at_which_points_were_picked_and_never_grow() -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for centers in (None, points[:2] + 0.01):
        chosen, radii, nearest = k_center_greedy(points, 30, centers)
        known = points[:0] if centers is None else centers
        for place, index in enumerate(chosen.tolist()):
            expected = torch.cdist(points[index : index + 1], known).min() if len(known) else torch.tensor(torch.inf)
            assert radii[place].sqrt().item() == pytest.approx(expected.item(), rel=1e-6)
            known = torch.cat([known, points[index : index + 1]])
        assert all(later <= sooner for sooner, later in pairwise(radii.tolist()))
        assert nearest.max() <= radii[-1]
        assert (nearest[chosen] == 0.0).all()


def test_moving_and_turning_the_points_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    points = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    chosen, radii, _ = k_center_greedy(points[4:], 20, points[:4])
    moved = points @ turn + 3.0
    again, radii_again, _ = k_center_greedy(moved[4:], 20, moved[:4])
    assert again.tolist() == chosen.tolist()
    torch.testing.assert_close(radii_again, radii, rtol=1e-9, atol=1e-12)


def test_an_empty_set_of_centers_is_like_none() -> None:
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(5))
    first = int((points - points.mean(0)).square().sum(1).argmin())
    assert k_center_greedy(points, 4, points[:0]).chosen.tolist() == k_center_greedy(points, 4).chosen.tolist()
    assert k_center_greedy(points, 1).chosen.tolist() == [first]
    assert k_center_greedy(points[:0], 4, points).chosen.tolist() == []


def test_it_can_be_stopped_between_picks() -> None:
    reports: list[tuple[int, int]] = []
    points = torch.rand(150, 2, generator=torch.Generator().manual_seed(6))
    k_center_greedy(points, 140, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(64, 140), (128, 140)]
