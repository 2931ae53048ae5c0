"""Where points enter greedy's order, against greedy itself and against a definition by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import models.geometry.coverage
from models.geometry.coverage import EntryDistances, GreedyOrder, greedy_order


def random_points(count: int, features: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, features, generator=generator) + 5.0).float()  # far from 0, as features after ReLU are


def make_cover(labeled: Tensor, points: Tensor, picks: int) -> tuple[GreedyOrder, Tensor]:
    """Greedy's cover of `points`, whose rows are 0, 1, ..., and the indices of its picks."""
    cover, _ = greedy_order(labeled, points, torch.arange(len(points)), picks)
    return cover, cover.rows


def enter(cover: GreedyOrder, points: Tensor, rows: np.ndarray | None = None) -> np.ndarray:
    """The distances of `points`; without rows none of them can be a pick."""
    entrance = EntryDistances(cover)
    distances = entrance.distances(points).numpy()
    return entrance.at_picks(distances, np.full(len(points), -1) if rows is None else rows)


@pytest.mark.parametrize("labeled", [0, 1, 5])
@pytest.mark.parametrize("part", [1, 4, 1024])
def test_falling_distance_is_greedys_order_and_then_the_distance_to_the_cover(
    labeled: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.geometry.coverage, "PART", part)
    points = random_points(60)
    known, pool = points[:labeled], points[labeled:]
    cover, chosen = make_cover(known, pool, 12)
    values = enter(cover, pool, np.arange(len(pool)))
    order = np.argsort(-values, kind="stable")
    assert order[:12].tolist() == chosen.tolist()
    assert (values[chosen.numpy()] == cover.radii.numpy()).all()
    rest = order[12:]
    expected = torch.cdist(pool.double(), cover.centers.double()).min(1).values.numpy()
    np.testing.assert_allclose(values[rest], expected[rest], rtol=1e-6)
    assert values[rest].max() <= cover.radii[-1]


@pytest.mark.parametrize("part", [2, 1024])
def test_equals_the_definition_for_rows_that_greedy_never_saw(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.geometry.coverage, "PART", part)
    points, strangers = random_points(50), 5.5 + 1.6 * (random_points(200, seed=1) - 5.5)
    cover, _ = make_cover(points[:4], points[4:], 15)
    centers, radii = cover.centers.double(), cover.radii.tolist()
    values, inside = enter(cover, strangers), 0
    for point, value in zip(strangers.double(), values, strict=True):
        away = (point - centers).square().sum(1).sqrt().tolist()
        expected = min(away)
        for picked, radius in enumerate(radii):
            if min(away[: 4 + picked]) > radius:  # greedy would have taken it instead of its next pick
                expected = min(away[: 4 + picked])
                break
        else:
            inside += 1
        assert value == pytest.approx(expected, rel=1e-6)
    assert 20 < inside < 180  # both kinds occur


def test_it_is_where_greedy_would_have_put_a_row_had_it_seen_it() -> None:
    points = random_points(50)
    cover, chosen = make_cover(points[:4], points[4:], 15)
    for stranger in 5.5 + 1.6 * (random_points(40, seed=2) - 5.5):
        pool = torch.cat([points[4:], stranger[None]])
        value = enter(cover, pool, np.arange(len(pool)))[-1]
        again = make_cover(points[:4], pool, 15)[1].tolist()
        sooner = int((cover.radii > value).sum())
        if len(pool) - 1 in again:
            assert again.index(len(pool) - 1) == sooner
            assert again[:sooner] == chosen[:sooner].tolist()
        else:
            assert sooner == 15


def test_a_new_row_far_away_enters_before_nearer_picks() -> None:
    points = random_points(40)
    cover, _ = make_cover(points[:3], points[3:], 10)
    far = points[:1] + torch.tensor([[9.0, 0, 0, 0, 0, 0]])
    assert enter(cover, far)[0] > cover.radii[0]
    no_labels, _ = make_cover(points[:0], points, 10)
    assert enter(no_labels, far)[0] > no_labels.radii[1]


def test_copies_of_centers_come_last_and_alike() -> None:
    points = random_points(40)
    cover, chosen = make_cover(points[:3], points[3:], 10)
    copies = torch.cat([points[:3], points[3:][chosen]])
    others = np.setdiff1d(np.arange(37), chosen.numpy())
    assert (enter(cover, copies) == 0.0).all()
    assert enter(cover, points[3:][others]).min() > 0.0


def test_a_row_number_alone_does_not_make_a_pick() -> None:
    points = random_points(40)
    cover, chosen = make_cover(points[:3], points[3:], 10)
    others = points[3:][np.setdiff1d(np.arange(37), chosen.numpy())]
    nearest_pick = chosen[torch.cdist(others, points[3:][chosen]).argmin(1)].numpy()
    assert (enter(cover, others, nearest_pick) == enter(cover, others)).all()
    first_pick = chosen[:1].numpy()
    assert enter(cover, points[:1], first_pick) == 0.0  # a labeled row elsewhere
    assert enter(cover, points[3:][chosen[:1]] * (1 + 1e-4), first_pick) == cover.radii[0].numpy()  # other rounding


def test_moving_and_turning_everything_changes_nothing() -> None:
    points = random_points(60).double()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    strangers = 5.5 + 1.6 * (random_points(40, seed=3).double() - 5.5)
    values = [
        enter(make_cover(move(points)[:4], move(points)[4:], 15)[0], move(strangers))
        for move in (lambda x: x, lambda x: x @ turn - 4.0)
    ]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-9)


def test_a_common_offset_costs_no_digits() -> None:
    points = 1000.0 + random_points(40, seed=4)
    cover, _ = make_cover(points[:4], points[4:], 8)
    exact = torch.cdist(points.double(), cover.centers.double(), compute_mode="donot_use_mm_for_euclid_dist")
    kept = np.flatnonzero(exact.min(1).values.numpy() > 0.1)
    values = enter(cover, points)
    np.testing.assert_allclose(values[kept], exact.min(1).values.numpy()[kept], rtol=1e-9)


def test_a_row_depends_on_no_other_row() -> None:
    points = random_points(64)
    cover, _ = make_cover(points[:4], points[4:], 15)
    together = enter(cover, points)
    alone = np.concatenate([enter(cover, points[i : i + 1]) for i in range(64)])
    np.testing.assert_allclose(alone, together, rtol=1e-9, atol=1e-9)


def test_without_picks_or_without_any_center() -> None:
    points = random_points(10)
    cover, _ = make_cover(points[:3], points[:0], 5)
    expected = torch.cdist(points.double(), points[:3].double()).min(1).values.numpy()
    np.testing.assert_allclose(enter(cover, points)[3:], expected[3:], rtol=1e-6)
    empty, _ = make_cover(points[:0], points[:0], 5)
    assert (enter(empty, points) == 1.0).all()


def test_broken_features_stay_nan() -> None:
    points = random_points(20)
    cover, _ = make_cover(points[:3], points[3:], 5)
    assert np.isnan(enter(cover, torch.full((2, 6), torch.nan), np.array([0, 1]))).all()
