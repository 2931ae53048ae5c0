"""Brush regions in Label Studio: the label config that asks for them, and a mask as brush regions and back.

By the SDK's own codec, not the backend's, which it is to be checked with.

A mask is (H, W) uint8: 0 background, i + 1 the class ``classes[i]``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from demo.annotator import PreannotationError

CONTROL, IMAGE = "mask", "image"
"""Names of the BrushLabels and of the Image in :func:`brush_config`."""

_OPAQUE = 128
_CHANNELS = 4


def brush_config(classes: Sequence[str]) -> str:
    """A label config with one ``BrushLabels`` on one ``Image``, which has no label for the background."""
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in classes)
    return (
        f'<View><BrushLabels name="{CONTROL}" toName="{IMAGE}">{labels}</BrushLabels>'
        f'<Image name="{IMAGE}" value="$image" zoom="true"/></View>'
    )


def paint(mask: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The ``result`` of an annotation: a brush region for each class in ``mask``; none when all is background."""
    from label_studio_sdk.converter.brush import mask2rle  # here: the SDK takes seconds to import

    height, width = mask.shape
    return [
        {
            "id": uuid.uuid4().hex[:10],
            "type": "brushlabels",
            "from_name": CONTROL,
            "to_name": IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": mask2rle(np.where(mask == index, np.uint8(255), np.uint8(0))),
                "brushlabels": [classes[index - 1]],
            },
        }
        for index in np.unique(mask).tolist()
        if index
    ]


def painted(result: Sequence[dict[str, Any]], classes: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """The mask of brush regions on an image of ``size`` (H, W); later regions lie over earlier ones.

    Raises:
        PreannotationError: a region is of another kind, class or size, or its code cannot be read.
    """
    mask = np.zeros(size, np.uint8)
    for region in result:
        value = region.get("value") or {}
        kind = (region.get("type"), region.get("from_name"), region.get("to_name"), value.get("format"))
        if kind != ("brushlabels", CONTROL, IMAGE, "rle"):
            raise PreannotationError(f"a region is {kind}, not one of the brush")
        labels = value.get("brushlabels")
        if not isinstance(labels, list) or len(labels) != 1 or labels[0] not in classes:
            raise PreannotationError(f"a region has the labels {labels}, not one of the label config's")
        drawn_on = (region.get("original_height"), region.get("original_width"))
        if drawn_on != size:
            raise PreannotationError(f"a region is of an image of {drawn_on} pixels, and the image has {size}")
        mask[_pixels(value.get("rle"), size)] = classes.index(labels[0]) + 1
    return mask


def _pixels(rle: Any, size: tuple[int, int]) -> np.ndarray:
    """Where a brush region is opaque, (H, W) bool."""
    from label_studio_sdk.converter.brush import decode_rle  # here: see above

    try:
        values = decode_rle(rle)
    except (TypeError, ValueError, IndexError) as error:
        raise PreannotationError(f"a region's code cannot be read ({error})") from error
    if len(values) != size[0] * size[1] * _CHANNELS:
        raise PreannotationError(f"a region's code is of {len(values) / _CHANNELS:g} pixels, and the image has {size}")
    opaque: np.ndarray = values.reshape(*size, _CHANNELS)[..., -1] >= _OPAQUE
    return opaque
