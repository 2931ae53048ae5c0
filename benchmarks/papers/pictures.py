"""Pictures of results: PNG files of less than 300 kB, which the repository can hold."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.curves.plot import COLORS

SHADES = 32  # colors of a picture: enough for small photographs, and a third of the bytes


def strips(images: Mapping[str, np.ndarray], columns: int) -> bytes:
    """Images (N, H, W, 3) uint8 under their words, each N in rows of ``columns``: a PNG."""
    heights = [-(-len(part) // columns) for part in images.values()]
    tall = [0.32 * rows * part.shape[1] / part.shape[2] for rows, part in zip(heights, images.values(), strict=True)]
    figure = Figure(figsize=(0.32 * columns, sum(tall) + 0.3 * len(tall)))
    axes = figure.subplots(len(images), 1, squeeze=False, height_ratios=tall)[:, 0]
    for place, (words, part) in zip(axes, images.items(), strict=True):
        place.imshow(in_rows(part, columns), interpolation="nearest")
        place.set_title(words, fontsize=8, loc="left", pad=2)
        place.set_axis_off()
    figure.tight_layout(pad=0.4)
    return _png(figure)


def in_rows(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, H, W, 3) side by side in rows of ``columns``, a white pixel between them: (H', W', 3) uint8."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    framed = np.full((rows * columns, height + 1, width + 1, channels), 255, dtype=np.uint8)
    framed[:count, :height, :width] = images
    laid = framed.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    return laid.reshape(rows * (height + 1), columns * (width + 1), channels)


def in_pairs(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Images (N, H, W, 3) and as many of any size: (N, H + H', W, 3), each with the other's below it, as wide."""
    wide = upper.shape[2]
    resized = [np.asarray(Image.fromarray(one).resize((wide, wide * one.shape[0] // one.shape[1]))) for one in lower]
    return np.concatenate([upper, np.stack(resized)], axis=1)


def lines(title: str, curves: Mapping[str, np.ndarray], x_words: str, y_words: str, mark: float = 0.0) -> bytes:
    """Curves (T, K) over 1 … K: the mean of the T of each, and all T around it; a vertical line at ``mark``."""
    figure = Figure(figsize=(5.4, 3.4))
    axes = figure.subplots()
    for color, (words, values) in zip(COLORS, curves.items(), strict=False):
        places = np.arange(1, values.shape[1] + 1)
        axes.plot(places, values.T, color=color, alpha=0.3, linewidth=0.8)
        axes.plot(places, values.mean(axis=0), color=color, linewidth=2, label=words)
    if mark:
        axes.axvline(mark, color="gray", linestyle=":")
    axes.set(title=title, xlabel=x_words, ylabel=y_words)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100, metadata={"Software": None})
    drawn.seek(0)
    Image.open(drawn).convert("RGB").quantize(SHADES).save(file, "PNG", optimize=True)
    return file.getvalue()


def side_by_side(given: np.ndarray, found: Sequence[np.ndarray]) -> np.ndarray:
    """Images (N, H, W, 3), each followed by those found for it, (K, H, W, 3), with a white one before and behind."""
    gap = np.full((1, *given.shape[1:]), 255, dtype=np.uint8)
    return np.concatenate([np.concatenate([one[None], gap, some, gap]) for one, some in zip(given, found, strict=True)])
