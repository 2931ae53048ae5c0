"""Encoding: what is encoded is decoded as it was."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from backend.images.decoding import decode
from backend.images.encoding import encode_png, grid


def test_a_png_holds_the_pixels_as_they_are() -> None:
    color = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    gray = np.repeat(color[..., :1], 3, axis=2)
    assert (decode(encode_png(color), 32) == color).all() and (decode(encode_png(gray), 32) == gray).all()
    assert [Image.open(io.BytesIO(encode_png(pixels))).mode for pixels in (color, gray)] == ["RGB", "L"]


def test_a_grid_shows_each_image_in_its_place() -> None:
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 3, 3), dtype=np.uint8)
    found = grid(images)
    assert found.shape == (4, 9, 3)
    assert found[::2, ::3, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert grid(images[:1]).shape == (2, 3, 3)
