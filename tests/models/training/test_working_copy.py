"""The copy of images that is made once, at the size at which an autoencoder sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.data import Runtime
from models.networks.vae import prepare
from models.training.working_copy import working_copy

RUNTIME = Runtime(torch.device("cpu"), 0, eval_batch_size=3)


def frames(tmp_path: Path, count: int, height: int, width: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    return np.load(tmp_path / "pixels.npy", mmap_mode="r")


def test_large_frames_become_the_means_of_their_areas_each_once(tmp_path: Path) -> None:
    pixels = frames(tmp_path, 9, 70, 130)
    rows = np.array([7, 2, 2, 8, 0])
    with working_copy(pixels, rows, 32, RUNTIME) as (small, places):
        assert small.shape == (4, 32, 32, 3) and small.dtype == np.uint8  # row 2 once
        means = functional.interpolate(
            torch.tensor(pixels[rows]).permute(0, 3, 1, 2).float(), size=(32, 32), mode="area"
        ).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(small[places], means.round().numpy())
        # what a network sees of it differs by the rounding to whole levels alone
        seen = prepare(torch.from_numpy(small[places]), 32)
        assert (seen - prepare(torch.from_numpy(pixels[rows]), 32)).abs().max() <= 1.001 / 255


@pytest.mark.parametrize(("height", "width", "size"), [(64, 64, 32), (32, 48, 32), (70, 130, 0)])
def test_what_is_not_much_larger_stays_as_it_is(tmp_path: Path, height: int, width: int, size: int) -> None:
    pixels, rows = frames(tmp_path, 3, height, width), np.array([2, 1])
    with working_copy(pixels, rows, size, RUNTIME) as (same, places):
        assert same is pixels and places is rows


def test_it_vanishes_and_stops_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pixels = frames(tmp_path, 6, 80, 80)

    def stop(phase: str, done: int, total: int) -> None:
        assert (phase, total) == ("fit", 6)
        if done == 6:
            raise KeyboardInterrupt

    runtime = Runtime(torch.device("cpu"), 0, stop, eval_batch_size=3)
    with pytest.raises(KeyboardInterrupt), working_copy(pixels, np.arange(6), 32, runtime):
        raise AssertionError("it was to stop")
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.npy"]
