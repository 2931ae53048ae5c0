"""Scenes for segmentation and for several choices: Fashion-MNIST items on a background, with exact masks.

Every scene is drawn from (seed, part, row) alone, so scenes can be made in any order. Training scenes hold items of
Fashion-MNIST's training part, test scenes of its test part, scaled, mirrored and upright as Fashion-MNIST has them.

CLUTTER is for masks. A scene has two to six tinted items on one of :mod:`benchmarks.data.backgrounds`; later ones lie
over earlier ones and some reach over the border. CATALOG is for several choices, where a whole image with up to three
classes says less than a mask: items stand apart, gray on a plain dark background, and are learned from some tens of
scenes too.

Axis letters: N items, K items of a scene, S side of a scene, H W pixels of an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data.backgrounds import background, color
from benchmarks.data.datasets import FASHION_CLASSES, Dataset, fashion_mnist_itself
from benchmarks.data.kept_images import PARTS
from benchmarks.data.kept_masks import draft_of, finish
from models import ProgressFn

NAME = "fashion-scenes"
SCENE_CLASSES = ("background", *FASHION_CLASSES)
TRAIN, TEST = 5_000, 1_000

_OPAQUE_FROM = 16
"""Of the thresholds 4, 8, 16 and 32 the one that leaves the fewest items in pieces, 6 in 100."""
_AT_A_TIME = 4_096
_LIT = (0.3 + 0.7 * (np.arange(256) / 255) ** 0.7).astype(np.float32)
"""The light of every shade: never black, and the items' thin dark rims less so."""


def _silent(words: str, done: int, total: int) -> None:
    """Reports to nobody."""


@dataclass(frozen=True)
class Arrangement:
    """How a scene is laid out: from ``fewest`` to ``most`` items, each number equally likely, their frames of 28×28
    from ``smallest`` to ``largest`` as shares of the scene's side. ``catalog``: each item in a quarter of the scene of
    its own, so that none hides another and none is cut off much, gray on a plain dark background."""

    name: str
    fewest: int
    most: int
    smallest: float
    largest: float
    catalog: bool = False


CLUTTER = Arrangement("clutter", 2, 6, 0.4, 0.8)
CATALOG = Arrangement("catalog", 0, 3, 0.45, 0.6, catalog=True)
"""Some scenes are empty, because an annotation without any choice is a label too."""

Span = tuple[np.ndarray | float, np.ndarray | float]
_ANYWHERE: Span = (0.12, 0.88)
_JITTER = 0.05
_GRAY = np.full(3, 230, dtype=np.float32)


class Items(NamedTuple):
    """Cut-outs: gray ``pixels`` (N, H, W) uint8, their ``silhouettes`` (N, H, W) bool, ``labels`` (N,) from 0."""

    pixels: np.ndarray
    silhouettes: np.ndarray
    labels: np.ndarray


def cut_out(images: np.ndarray, labels: np.ndarray) -> Items:
    """Items of ``images`` (N, H, W) uint8 on black: what is brighter than black, without holes."""
    silhouettes = np.empty(images.shape, dtype=bool)
    for start in range(0, len(images), _AT_A_TIME):
        silhouettes[start : start + _AT_A_TIME] = fill_holes(images[start : start + _AT_A_TIME] >= _OPAQUE_FROM)
    return Items(images, silhouettes, labels)


def fill_holes(solid: np.ndarray) -> np.ndarray:
    """(N, H, W) bool: also what cannot be reached from outside by steps to the four neighbours; W ≤ 30.

    A row of pixels is one integer here, so that a step is one shift for the pixels of all items.
    """
    count, height, width = solid.shape
    framed = np.zeros((count, height + 2, 32), dtype=bool)
    framed[:, 1:-1, 1 : width + 1] = solid
    free = ~np.packbits(framed, axis=2).view(">u4")[..., 0].astype(np.uint32)
    outside = np.zeros_like(free)
    outside[:, 0] = free[:, 0]
    moving = np.arange(count)
    while len(moving):
        before = outside[moving]
        after = before | before << 1 | before >> 1
        after[:, 1:] |= before[:, :-1]
        after[:, :-1] |= before[:, 1:]
        after &= free[moving]
        outside[moving] = after
        moving = moving[(after != before).any(axis=1)]
    filled = np.unpackbits(~outside[..., None].astype(">u4").view(np.uint8), axis=2).astype(bool)
    return filled[:, 1:-1, 1 : width + 1]


@dataclass(frozen=True)
class Scenes:
    """Scenes of ``size`` px from ``items``; ``part`` is one of train and test."""

    items: Items
    size: int
    seed: int
    part: str = "train"
    arrangement: Arrangement = CLUTTER

    def scene(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The image (S, S, 3) and the mask (S, S), uint8, of a row; the mask holds indices into SCENE_CLASSES."""
        draw = self._draw(row)
        image, grain = self._behind(draw)
        mask = np.zeros((self.size, self.size), dtype=np.uint8)
        for span in self._spans(draw):
            self._put(draw, image, mask, span)
        return _finished(image, grain), mask

    def background(self, row: int) -> np.ndarray:
        """What :meth:`scene` puts its items on, (S, S, 3) uint8."""
        return _finished(*self._behind(self._draw(row)))

    def _draw(self, row: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, PARTS.index(self.part), row])

    def _behind(self, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """As :func:`benchmarks.data.backgrounds.background`."""
        image, grain = background(draw, self.size)
        if self.arrangement.catalog:
            return np.broadcast_to(image.mean(axis=(0, 1)) / 2, image.shape).copy(), grain / 2
        return image, grain

    def _spans(self, draw: np.random.Generator) -> list[Span]:
        """For each item the least and the greatest (y, x) of its middle, as shares of the scene's side."""
        count = int(draw.integers(self.arrangement.fewest, self.arrangement.most + 1))
        if not self.arrangement.catalog:
            return [_ANYWHERE] * count
        quarters = draw.permutation(4)[:count]
        middles = 0.25 + 0.5 * np.stack([quarters // 2, quarters % 2], axis=1)
        return [(middle - _JITTER, middle + _JITTER) for middle in middles]

    def _put(self, draw: np.random.Generator, image: np.ndarray, mask: np.ndarray, span: Span = _ANYWHERE) -> None:
        """Lay one item over what is there, its middle within ``span``."""
        smallest, largest = self.arrangement.smallest, self.arrangement.largest
        which = draw.integers(len(self.items.labels))
        side = max(4, round(self.size * smallest * (largest / smallest) ** draw.random()))
        mirrored = draw.random() < 0.5
        top, left = np.rint(draw.uniform(*span, 2) * self.size - side / 2).astype(int)
        tint = _GRAY if self.arrangement.catalog else color(draw)

        shade, alpha = self.items.pixels[which], self.items.silhouettes[which]
        layers = np.dstack([shade, alpha * np.uint8(255)])
        if mirrored:
            layers = layers[:, ::-1]
        # Pillow weighs the shade with the alpha while it scales: no dark rim; bicubic would make a bright one
        scaled = Image.fromarray(np.ascontiguousarray(layers), "LA").resize((side, side), Image.Resampling.BILINEAR)

        here = (slice(max(0, top), top + side), slice(max(0, left), left + side))
        cut = np.asarray(scaled)[max(0, -top) : self.size - top, max(0, -left) : self.size - left]
        opaque = cut[..., 1] >= 128
        image[here][opaque] = tint * _LIT[cut[..., :1][opaque]]
        mask[here][opaque] = self.items.labels[which] + 1


def _finished(image: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return (image + grain).clip(0, 255).astype(np.uint8)


def prepare_scenes(
    size: int,
    downloads: Path,
    work: Path,
    report: ProgressFn,
    *,
    count: int = TRAIN,
    test: int = TEST,
    seed: int = 0,
    arrangement: Arrangement = CLUTTER,
) -> Path:
    """The folder of the data set ``fashion-scenes`` below ``work``, made where it is missing.

    Raises:
        DatasetUnavailable: Fashion-MNIST is not at hand.
    """
    kind = "" if arrangement == CLUTTER else f"-{arrangement.name}"
    folder = work / f"{NAME}{kind}-{size}-{count}-{test}-{seed}"
    if not (folder / "about.json").exists():
        raw = fashion_mnist_itself(downloads)
        write_scenes(folder, count, size, seed, raw=raw, test=test, report=report, arrangement=arrangement)
    return folder


def write_scenes(
    folder: Path,
    count: int,
    size: int,
    seed: int,
    *,
    raw: Dataset,
    test: int = TEST,
    report: ProgressFn = _silent,
    arrangement: Arrangement = CLUTTER,
) -> None:
    """Write ``count`` training and ``test`` test scenes of ``size`` px to a new ``folder``, one at a time, for
    :class:`~benchmarks.data.kept_masks.MaskSet` to open. ``raw`` holds the items: Fashion-MNIST itself."""
    frame = (size, size)
    with draft_of(folder, frame) as (draft, writers):
        for part, images, labels, rows in (
            ("train", raw.train_images, raw.train_labels, count),
            ("test", raw.test_images, raw.test_labels, test),
        ):
            scenes = Scenes(cut_out(images, labels), size, seed, part, arrangement)
            for row in range(rows):
                writers[part].write(*scenes.scene(row))
                report(f"{NAME}: {part}", row, rows)
        finish(draft, writers, frame, SCENE_CLASSES, f"{NAME}, seed {seed}, of {raw.source}")
