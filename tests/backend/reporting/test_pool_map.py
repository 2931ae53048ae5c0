"""The map of the pool: which images are on it, where they lie, and which are nearly copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.reporting import pool_map
from backend.reporting.pool_map import FILE, LABELED, MOST, PoolMap, chosen, drawn, near_copies, principal_axes

NOTHING = np.empty(0, dtype=np.int64)


def features_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 8)).astype(np.float16)


def a_map(count: int = 50, before: PoolMap | None = None, key: str = "lite0", seed: int = 0) -> PoolMap:
    rows = features_of(200, seed)
    found = drawn(lambda tasks: rows[tasks], key, np.arange(1, count + 1), NOTHING, np.arange(1, 6), before)
    assert found is not None
    return found


def test_the_axes_are_those_along_which_points_vary_most() -> None:
    """3 along (1, 1, 0), 2 along (0, 0, 1), and 0.1 along (1, -1, 0)."""
    rng = np.random.default_rng(0)
    parts = rng.normal(0, 1, (5_000, 3)) * [3.0, 2.0, 0.1]
    across = np.array([[1, 1, 0], [0, 0, np.sqrt(2)], [1, -1, 0]]) / np.sqrt(2)
    axes = principal_axes((parts @ across).astype(np.float32))
    assert np.abs(axes - np.array([[1, 1, 0], [0, 0, np.sqrt(2)]]) / np.sqrt(2)).max() < 0.02


def test_the_length_of_features_does_not_matter() -> None:
    rows = features_of(60)
    lengths = np.random.default_rng(1).uniform(0.5, 3, (60, 1))
    pool = np.arange(60)
    plain = drawn(lambda tasks: rows[tasks].astype(np.float32), "a", pool, NOTHING, NOTHING, None)
    scaled = drawn(lambda tasks: (rows[tasks] * lengths[tasks]).astype(np.float32), "a", pool, NOTHING, NOTHING, None)
    assert plain is not None and scaled is not None
    assert np.abs(plain.places - scaled.places).max() < 1e-3
    assert plain.places.min() == 0 and plain.places.max() == 1


@pytest.mark.parametrize(("degrees", "first"), [(18, [0, 0, 2]), (19, [0, 1, 2])])
def test_near_copies_are_told_by_the_cosine(degrees: float, first: list[int]) -> None:
    """cos 18° = 0.951, cos 19° = 0.946; the third one is far from both."""
    angle = np.radians(degrees)
    points = np.array([[1, 0], [np.cos(angle), np.sin(angle)], [-1, 0]])
    assert near_copies(points).tolist() == first


def test_a_copy_of_a_copy_is_none_of_the_first() -> None:
    """0°, 15° and 30°: the second is folded into the first, and the third is not near that."""
    angles = np.radians([0, 15, 30])
    assert near_copies(np.stack([np.cos(angles), np.sin(angles)], axis=1)).tolist() == [0, 0, 2]


def test_of_a_large_pool_the_queue_and_some_labeled_ones_are_surely_drawn() -> None:
    pool, labeled, queue = np.arange(1, 50_001), np.arange(50_001, 53_001), np.arange(7, 307)
    tasks = chosen(pool, labeled, queue)
    assert len(tasks) == MOST == len(set(tasks.tolist())) and (np.diff(tasks) > 0).all()
    assert set(queue.tolist()) <= set(tasks.tolist())
    assert np.isin(tasks, labeled).sum() == LABELED


def test_the_map_of_the_next_cycle_shows_almost_the_same_images() -> None:
    before = chosen(np.arange(1, 50_001), NOTHING, np.arange(1, 301))
    after = chosen(np.arange(31, 50_501), np.arange(1, 31), np.arange(301, 601))
    assert np.isin(after, before).mean() > 0.8


def test_the_layout_stays_until_the_pool_has_doubled_or_the_backbone_is_another() -> None:
    first = a_map(50)
    assert (a_map(99, first).axes == first.axes).all() and a_map(99, first).chosen_by == 50
    assert a_map(100, first).chosen_by == 100 and (a_map(100, first).axes != first.axes).any()
    assert a_map(60, first, key="another").chosen_by == 60


def test_features_of_a_pool_are_asked_for_no_more_than_are_drawn() -> None:
    asked = []

    def features(tasks: np.ndarray) -> np.ndarray:
        asked.append(len(tasks))
        return features_of(len(tasks))

    assert drawn(features, "a", np.arange(1, 20_001), NOTHING, NOTHING, None) is not None
    assert asked == [MOST]


def test_too_few_images_make_no_map() -> None:
    rows = features_of(20)
    assert drawn(lambda tasks: rows[tasks], "a", np.arange(9), NOTHING, NOTHING, None) is None
    assert drawn(lambda tasks: rows[tasks], "a", np.arange(10), NOTHING, NOTHING, None) is not None


def test_images_that_are_all_alike_lie_at_one_place() -> None:
    same = np.ones((30, 8), np.float16)
    found = drawn(lambda tasks: same[tasks], "a", np.arange(30), NOTHING, np.arange(3), None)
    assert found is not None and np.isfinite(found.places).all()
    assert found.copies == {0: 0, 1: 0, 2: 0}


def test_a_map_is_kept_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    assert PoolMap.kept(tmp_path) is None
    made = a_map()
    made.keep(tmp_path)
    found = PoolMap.kept(tmp_path)
    assert found is not None and found.key == "lite0" and found.copies == made.copies
    assert (found.places == made.places).all() and (found.tasks == made.tasks).all()
    data = (tmp_path / FILE).read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"no archive"):
        (tmp_path / FILE).write_bytes(damaged)
        assert PoolMap.kept(tmp_path) is None
    replace(made, key="other").keep(tmp_path)
    pool_map.forget(tmp_path)
    pool_map.forget(tmp_path)
    assert PoolMap.kept(tmp_path) is None
