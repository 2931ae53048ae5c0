"""Photographs that no camera took: things of three kinds in front of something, as JPEG files, for want of real ones.

What tells the kinds apart is the shape of the things. Their colors, how many and how large they are, the light, the
background and the noise are drawn alike for all. Nothing about a network's accuracy on real photographs follows from
that on these.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

KINDS = ("balls", "boxes", "stars")
SIZE = (600, 800)
"""(H, W) in pixels."""
_QUALITY = 88
_RADII = (0.03, 0.12)
"""Of things, as shares of the shorter side."""
_OCTAVES = ((3, 60.0), (12, 25.0), (60, 12.0))
"""Cells of the background along the shorter side, and how strong they are, in gray levels."""


def photograph(kind: int, seed: int, size: tuple[int, int] = SIZE) -> bytes:
    """A JPEG file with one to three things of ``KINDS[kind]``, (H, W) = ``size``; the same for the same arguments."""
    draw = np.random.default_rng([seed, kind])
    picture = _background(draw, size)
    for _ in range(int(draw.integers(1, 4))):
        picture = _with_a_thing(picture, kind, draw)
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(float(draw.uniform(0.3, 1.5)))), np.float64)
    exposed = pixels * draw.uniform(0.6, 1.2) + draw.normal(0, draw.uniform(2, 10), pixels.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _background(draw: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Blotches of several sizes about a random color."""
    height, width = size
    total = np.full((height, width, 3), draw.uniform(60, 190, 3))
    for cells, strength in _OCTAVES:
        coarse = draw.normal(0, strength, (cells, cells * width // height, 3))
        channels = [Image.fromarray(coarse[..., one].astype(np.float32)) for one in range(3)]
        total += np.stack([np.asarray(part.resize((width, height), Image.Resampling.BICUBIC)) for part in channels], 2)
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def _with_a_thing(picture: Image.Image, kind: int, draw: np.random.Generator) -> Image.Image:
    """The picture with a thing in front of it, whole or cut by the edge, lit from one side."""
    radius, turn = float(draw.uniform(*_RADII)) * min(picture.size), float(draw.uniform(0, 2 * np.pi))
    side = 2 * int(np.ceil(radius)) + 4
    mask = Image.new("L", (side, side))
    corners = side / 2 + radius * _outline(kind, turn)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    along, toward = np.linspace(-1, 1, side), float(draw.uniform(0, 2 * np.pi))
    light = np.clip(np.cos(toward) * along[None, :] + np.sin(toward) * along[:, None], -1, 1)
    shaded = draw.uniform(20, 235, 3) * (1 + 0.45 * light)[..., None] + draw.normal(0, 12, (side, side, 3))
    thing = Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))
    left, top = (draw.uniform(0.1, 0.9, 2) * picture.size - side / 2).astype(int).tolist()
    with_it = picture.copy()
    with_it.paste(thing, (left, top), mask.filter(ImageFilter.GaussianBlur(1)))
    return with_it


def _outline(kind: int, turn: float) -> np.ndarray:
    """The corners (N, 2) of a thing about (0, 0), at most 1 from it."""
    if kind == KINDS.index("balls"):
        angles, lengths = np.linspace(0, 2 * np.pi, 60, endpoint=False), np.ones(60)
    elif kind == KINDS.index("boxes"):
        angles, lengths = np.array([0.6, np.pi - 0.6, np.pi + 0.6, -0.6]), np.ones(4)
    else:
        angles, lengths = np.linspace(0, 2 * np.pi, 10, endpoint=False), np.tile([1.0, 0.45], 5)
    return np.stack([np.cos(angles + turn), np.sin(angles + turn)], axis=1) * lengths[:, None]
