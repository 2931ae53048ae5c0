"""Conversion between regions and masks. A mask is (H, W) uint8: 0 is background, i + 1 the class ``spec.classes[i]``,
255 unknown.

Coordinates of regions refer to the image as browsers show it, with its EXIF orientation applied. The editor's rotate
button only affects the view: ``image_rotation`` changes no coordinates. A mask covers the whole image at any scale, so
its pixel (y, x) is sampled at ((y + ½) / H, (x + ½) / W) of the image.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from backend.images.decoding import MAX_PIXELS
from backend.tasks.records import Size
from backend.tasks.segmentation import brush, polygons
from backend.tasks.segmentation.config import Control, Kind, SegmentationSpec
from models import IGNORE

SMALLEST = 0.0005
"""A connected part of a predicted class is left out if it is smaller than this share of the image."""

_COMPARED_AT = 1024
"""The maximum of the longer side, in pixels, at which two masks are compared."""

TOLERANCE = 1.0
"""The maximum distance of a polygon from the mask's outline, in pixels of the mask."""


def regions_to_mask(
    results: Sequence[Any],
    spec: SegmentationSpec,
    size: Size,
    *,
    unlabeled: int = 0,
    image_size: Size | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The mask (H, W) uint8 of an annotation's ``result``, and messages to the project's owner about its problems.

    Later regions cover earlier ones. A region whose label is no longer in the label config becomes IGNORE. If the shape
    of a region cannot be read, the pixels that no other region covers are unknown, so they become IGNORE too.

    Args:
        size: (H, W) of the mask.
        unlabeled: the value of pixels that no region covers: 0 or IGNORE.
        image_size: (H, W) of the decoded image, with its EXIF orientation applied. If given, regions that were drawn on
            an image of another shape are refused.
    """
    mask = np.full(size, IGNORE, np.uint8)
    covered = np.zeros(size, bool)
    problems: list[str] = []
    lost = False
    for region in results:
        kind = spec.kind_of(region)
        if kind is None:
            continue
        label, index, problem = _label(region, kind, spec)
        if problem:
            problems.append(problem)
        try:
            shape = _shape(region, kind, size, image_size)
        except _Unreadable as error:
            lost = True
            problems.append(f"A {kind} region{_of(label)} cannot be read: {error}. Delete it or draw it again.")
            continue
        mask[shape] = index
        covered |= shape
    if not lost:
        mask[~covered] = unlabeled
    return mask, list(dict.fromkeys(problems))


def drawing_digest(result: Sequence[Any], spec: SegmentationSpec) -> str:
    """32 hex digits that are the same for all regions that make the same mask, whatever draws them. A large image is
    compared at a fraction of its size."""
    ours = [region for region in result if spec.kind_of(region)]
    drawn_on = next((size for region in ours if (size := _drawn_on(region))), (1, 1))
    step = math.ceil(max(drawn_on) / _COMPARED_AT)
    mask, _ = regions_to_mask(ours, spec, (math.ceil(drawn_on[0] / step), math.ceil(drawn_on[1] / step)))
    return hashlib.blake2b(mask.tobytes() if mask.any() else b"", digest_size=16).hexdigest()


def mask_to_regions(
    mask: np.ndarray,
    spec: SegmentationSpec,
    original_size: Size,
    *,
    kind: Kind = "brush",
    confidence: np.ndarray | float | None = None,
    smallest: float = SMALLEST,
    tolerance: float = TOLERANCE,
) -> list[dict[str, Any]]:
    """The ``result`` of a predicted mask: for each class a brush region, or a polygon for each of its connected parts.

    Args:
        mask: (H, W) uint8; pixels of 0 and IGNORE are left out.
        original_size: (H, W) of the image as browsers show it, with its EXIF orientation applied. The editor cannot
            open a brush region of another size.
        kind: "brush" or "polygon". Where the label config has no such control for a class, the other kind is used.
        confidence: of the network, in [0, 1], (H, W) or one number. Its mean over a region becomes the region's score.
        smallest: parts of a class smaller than this share of the image are left out, and such holes are filled.
        tolerance: of polygons, in pixels of the mask.
    """
    least = smallest * mask.size
    mask = _without_specks(mask, len(spec.classes), least)
    at_pixels = None if confidence is None else np.broadcast_to(np.asarray(confidence, np.float32), mask.shape)
    runs = _Upsampled(mask, original_size)
    found: list[tuple[int, dict[str, Any]]] = []
    for index, label in enumerate(spec.classes, 1):
        if not (mask == index).any():
            continue
        control = spec.control_for(label, kind)
        if control.kind == "brush":
            shapes = [({"format": "rle", "rle": runs.code(index)}, mask == index)]
        else:
            shapes = _polygons(mask == index, tolerance, least)
        for value, pixels in shapes:
            region = _region(value, label, control, spec.to_name, original_size)
            if at_pixels is not None:
                region["score"] = round(float(np.clip(at_pixels[pixels].mean(), 0, 1)), 4)  # shown to people
            found.append((int(pixels.sum()), region))
    # the largest first, because later regions lie on top, where small ones can be clicked
    return [region for _, region in sorted(found, key=lambda item: -item[0])]


# -- regions → mask ----------------------------------------------------------------------------------------------------


class _Unreadable(Exception):
    """The shape of a region cannot be read; the message is a phrase that says why."""


def _label(region: Mapping[str, Any], kind: Kind, spec: SegmentationSpec) -> tuple[str, int, str]:
    """A region's label, its value in the mask, and a message if there is a problem with it."""
    value = region.get("value")
    labels = value.get(f"{kind}labels") if isinstance(value, Mapping) else None
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(labels, list) or not labels:
        return "", IGNORE, f"A {kind} region has no label: its pixels are ignored. Give it a label."
    names = ", ".join(f'"{label}"' for label in labels)
    if len(labels) > 1:
        return "", IGNORE, f"A {kind} region has several labels ({names}): its pixels are ignored. Keep only one."
    index = spec.index_of(str(labels[0]))
    if index is None:
        problem = f"The label {names} of a {kind} region is not in the label config (any more): its pixels are ignored."
        return str(labels[0]), IGNORE, problem
    return str(labels[0]), index, ""


def _shape(region: Mapping[str, Any], kind: Kind, size: Size, image_size: Size | None) -> np.ndarray:
    """The pixels of a mask that a region covers, (H, W) bool."""
    value = region.get("value")
    if not isinstance(value, Mapping):
        raise _Unreadable("it has no value")
    drawn_on = _drawn_on(region)
    if drawn_on and image_size:
        _compare(drawn_on, image_size)
    if kind == "brush":
        return _brush(value, size, drawn_on or image_size)
    if kind == "polygon":
        points = _numbers(value.get("points"), "its points are not pairs of numbers")
        if points.size == 0:
            return np.zeros(size, bool)
        if points.ndim != 2 or points.shape[1] != 2:
            raise _Unreadable("its points are not pairs of numbers")
        corners = points / 100  # with fewer than three, nothing is inside
    else:
        keys = [value.get(key) for key in ("x", "y", "width", "height")]
        x, y, width, height = _numbers(keys, "its corner or its size is not a number").reshape(-1) / 100
        degrees = float(_numbers([value.get("rotation") or 0], "its rotation is not a number")[0])
        rows, columns = drawn_on or image_size or size  # the rotation is in pixels, not in percent
        box = polygons.box(x * columns, y * rows, width * columns, height * rows, degrees)
        corners = box / (columns, rows)
    return polygons.fill(corners * (size[1], size[0]), *size)


def _brush(value: Mapping[str, Any], size: Size, drawn_on: Size | None) -> np.ndarray:
    if value.get("format", "rle") != "rle":
        raise _Unreadable(f'its format is "{value.get("format")}", not "rle"')
    if drawn_on is None:
        raise _Unreadable("the size of its image is missing")
    height, width = drawn_on
    if height * width > MAX_PIXELS:
        raise _Unreadable(f"its image of {width}×{height} pixels is larger than can be decoded safely")
    try:
        pixels = brush.decode_mask(value.get("rle") or [], width, height)
    except brush.BrushError as error:
        raise _Unreadable(str(error)) from error
    return pixels[_nearest(size[0], height)][:, _nearest(size[1], width)]


def _drawn_on(region: Mapping[str, Any]) -> Size | None:
    """(H, W) of the image that a region was drawn on, if the region says so."""
    height, width = region.get("original_height"), region.get("original_width")
    valid = all(isinstance(side, int | float) and 1 <= side < 1 << 31 and side == int(side) for side in (height, width))
    return (int(height), int(width)) if valid and height and width else None


def _compare(drawn_on: Size, image_size: Size) -> None:
    """Raise if the image has another shape now: it was rotated or replaced. Scaling it keeps regions in place."""
    expected = drawn_on[1] * image_size[0] / image_size[1]
    if abs(drawn_on[0] - expected) > max(1.0, 0.02 * expected):
        before, now = (f"{width}×{height}" for height, width in (drawn_on, image_size))
        raise _Unreadable(f"it was drawn on an image of {before} pixels, but the image now has {now}")


def _numbers(values: Any, message: str) -> np.ndarray:
    """``values`` as finite float64; raises with ``message`` if they are not."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise _Unreadable(message) from None
    if not np.isfinite(numbers).all():
        raise _Unreadable(message)
    return np.clip(numbers, -1e9, 1e9)


def _nearest(count: int, length: int) -> np.ndarray:
    """For each of ``count`` pixels, the index of the pixel among ``length`` that lies under its center."""
    return (2 * np.arange(count) + 1) * length // (2 * count)


def _of(label: str) -> str:
    return f' of "{label}"' if label else ""


# -- mask → regions ----------------------------------------------------------------------------------------------------


def _without_specks(mask: np.ndarray, classes: int, least: float) -> np.ndarray:
    """``mask`` with small parts of each class turned into background. Here, parts are connected by corners too."""
    kept = np.zeros_like(mask)
    for index in range(1, classes + 1):
        number, parts, stats, _ = cv2.connectedComponentsWithStats((mask == index).astype(np.uint8), connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] >= least
        large[0] = False  # pixels that are not of this class
        if number > 1:
            kept[large[parts]] = index
    return kept


class _Upsampled:
    """A mask scaled to the size of its image, as runs, which are computed once for all classes."""

    def __init__(self, mask: np.ndarray, size: Size) -> None:
        self._mask, self._size = mask, size

    def code(self, index: int) -> list[int]:
        """The brush code of one class."""
        lengths, values = self._runs
        here = values == index
        _, starts = brush.run_lengths(here)
        return brush.encode_runs(4 * np.add.reduceat(lengths, starts), 255 * here[starts].astype(np.uint8))

    @cached_property
    def _runs(self) -> tuple[np.ndarray, np.ndarray]:
        (height, width), (image_height, image_width) = self._mask.shape, self._size
        flat = self._mask[_nearest(image_height, height)][:, _nearest(image_width, width)].reshape(-1)
        lengths, starts = brush.run_lengths(flat)
        return lengths, flat[starts]


def _polygons(here: np.ndarray, tolerance: float, least: float) -> list[tuple[dict[str, Any], np.ndarray]]:
    """The values of a class's polygons, in percent of the image, each with its pixels (H, W) bool."""
    height, width = here.shape
    values = []
    for points in polygons.outlines(here, tolerance, least):
        pixels = polygons.fill(points, height, width)
        if pixels.sum() >= max(least, 1):
            percents = np.round(points / (width, height) * 100, 4)
            values.append(({"points": percents.tolist(), "closed": True}, pixels))
    return values


def _region(value: dict[str, Any], label: str, control: Control, to_name: str, original_size: Size) -> dict[str, Any]:
    """A region in Label Studio's format. Its id depends only on its contents, and so not on the run."""
    text = json.dumps([control.name, label, value], sort_keys=True)
    return {
        "id": hashlib.blake2b(text.encode(), digest_size=5).hexdigest(),
        "type": control.type,
        "from_name": control.name,
        "to_name": to_name,
        "original_width": original_size[1],
        "original_height": original_size[0],
        "image_rotation": 0,
        "value": value | {control.type: [label]},
    }
