"""The index of neighbors against brute force, on clustered data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.geometry import neighbor_index
from models.geometry.neighbor_index import NOBODY, NeighborIndex, cells_for
from models.geometry.space import Space, in_parts
from tests.models.geometry.large_pools import Pool, clustered, runtime

ROWS = np.arange(100, 4100)  # numbers that are not positions
NEIGHBORS = 10


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(clustered(4200))


@pytest.fixture(scope="module")
def index(pool: Pool) -> NeighborIndex:
    return NeighborIndex.build(ROWS, pool, runtime())


def brute_force(asked: Tensor, features: Tensor, rows: np.ndarray, count: int = NEIGHBORS) -> Tensor:
    nearest = torch.cdist(asked.double(), features[torch.from_numpy(rows)].double()).topk(count, largest=False)
    return torch.from_numpy(rows)[nearest.indices]


def recall(found: Tensor, exact: Tensor) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]))


def test_nearly_all_neighbors_are_found(pool: Pool, index: NeighborIndex) -> None:
    asked = pool.features[:100]  # none of which is in it
    away, found = index.nearest(asked, NEIGHBORS, pool)
    exact = brute_force(asked, pool.features, ROWS)
    assert recall(found, exact) >= 0.9
    assert (away.diff(dim=1) >= 0).all()
    expected = (asked[:, None].double() - pool.features[found].double()).norm(dim=2)
    torch.testing.assert_close(away, expected)


def test_more_cells_find_more_and_all_cells_find_all_by_coordinates(pool: Pool, index: NeighborIndex) -> None:
    asked = index.space.coordinates(pool.features[:100])
    points = index.space.coordinates(pool.features)
    exact = brute_force(asked, points, ROWS)
    found = [recall(index.roughly(asked, NEIGHBORS, probed=probed)[1], exact) for probed in (1, 8, index.cells)]
    assert found[0] < found[1] < found[2]
    assert found[2] >= 0.99  # coordinates are kept as float16


def test_what_is_compared_by_all_features_is_nearer_than_by_coordinates(pool: Pool, index: NeighborIndex) -> None:
    asked = pool.features[:100]
    exact = brute_force(asked, pool.features, ROWS)
    rough = index.roughly(index.space.coordinates(asked), NEIGHBORS)[1]
    assert recall(rough, exact) < recall(index.nearest(asked, NEIGHBORS, pool)[1], exact)


def test_only_allowed_rows_are_found(pool: Pool, index: NeighborIndex) -> None:
    allowed = ROWS[::7]
    found = index.roughly(index.space.coordinates(pool.features[:50]), NEIGHBORS, allowed)[1]
    assert set(found.flatten().tolist()) <= {*allowed.tolist(), NOBODY}
    asked = pool.features[:50]
    exact = brute_force(asked, pool.features, allowed)
    assert recall(index.nearest(asked, NEIGHBORS, pool, allowed)[1], exact) >= 0.85


def test_fewer_rows_than_asked_for_end_in_nobody(pool: Pool) -> None:
    few = NeighborIndex.build(ROWS[:6], pool, runtime())
    away, found = few.nearest(pool.features[:2], NEIGHBORS, pool)
    assert (found[:, 6:] == NOBODY).all() and away[:, 6:].isinf().all()
    assert found[0, :6].sort().values.tolist() == ROWS[:6].tolist()


def test_a_seed_decides_whatever_torch_drew_before(pool: Pool) -> None:
    torch.manual_seed(1)
    first = NeighborIndex.build(ROWS, pool, runtime(3))
    torch.manual_seed(2)
    again = NeighborIndex.build(ROWS, pool, runtime(3))
    asked = pool.features[:100]
    for one, other in zip(first.nearest(asked, 10, pool), again.nearest(asked, 10, pool), strict=True):
        assert torch.equal(one, other)


def test_rows_that_are_added_later_are_found(pool: Pool) -> None:
    grown = NeighborIndex.build(ROWS[:3000], pool, runtime())
    grown.add(ROWS[3000:], pool, runtime())
    assert grown.rows.tolist() == ROWS.tolist()
    last = pool.features[torch.from_numpy(ROWS[-50:])]
    assert grown.nearest(last, 1, pool)[1][:, 0].tolist() == ROWS[-50:].tolist()


def test_of_coordinates_it_is_the_same_index(pool: Pool) -> None:
    rows = np.arange(4200)
    space = Space.of(rows, pool, runtime())
    coordinates = in_parts(rows, pool, space.coordinates, runtime(), "embed")
    one = NeighborIndex.over(space, coordinates, runtime()).roughly(coordinates[:50], 5)
    other = NeighborIndex.build(rows, pool, runtime()).roughly(coordinates[:50], 5)
    assert recall(one[1], other[1]) > 0.99


def test_it_is_kept_and_only_what_is_new_is_read(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "neighbors.npz"
    first = NeighborIndex.kept(path, ROWS[:3900], pool, runtime())
    pool.rows_read = 0
    again = NeighborIndex.kept(path, ROWS[:3900], pool, runtime())
    assert pool.rows_read == 0
    asked = pool.features[:50]
    assert torch.equal(first.nearest(asked, 5, pool)[1], again.nearest(asked, 5, pool)[1])
    pool.rows_read = 0
    NeighborIndex.kept(path, ROWS, pool, runtime())
    assert pool.rows_read == 100
    assert sorted(NeighborIndex.load(path).rows) == ROWS.tolist()
    assert [file.name for file in tmp_path.iterdir()] == ["neighbors.npz"]


def test_one_that_is_damaged_or_outgrown_is_made_anew(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "neighbors.npz"
    NeighborIndex.kept(path, ROWS[:500], pool, runtime())
    assert NeighborIndex.kept(path, ROWS, pool, runtime()).cells == cells_for(len(ROWS))
    path.write_bytes(path.read_bytes()[:5000])
    assert len(NeighborIndex.kept(path, ROWS, pool, runtime()).rows) == len(ROWS)
    assert len(NeighborIndex.load(path).rows) == len(ROWS)


def test_memory_does_not_hold_more_rows_than_a_part(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    def read(rows: np.ndarray) -> Tensor:
        nonlocal most
        most = max(most, len(rows))
        return pool(rows)

    monkeypatch.setattr("models.geometry.space.PART", 256)
    monkeypatch.setattr(neighbor_index, "PART", 256)
    monkeypatch.setattr("models.geometry.space.FITTED", 200)
    NeighborIndex.build(ROWS, read, runtime())
    assert most == 256
