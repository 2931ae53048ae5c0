"""Changes of rank one, against matrices that are inverted anew (Ash et al., NeurIPS 2021)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.geometry.fisher import informative


def left(points: np.ndarray, labeled: np.ndarray, chosen: list[int], strength: float) -> float:
    """tr(M⁻¹ I)."""
    known = np.concatenate([labeled, points[chosen]])
    matrix = strength * np.eye(points.shape[1]) + known.T @ known
    return float(np.trace(np.linalg.inv(matrix) @ (points.T @ points) / len(points)))


def by_definition(points: np.ndarray, labeled: np.ndarray, picks: int, strength: float) -> list[int]:
    chosen: list[int] = []
    for _ in range(2 * picks):
        free = [index for index in range(len(points)) if index not in chosen]
        chosen.append(min(free, key=lambda index: left(points, labeled, [*chosen, index], strength)))
    while len(chosen) > picks:
        chosen.remove(
            min(chosen, key=lambda one: left(points, labeled, [index for index in chosen if index != one], strength))
        )
    return chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [1.0, 0.1])
def test_picks_are_those_of_the_definition(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    points, labeled = rng.normal(0, 1, (20, 4)), rng.normal(0, 1, (3, 4))
    found = informative(torch.from_numpy(points), torch.from_numpy(labeled), 5, strength)
    assert found.tolist() == by_definition(points, labeled, 5, strength)


def test_a_direction_that_is_labeled_is_not_asked_about_again() -> None:
    """Points along two axes, as many along each; what is labeled lies along the first."""
    points = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.1, 0.0], [0.0, 2.1]])
    assert informative(points, torch.tensor([[3.0, 0.0]]), 1).item() in (1, 3)
    assert informative(points, torch.tensor([[0.0, 3.0]]), 1).item() in (0, 2)


def test_all_points_are_picked_where_there_are_no_more() -> None:
    points = torch.eye(3)
    assert sorted(informative(points, torch.empty(0, 3), 5).tolist()) == [0, 1, 2]
    assert informative(torch.empty(0, 3), points, 5).tolist() == []
