"""DropQuery: candidates change their class under dropout, and one of each cluster is picked (Gupte et al. 2024)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers.dropquery import candidates, nearest_to_centers
from tests.samplers.on_points import head, points_data, queue


def test_more_than_half_of_the_draws_make_a_candidate() -> None:
    changed = np.array([0, 1, 2, 3, 1])
    assert candidates(changed, 1, 2).tolist() == [2, 3]


def test_where_candidates_are_few_fewer_draws_suffice_but_one() -> None:
    changed = np.array([0, 1, 2, 3, 1])
    assert candidates(changed, 1, 3).tolist() == [1, 2, 3, 4]
    assert candidates(changed, 1, 100).tolist() == [1, 2, 3, 4]
    assert candidates(np.zeros(3), 1, 1).tolist() == []


def test_the_point_nearest_to_the_center_of_each_cluster_the_largest_first() -> None:
    """Centers are 10, and 3 / 4."""
    points = torch.tensor([[9.0], [11.0], [10.5], [0.0], [1.0], [2.0], [0.0]])
    of_point = torch.tensor([2, 2, 2, 0, 0, 0, 0])
    assert nearest_to_centers(points, of_point, 3).tolist() == [4, 2]


def plane() -> tuple[np.ndarray, list[list[float]]]:
    """Rows 0 to 39 in class 0 by both of two features, so that no draw that leaves one changes it; 40 to 59 by one of
    them, against the other, in two clusters."""
    rng = np.random.default_rng(0)
    sure = np.tile([3.0, 3.0], (40, 1)) + rng.normal(0, 0.1, (40, 2))
    near = np.tile([2.0, -1.5], (14, 1)) + rng.normal(0, 0.1, (14, 2))
    far = np.tile([-1.5, 2.0], (6, 1)) + rng.normal(0, 0.1, (6, 2))
    return np.concatenate([sure, near, far]), [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("seed", range(3))
def test_only_images_whose_class_changes_are_picked(seed: int) -> None:
    points, weight = plane()
    data = points_data(60, [0], [0], 2)
    net = head(weight, bias=[0.1, 0.0])  # with nothing left of its features an image is still of class 0
    sampler, found = queue("dropquery", net, data, points, seed=seed, budget=2, dropquery_draws=9, dropquery_rate=0.5)
    picks = sampler.state_dict()["rows"].tolist()
    assert found[:2] == picks
    assert [row >= 54 for row in picks] == [False, True]  # one of each cluster, the larger one first
    assert min(picks) >= 40


def test_where_no_class_changes_the_order_is_margins() -> None:
    points = np.random.default_rng(0).uniform(1, 3, (30, 2))
    data, net = points_data(30, [0], [0], 2), head([[1.0, 1.0], [0.0, 0.0]], bias=[0.1, 0.0])
    sampler, found = queue("dropquery", net, data, points, budget=5)
    assert len(sampler.state_dict()["rows"]) == 0
    assert found == queue("margin", net, data, points)[1]


def test_fewer_candidates_than_the_budget_are_all_picked_the_most_doubtful_first() -> None:
    points, weight = plane()
    data, net = points_data(60, [0], [0], 2), head(weight, bias=[0.1, 0.0])
    sampler, _ = queue("dropquery", net, data, points, budget=50, dropquery_draws=9, dropquery_rate=0.5)
    picks = sampler.state_dict()["rows"].tolist()
    assert 2 < len(picks) <= 20 and min(picks) >= 40
