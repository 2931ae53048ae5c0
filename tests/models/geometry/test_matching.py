"""Generated images matched with real ones, each of them once: against a search over everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.geometry import matching
from models.geometry.matching import NearestRows, matches_by_index
from models.geometry.neighbor_index import NeighborIndex
from tests.models.geometry.large_pools import Pool, clustered, runtime


def brute_force(wanted: torch.Tensor, features: torch.Tensor, rows: torch.Tensor) -> list[int]:
    found: list[int] = []
    for one in wanted:
        order = torch.cdist(one[None].double(), features.double())[0].argsort()
        found.append(next(int(row) for row in rows[order] if int(row) not in found))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_each_gets_the_nearest_row_that_is_free(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PART", 7)
    draw = torch.Generator().manual_seed(seed)
    wanted = torch.randn(12, 3, generator=draw) * 0.1  # close together, so that they want the same rows
    features, rows = torch.randn(60, 3, generator=draw), torch.randperm(500, generator=draw)[:60]
    nearest = NearestRows(wanted)
    for part in np.array_split(np.arange(60), 4):
        nearest.add(features[part], rows[part])
    found, distances = nearest.unique()
    assert found.tolist() == brute_force(wanted, features, rows) and len(set(found.tolist())) == 12
    places = [rows.tolist().index(row) for row in found.tolist()]
    assert torch.allclose(distances, (wanted.double() - features[places].double()).norm(dim=1))


def test_a_generated_image_that_is_one_of_the_pool_finds_itself() -> None:
    features = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    nearest = NearestRows(features[[31, 4, 17]])
    nearest.add(features, torch.arange(100, 140))
    rows, distances = nearest.unique()
    assert rows.tolist() == [131, 104, 117] and distances.max() < 1e-6


def test_there_are_no_more_matches_than_rows() -> None:
    nearest = NearestRows(torch.zeros(5, 2))
    assert nearest.unique()[0].tolist() == []
    nearest.add(torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([8, 9]))
    assert nearest.unique()[0].tolist() == [9, 8]


def exactly(wanted: torch.Tensor, pool: Pool, rows: np.ndarray) -> list[int]:
    nearest = NearestRows(wanted)
    nearest.add(pool.features[torch.from_numpy(rows)], torch.from_numpy(rows))
    return nearest.unique()[0].tolist()


def test_matches_by_an_index_are_nearly_those_of_all_rows() -> None:
    pool, rows = Pool(clustered(4000)), np.arange(500, 4000)
    index = NeighborIndex.build(rows, pool, runtime())
    wanted = pool.features[:50]  # none of which is a row of the pool
    found, distances = matches_by_index(index, wanted, rows, pool)
    assert len(set(found.tolist())) == 50
    assert np.mean(np.array(found.tolist()) == exactly(wanted, pool, rows)) >= 0.9
    assert torch.allclose(distances, (wanted - pool.features[found]).double().norm(dim=1))


def test_by_an_index_no_row_is_matched_twice_however_close_the_wanted_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "SHORTLIST", 4)
    pool, rows = Pool(clustered(2000)), np.arange(2000)
    index = NeighborIndex.build(rows, pool, runtime())
    wanted = pool.features[:1].expand(60, -1)
    found = matches_by_index(index, wanted, rows, pool)[0].tolist()
    assert found[0] == 0 and len(set(found)) == 60
    assert len(set(found) & set(exactly(wanted, pool, rows))) >= 50


def test_by_an_index_only_rows_of_the_pool_are_matched_and_few_are_read() -> None:
    pool, rows = Pool(clustered(20_000)), np.arange(20_000)
    index = NeighborIndex.build(rows, pool, runtime())
    pool.rows_read = 0
    found = matches_by_index(index, pool.features[:10], rows[1000:], pool)[0]
    assert found.min() >= 1000 and pool.rows_read < 10 * (4 * matching.SHORTLIST + 2)
