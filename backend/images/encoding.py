"""Encoding: from uint8 pixels to the file that a browser shows."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

OPACITY = 150
"""Of 255, of what lies over an image."""


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels (H, W, 3) uint8; of one channel where all of them are gray."""
    gray = bool((pixels == pixels[..., :1]).all())
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if gray else pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def encode_overlay(mask: np.ndarray, colors: Sequence[str]) -> bytes:
    """A PNG file to lie over an image: a mask (H, W) uint8, where the value i + 1 is the class i, in the (i mod K)-th
    of K ``colors`` such as "#0b5cad", half transparent; 0 is left clear."""
    found = Image.fromarray(np.where(mask > 0, (mask.astype(np.int64) - 1) % len(colors) + 1, 0).astype(np.uint8), "P")
    found.putpalette(bytes(3) + b"".join(bytes.fromhex(color.removeprefix("#")) for color in colors))
    file = io.BytesIO()
    found.save(file, "PNG", transparency=bytes([0]) + bytes([OPACITY]) * len(colors))
    return file.getvalue()


def grid(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, 3) uint8, N >= 1, side by side in rows that make about a square, on black."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1:3]
    found = np.zeros((rows * columns, height, width, 3), dtype=np.uint8)
    found[: len(images)] = images
    return found.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
