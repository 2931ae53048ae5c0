"""Precision and recall of generated points, on sets whose answers are plain."""

from __future__ import annotations

import pytest
import torch

from models.geometry.manifolds import precision_and_recall

REAL = torch.randn((200, 4), generator=torch.Generator().manual_seed(0))


def test_the_same_points_cover_each_other() -> None:
    assert precision_and_recall(REAL, REAL.clone()) == (1.0, 1.0)


def test_points_elsewhere_cover_nothing() -> None:
    assert precision_and_recall(REAL, REAL + 100.0) == (0.0, 0.0)


def test_one_image_over_and_over_is_precise_and_covers_little() -> None:
    precision, recall = precision_and_recall(REAL, REAL[:1].expand(50, -1))
    assert precision == 1.0 and recall == 1 / 200


def test_half_of_the_real_points_leave_the_other_cluster_uncovered() -> None:
    real = torch.cat([REAL, REAL + 50.0])
    assert precision_and_recall(real, REAL) == (1.0, 0.5)


def test_a_reach_is_the_distance_to_the_third_neighbor() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]])
    inside, outside = torch.tensor([[-3.0], [-2.5], [-2.0], [-1.5]]), torch.tensor([[-3.1]])
    assert precision_and_recall(real, inside)[0] == 1.0  # 3.0 is how far the point at 0 reaches
    assert precision_and_recall(real, outside)[0] == 0.0
    far = torch.tensor([[199.0], [199.5]])
    assert precision_and_recall(real, far)[0] == 0.5  # 99.0 is how far the one at 100 does


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points(count: int) -> None:
    precision, recall = precision_and_recall(REAL[:count], REAL[100 : 100 + count])
    assert 0.0 <= precision <= 1.0 and 0.0 <= recall <= 1.0
    if count == 1:
        assert precision == recall == 0.0
