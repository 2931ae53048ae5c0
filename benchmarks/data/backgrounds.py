"""Backgrounds of scenes: value noise, stripes and gradients.

A background has two textures, the second one seen through patches that are no item. Its colors are duller than those of
items, so that a small network finds out from some tens of scenes what is background.

Axis letter: S side of a scene.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

_OCTAVES = (3, 6, 13)


def color(draw: np.random.Generator) -> np.ndarray:
    """(3,) float32: hue, saturation and brightness at random."""
    shade = draw.random(3, dtype=np.float32)
    gray = shade.mean()
    shade = (gray + (shade - gray) * np.float32(draw.uniform(0.3, 1.2))).clip(0.02, None)
    return shade * np.float32(draw.uniform(100, 250) / shade.max())


def background(draw: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The colors (S, S, 3) and the grain (S, S, 1) that lies over the whole scene, float32."""
    image = _texture(draw, size)
    patches = draw.integers(4)
    if patches:
        other, where = _texture(draw, size), Image.new("1", (size, size))
        pen = ImageDraw.Draw(where)
        for _ in range(patches):
            middle, reach = draw.uniform(0, size, 2), draw.uniform(0.08, 0.3, 2) * size
            box = [*(middle - reach), *(middle + reach)]
            (pen.ellipse if draw.random() < 0.5 else pen.rectangle)(box, fill=1)
        through = np.asarray(where)
        image[through] = other[through]
    grain = draw.standard_normal((size, size, 1), dtype=np.float32) * np.float32(draw.uniform(1, 9))
    return image, grain


def _texture(draw: np.random.Generator, size: int) -> np.ndarray:
    """Two colors mixed by a field, (S, S, 3) float32."""
    field = _FIELDS[draw.integers(len(_FIELDS))](draw, size)[..., None]
    first, second = _dull(draw), _dull(draw)
    return first + (second - first) * field


def _dull(draw: np.random.Generator) -> np.ndarray:
    """(3,) float32: a color nearer to gray and darker than an item's."""
    bright = color(draw)
    gray = bright.mean()
    return (gray + (bright - gray) * np.float32(0.4)) * np.float32(draw.uniform(0.3, 0.6))


def _noise(draw: np.random.Generator, size: int) -> np.ndarray:
    """Value noise, (S, S) float32 in [0, 1]: random grids, smoothly enlarged, finer ones weaker."""
    field = np.zeros((size, size), dtype=np.float32)
    for octave, cells in enumerate(_OCTAVES):
        grid = Image.fromarray(draw.random((cells, cells), dtype=np.float32))
        field += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)) * np.float32(0.6**octave)
    low, high = field.min(), field.max()
    return (field - low) / (high - low)


def _stripes(draw: np.random.Generator, size: int) -> np.ndarray:
    """Waves of one direction, bent a little, from soft to sharp-edged."""
    waves = draw.uniform(2, 9)
    bend = _noise(draw, size) * np.float32(draw.uniform(0, 1.5))
    wave = np.sin(2 * np.pi * np.float32(waves) * _ramp(draw, size) + bend)
    return (0.5 + np.float32(draw.uniform(0.5, 4)) * wave).clip(0, 1)


def _gradient(draw: np.random.Generator, size: int) -> np.ndarray:
    """From one side to the other, uneven."""
    return (0.75 * _ramp(draw, size) + 0.35 * _noise(draw, size)).clip(0, 1)


def _ramp(draw: np.random.Generator, size: int) -> np.ndarray:
    """About 0 to 1 across the scene in a random direction, (S, S) float32."""
    angle = draw.uniform(0, 2 * np.pi)
    along = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return 0.5 + np.float32(np.sin(angle)) * along[:, None] + np.float32(np.cos(angle)) * along


_FIELDS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (_noise, _stripes, _gradient)
