"""A picture of images with their masks, to look at a data set before a day is spent on it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.segmentation_kept import IGNORE

_BESIDE = 6
_LINE = 16


def palette(classes: int) -> np.ndarray:
    """A colour for every mask value, (256, 3) uint8: black for class 0, white for IGNORE, hues that lie far apart."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    for index in range(1, classes):
        # steps of the golden ratio never come close to each other
        rgb = colorsys.hsv_to_rgb(index * 0.618034 % 1, (0.9, 0.55)[index % 2], (1.0, 0.75)[index // 2 % 2])
        colours[index] = np.rint(np.array(rgb) * 255)
    colours[IGNORE] = 255
    return colours


def contact_sheet(
    images: np.ndarray, masks: np.ndarray, classes: Sequence[str], *, columns: int = 4, scale: int = 2
) -> Image.Image:
    """Images (B, H, W, 3), each with its mask (B, H, W) laid over a grey copy beside it, and the classes' colours."""
    colours = palette(len(classes))
    height, width = masks.shape[1] * scale, masks.shape[2] * scale
    rows = -(-len(images) // columns)
    entry = max(len(name) for name in classes) * 7 + 24
    wide = columns * (2 * width + _BESIDE)
    in_a_line = max(1, wide // entry)
    legend = (-(-len(classes) // in_a_line)) * _LINE
    sheet = Image.new("RGB", (wide, rows * (height + _BESIDE) + legend), "white")
    for place, (image, mask) in enumerate(zip(images, masks, strict=True)):
        left, top = place % columns * (2 * width + _BESIDE), place // columns * (height + _BESIDE)
        grey = image.mean(axis=2, keepdims=True) * 0.45
        laid_over = np.where(mask[..., None] > 0, grey + colours[mask] * 0.55, grey * 2).astype(np.uint8)
        for beside, part in enumerate((image, laid_over)):
            large = Image.fromarray(np.ascontiguousarray(part)).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(large, (left + beside * width, top))
    pen = ImageDraw.Draw(sheet)
    for index, name in enumerate(classes):
        left, top = index % in_a_line * entry, sheet.height - legend + index // in_a_line * _LINE
        pen.rectangle((left, top + 2, left + 11, top + 13), fill=tuple(colours[index].tolist()))
        pen.text((left + 16, top + 2), name, fill="black")
    return sheet
