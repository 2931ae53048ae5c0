"""Generated images matched with real ones, each of them once: against a search over everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.geometry import matching
from models.geometry.matching import NearestRows


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
