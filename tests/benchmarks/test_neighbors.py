"""The benchmark of large pools, on small ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import neighbors
from models.data import Runtime
from models.geometry import herding, k_center, typical
from models.geometry.directions import main_basis


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CLUSTERS", 20), ("QUESTIONS", 10), ("WANTED", 5), ("LABELED", 20), ("PICKS", 10)):
        monkeypatch.setattr(neighbors, name, value)
    monkeypatch.setattr(k_center, "MOST_POINTS", 300)
    monkeypatch.setattr(typical, "LARGEST_SAMPLE", 300)
    monkeypatch.setattr(herding, "LARGEST_SAMPLE", 20)


def test_every_part_is_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "neighbors.md"
    assert neighbors.main(["--rows", "400", "--write", str(page)]) == 0
    said = capsys.readouterr().out
    assert all(line in page.read_text() for line in said.splitlines() if line)
    for words in (
        "index, built",
        "matches, by the index",
        "picks of all rows",
        "of a sample of 300",
        "100 of all rows",
    ):
        assert words in said
    assert "python -m benchmarks neighbors --rows 400" in page.read_text()


def test_features_of_a_file_take_the_place_of_made_up_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = np.random.default_rng(0).normal(size=(100, 1290)).astype(np.float16)
    path = tmp_path / "features.f16"
    kept.tofile(path)
    (np.arange(100) % 2).astype(np.uint8).tofile(path.with_suffix(".done"))
    features, rows = neighbors.rows_of(path, 1290)
    assert rows.tolist() == list(range(1, 100, 2)) and features.shape == (100, 1280)
    assert (features == kept[:, :1280]).all()
    assert neighbors.main(["--features", str(path), "--width", "1290", "--only", "index"]) == 0
    assert "recall 1.000" in capsys.readouterr().out, "of so few rows all are compared"


def test_made_up_features_vary_as_those_of_a_backbone(tmp_path: Path) -> None:
    points = torch.from_numpy(neighbors.make_features(tmp_path / "features.f16", 2000).astype(np.float32))
    centered = points - points.mean(0)
    basis = main_basis(centered, 64, Runtime(neighbors.CPU, 0).generator("basis"))
    share = float((centered @ basis).square().sum() / centered.square().sum())
    assert 0.65 < share < 0.95
