"""Photographs from a script: files of the promised size, the same each time, told apart by shape and not by color."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from benchmarks.data.synthetic_photographs import KINDS, SIZE, photograph


def pixels(kind: int, seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(photograph(kind, seed, size))))


def test_it_is_a_jpeg_of_800_by_600_and_the_same_each_time() -> None:
    file = photograph(1, 7)
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "JPEG" and image.size == (800, 600)
    assert photograph(1, 7) == file
    assert photograph(1, 8) != file != photograph(2, 7)


def test_the_kinds_are_alike_in_their_colors() -> None:
    """Mean and spread of 60 pictures of each kind differ by less than three of the standard errors that chance gives
    them: what tells them apart is something else."""
    of_kinds = [np.stack([pixels(kind, seed, (60, 80)) for seed in range(60)]) for kind in range(len(KINDS))]
    for figure in (np.mean, np.std):
        each = [figure(shown, axis=(1, 2)).mean(axis=1) for shown in of_kinds]  # (60,) of each kind
        error = np.std(np.concatenate(each)) / np.sqrt(60)
        means = [values.mean() for values in each]
        assert max(means) - min(means) < 3 * np.sqrt(2) * error
