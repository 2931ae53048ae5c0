"""Greedy over all of a large pool is greedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.geometry import k_center_whole
from models.geometry.k_center import k_center_greedy
from models.geometry.k_center_whole import greedy_of_all
from models.geometry.space import Space
from tests.models.geometry.large_pools import WIDTH, Pool, clustered, runtime


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("labeled", [0, 1, 70])
def test_the_picks_are_those_of_greedy(seed: int, labeled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(k_center_whole, "FEWEST_ACTIVE", 40)  # so that the pool is looked around in many times
    monkeypatch.setattr(k_center_whole, "CENTERS", 16)
    monkeypatch.setattr(k_center_whole, "VERIFIED", 8)
    pool = Pool(clustered(2500, seed))
    rows = np.random.default_rng(seed).permutation(np.arange(labeled, 2500))
    centers = pool.features[:labeled]
    found = greedy_of_all(rows, pool, 120, centers, runtime(seed))
    points = pool.features[torch.from_numpy(rows)]
    middle = points.double().mean(0)
    exact = k_center_greedy(points - middle, 120, centers - middle)
    assert found.chosen.tolist() == exact.chosen.tolist()
    torch.testing.assert_close(found.radii.double(), exact.radii, rtol=1e-4, atol=1e-4)
    assert float(found.nearest.max()) == pytest.approx(float(exact.nearest.max()), rel=1e-4)
    assert (found.nearest - exact.nearest >= -1e-3).all(), "never less than it is"


def test_few_rows_are_read_a_second_time() -> None:
    pool = Pool(clustered(20_000, 5))
    greedy_of_all(np.arange(50, 20_000), pool, 100, pool.features[:50], runtime())
    assert pool.rows_read < 20_000 + 10_000 + 10_000  # all, some for the directions, and half of them at most


def test_copies_of_what_is_labeled_come_last_and_no_pick_repeats() -> None:
    pool = Pool(clustered(60, 1))
    found = greedy_of_all(np.arange(60), pool, 100, pool.features[[3, 7]], runtime())
    assert sorted(found.chosen.tolist()) == list(range(60))
    assert set(found.chosen[-2:].tolist()) == {3, 7}
    assert (found.nearest == 0).all()


def test_an_empty_pool_has_no_picks() -> None:
    pool = Pool(clustered(10))
    assert len(greedy_of_all(np.arange(0), pool, 5, pool.features[:3], runtime()).chosen) == 0


def test_distances_are_at_least_as_long_as_in_the_short_form() -> None:
    pool = Pool(clustered(300, 2))
    space = Space.of(np.arange(300), pool, runtime())

    def apart(points: Tensor) -> Tensor:
        return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")

    short = apart(space.with_rest(pool.features))
    assert space.basis.shape[1] < WIDTH
    assert (short <= apart(pool.features) + 1e-3).all()
