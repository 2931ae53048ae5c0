"""Encoding: from uint8 pixels to the file that a browser shows."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels (H, W, 3) uint8; of one channel where all of them are gray."""
    gray = bool((pixels == pixels[..., :1]).all())
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if gray else pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def grid(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, 3) uint8, N >= 1, side by side in rows that make about a square, on black."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1:3]
    found = np.zeros((rows * columns, height, width, 3), dtype=np.uint8)
    found[: len(images)] = images
    return found.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
