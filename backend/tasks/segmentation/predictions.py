"""Masks that a version predicted, in files alongside its checkpoint, and the regions that they become.

So neither publishing nor ``/predict`` needs the model. One file for the cycle and one for each time that tasks joined
later.

    <digest of the task ids>.masks   a line of JSON, then
                                     N int64 task ids,
                                     N pairs of int32, (height, width) of the original images,
                                     N pairs of planes H×W: the mask, and the confidence in each of its pixels

A file appears whole or not at all, and before the scores that it belongs to. A kill in between leaves masks of tasks
without a score: nobody asks for them, and whoever predicts them again gives the file the same name. A file that is lost
or damaged costs the regions of its tasks, not their places in the queue.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from backend.files import whole_file
from backend.settings.core import Settings
from backend.tasks.base import Result, Size
from backend.tasks.segmentation.config import Kind, SegmentationSpec

log = logging.getLogger(__name__)

FORMAT = 1
SURE = 255
"""The confidence of a net that has no doubt, in the planes of this file."""

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Positions (B,) among the tasks, masks (B, H, W) uint8 and confidence (B, H, W) uint8."""



def regions_of(
    mask: np.ndarray,
    confidence: np.ndarray,
    classes: Sequence[str],
    original_size: Size,
    spec: SegmentationSpec,
    settings: Settings,
) -> Result:
    """The regions of a predicted mask (H, W) uint8, whose value ``i + 1`` means ``classes[i]`` of the net that made it.

    Classes are found in ``spec`` by their names: since the training labels may have come, gone or moved. Regions of a
    label that is gone are left out. ``confidence`` (H, W) uint8; ``original_size`` (height, width).
    """
    from backend.tasks.segmentation.masks import mask_to_regions  # OpenCV: only where there are masks

    now = np.zeros(256, np.uint8)
    for value, label in enumerate(classes, 1):
        now[value] = spec.index_of(label) or 0
    kind: Kind = "polygon" if settings.preannotation == "polygon" else "brush"
    return mask_to_regions(now[mask], spec, original_size, kind=kind, confidence=confidence / np.float32(SURE))


# -- on disk -----------------------------------------------------------------------------------------------------------


class KeptMasks:
    """The masks of one version, mapped from its files. Needs neither torch nor the model."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = list(parts)

    @classmethod
    def open(cls, folder: Path) -> KeptMasks | None:
        """None when ``folder`` is missing or holds no masks."""
        found = [part for path in sorted(folder.glob("*.masks")) if (part := _read(path))]
        return cls(found) if found else None

    @property
    def tasks(self) -> set[int]:
        """Every task with a mask here."""
        return {int(task) for part in self._parts for task in part.tasks}

    def holds(self, task: int) -> bool:
        return any(part.row(task) is not None for part in self._parts)

    def planes(self, task: int) -> np.ndarray | None:
        """(2, H, W) uint8: mask and confidence. None when there is none of ``task``."""
        return next((part.planes[row] for part in self._parts if (row := part.row(task)) is not None), None)

    def regions_for(self, spec: SegmentationSpec, settings: Settings, task: int) -> Result | None:
        """The ``result`` of a prediction of ``task``, [] when it is all background. None when its mask is not kept."""
        for part in self._parts:
            row = part.row(task)
            if row is not None:
                mask, confidence = part.planes[row]
                high, wide = part.sizes[row].tolist()
                return regions_of(mask, confidence, part.classes, (high, wide), spec, settings)
        return None


def write_masks(
    folder: Path,
    classes: Sequence[str],
    frame: Size,
    tasks: Sequence[int],
    sizes: np.ndarray,
    batches: Iterable[Batch],
) -> Path:
    """Keep the masks of ``tasks`` in a file of ``folder``, as they come: memory for one batch is enough.

    Args:
        classes: of the net, without the background.
        frame: (H, W) of the masks.
        sizes: (N, 2) height and width of the original images.

    Raises:
        ValueError: ``batches`` do not give each task one mask.
        OSError: the disk is full, say; nothing is left of the file then.
    """
    ids = np.asarray(tasks, "<i8")
    header = {"format": FORMAT, "frame": list(frame), "classes": list(classes), "rows": len(ids)}
    head = json.dumps(header).encode() + b"\n" + ids.tobytes() + np.asarray(sizes, "<i4").tobytes()
    path = folder / f"{hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()}.masks"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(head)
        _write_planes(file, frame, len(ids), batches)
    return path


def _write_planes(file: BinaryIO, frame: Size, rows: int, batches: Iterable[Batch]) -> None:
    """The planes of every row, from where ``file`` stands, in whatever order they come."""
    start, row_bytes = file.tell(), 2 * math.prod(frame)
    missing = np.ones(rows, bool)
    for positions, masks, confidence in batches:
        if masks.shape != (len(positions), *frame) or confidence.shape != masks.shape:
            raise ValueError(f"masks {masks.shape} and confidence {confidence.shape} do not fit a frame of {frame}")
        for position, planes in zip(positions.tolist(), np.stack([masks, confidence], 1), strict=True):
            file.seek(start + position * row_bytes)
            file.write(planes.astype(np.uint8, copy=False).tobytes())
            missing[position] = False
    if missing.any():
        raise ValueError(f"{int(missing.sum())} of {rows} tasks were given no mask")


@dataclass(frozen=True)
class _Part:
    """One file: tasks (N,) int64, sizes (N, 2) int32, planes (N, 2, H, W) uint8."""

    classes: tuple[str, ...]
    tasks: np.ndarray
    sizes: np.ndarray
    planes: np.ndarray

    def row(self, task: int) -> int | None:
        found = np.flatnonzero(self.tasks == task)
        return int(found[0]) if len(found) else None


def _read(path: Path) -> _Part | None:
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
            rows, (high, wide) = int(header["rows"]), header["frame"]
            tasks = np.frombuffer(file.read(8 * rows), "<i8")
            sizes = np.frombuffer(file.read(8 * rows), "<i4").reshape(rows, 2)
            start, shape = file.tell(), (rows, 2, int(high), int(wide))
            if header["format"] != FORMAT or os.fstat(file.fileno()).st_size != start + math.prod(shape):
                raise ValueError("another format, or not whole")
            planes = np.memmap(file, np.uint8, "r", start, shape) if rows else np.empty(shape, np.uint8)
        return _Part(tuple(header["classes"]), tasks, sizes, planes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The masks in %s cannot be read: %s", path, error)
        return None
