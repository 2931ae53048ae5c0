"""The masks that a version predicted, in files alongside its checkpoint, and their conversion to regions.

They let publishing and ``/predict`` work without the model. There is one file for the cycle, and one for each time that
tasks joined later.

    <digest of the task ids>.masks   a line of JSON, then
                                     N int64 task ids,
                                     N pairs of int32, (height, width) of the original images,
                                     N pairs of planes H×W: the mask, and the confidence in each of its pixels

A file is written atomically, before the scores that it belongs to. A kill in between leaves masks of tasks without a
score, which are not used; when they are predicted again, the file gets the same name. If a file is lost or damaged, its
tasks lose their regions, but not their places in the queue.
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

from backend.settings.core import Settings
from backend.tasks.records import Result, Size
from backend.tasks.segmentation.config import Kind, SegmentationSpec
from models.files import whole_file

log = logging.getLogger(__name__)

FORMAT = 1
FULL_CONFIDENCE = 255
"""The value that means a confidence of 1 in these files."""

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
    """The regions of a predicted mask (H, W) uint8, in which the value ``i + 1`` means ``classes[i]`` of the network.

    Classes are found in ``spec`` by name, because labels may have been added, removed or moved since the training.
    Regions of a removed label are left out.

    Args:
        confidence: (H, W) uint8, up to :data:`FULL_CONFIDENCE`.
        original_size: (height, width) of the image.
    """
    from backend.tasks.segmentation.masks import mask_to_regions  # here: it imports OpenCV

    current_value = np.zeros(256, np.uint8)
    for value, label in enumerate(classes, 1):
        current_value[value] = spec.index_of(label) or 0
    kind: Kind = "polygon" if settings.preannotation == "polygon" else "brush"
    share = confidence / np.float32(FULL_CONFIDENCE)
    return mask_to_regions(current_value[mask], spec, original_size, kind=kind, confidence=share)


# -- on disk -----------------------------------------------------------------------------------------------------------


class KeptMasks:
    """The masks of one version, memory-mapped from its files. Works without torch and the model."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = list(parts)

    @classmethod
    def open(cls, folder: Path) -> KeptMasks | None:
        """Open the files in ``folder``. None if there are none."""
        found = [part for path in sorted(folder.glob("*.masks")) if (part := _read(path))]
        return cls(found) if found else None

    @property
    def tasks(self) -> set[int]:
        """All tasks with a mask."""
        return {int(task) for part in self._parts for task in part.tasks}

    def holds(self, task: int) -> bool:
        return any(part.row(task) is not None for part in self._parts)

    def planes(self, task: int) -> np.ndarray | None:
        """(2, H, W) uint8: the mask of a task and its confidence. None if there is none."""
        return next((part.planes[row] for part in self._parts if (row := part.row(task)) is not None), None)

    def classes_of(self, task: int) -> tuple[str, ...]:
        """The classes that the mask of a task shows, in the order of the model's; none if there is no mask."""
        for part in self._parts:
            if (row := part.row(task)) is not None:
                return tuple(part.classes[value - 1] for value in np.unique(part.planes[row, 0]).tolist() if value)
        return ()

    def regions_for(self, spec: SegmentationSpec, settings: Settings, task: int) -> Result | None:
        """The ``result`` of a task's prediction, [] if the mask is all background. None if there is no mask."""
        for part in self._parts:
            row = part.row(task)
            if row is not None:
                mask, confidence = part.planes[row]
                height, width = part.sizes[row].tolist()
                return regions_of(mask, confidence, part.classes, (height, width), spec, settings)
        return None


def write_masks(
    folder: Path,
    classes: Sequence[str],
    frame: Size,
    tasks: Sequence[int],
    sizes: np.ndarray,
    batches: Iterable[Batch],
) -> Path:
    """Write the masks of ``tasks`` to a file in ``folder``, batch by batch, so that only one batch is in memory.

    Args:
        classes: those of the network, without the background.
        frame: (H, W) of the masks.
        sizes: (N, 2), the height and width of the original images.

    Raises:
        ValueError: ``batches`` do not contain exactly one mask for each task.
        OSError: writing failed, for example because the disk is full. Then there is no file.
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
    """Write the planes of all rows, in any order, from the current position of ``file`` on."""
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
            rows, (height, width) = int(header["rows"]), header["frame"]
            tasks = np.frombuffer(file.read(8 * rows), "<i8")
            sizes = np.frombuffer(file.read(8 * rows), "<i4").reshape(rows, 2)
            start, shape = file.tell(), (rows, 2, int(height), int(width))
            if header["format"] != FORMAT or os.fstat(file.fileno()).st_size != start + math.prod(shape):
                raise ValueError("another format, or not whole")
            planes = np.memmap(file, np.uint8, "r", start, shape) if rows else np.empty(shape, np.uint8)
        return _Part(tuple(header["classes"]), tasks, sizes, planes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The masks in %s cannot be read: %s", path, error)
        return None
