"""A redundant pool: every image several times, each time a little different, as bursts and video frames are."""

from __future__ import annotations

import numpy as np

from benchmarks.data.datasets import Dataset

SUFFIX = "-copies"
COPIES = 5
IMAGES = 600
"""Different images of the pool, drawn by chance."""

SHIFT = 2  # pixels, at most, either way
BRIGHTNESS = 0.1  # at most, either way
NOISE = 4.0  # standard deviation, of 255


def jittered(raw: Dataset, seed: int = 0) -> Dataset:
    """The training part: ``COPIES`` rows in a row for each of at most ``IMAGES`` of ``raw``'s. The test part stays."""
    draw = np.random.default_rng([seed, 7])
    count = min(IMAGES, len(raw.train_images))
    chosen = np.sort(draw.choice(len(raw.train_images), count, replace=False)).repeat(COPIES)
    images = np.stack([jitter(raw.train_images[row], draw) for row in chosen])
    source = f"{raw.source}; {count:,} images in {COPIES} jittered copies each"
    return raw._replace(train_images=images, train_labels=raw.train_labels[chosen], source=source)


def jitter(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """``image`` (H, W) or (H, W, 3) uint8: moved, its edge repeated; brighter or darker; and with noise."""
    down, right = draw.integers(0, 2 * SHIFT + 1, 2)
    edges = [(SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)][: image.ndim]
    height, width = image.shape[:2]
    moved = np.pad(image, edges, mode="edge")[down : down + height, right : right + width]
    changed = moved * draw.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS) + draw.normal(0, NOISE, image.shape)
    return changed.clip(0, 255).astype(np.uint8)
