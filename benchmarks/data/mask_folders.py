"""Segmentation data sets decoded into files of uint8: scenes of our own, and what :mod:`mask_layouts` finds in folders.

Everything is decoded once to one size: the middle of the image with the proportions asked for is cut out and scaled,
bilinear the image and nearest its mask, so that neither is distorted and no class comes up that was not there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.data import scenes
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.data.kept_masks import PartWriter, draft_of, finish
from benchmarks.data.mask_layouts import LAYOUTS, UNKNOWN, Frame, Layout, Pair, is_mask_folder, layout_of
from models import IGNORE, ProgressFn

FOLDERS = {"cityscapes": "cityscapes", "voc": "VOCdevkit"}
"""Data sets with a name, and the folder that each is unpacked to below the one that downloads are kept in."""

CHOICES = f"{scenes.NAME}, or {LAYOUTS}"
SCENE_SIZE = 64
_FOR_EACH_THREAD = 4


def holds_masks(dataset: str) -> bool:
    """Whether this is the name of a data set with masks, or a folder that looks like one."""
    folder = Path(dataset)
    return is_mask_folder(folder) or (dataset in (scenes.NAME, *FOLDERS) and not folder.is_dir())


def prepare(
    dataset: str,
    size: int,
    downloads: Path,
    work: Path,
    report: ProgressFn,
    *,
    arrangement: scenes.Arrangement = scenes.CLUTTER,
) -> Path:
    """The decoded folder of ``dataset``, which is ``fashion-scenes``, one of FOLDERS, or a folder of one of the three
    layouts; made where it is missing. ``size``: the longer side of its frame in px, 0 = its own. ``arrangement``: of
    the items in scenes. MaskSet opens it.

    Raises:
        DatasetUnavailable: no such data set, or a file of it is missing or is not what it should be; says which.
    """
    if dataset == scenes.NAME:
        return scenes.prepare_scenes(size or SCENE_SIZE, downloads, work, report, arrangement=arrangement)
    folder = Path(dataset)
    if dataset in FOLDERS and not folder.is_dir():
        folder = downloads.expanduser() / FOLDERS[dataset]
    layout = layout_of(folder)
    return decode(layout, fitted(layout.frame, size), work, report)


def fitted(frame: Frame, longer: int) -> Frame:
    """The frame (H, W) with its longer side ``longer`` px and the same proportions; itself for 0."""
    scale = longer / max(frame) if longer else 1
    return max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))


def decode(layout: Layout, frame: Frame, work: Path, report: ProgressFn) -> Path:
    """Decode what a layout holds below ``work``, once for each size. A few images at a time are in memory.

    Raises as :func:`prepare`.
    """
    label = "-".join(layout.source.split(",")[0].removeprefix("the folder ").lower().split())
    folder = work / f"{label}-{frame[0]}x{frame[1]}-{_fingerprint(layout)}"
    if (folder / "about.json").exists():
        return folder
    with draft_of(folder, frame) as (draft, writers):
        for part, pairs in layout.parts.items():
            for done, row in enumerate(_decoded(pairs, frame, layout.lookup)):
                report(f"decoding {part}", done, len(pairs))
                writers[part].write(*row)
        finish(draft, writers, frame, layout.classes or _counted(writers), layout.source)
    return folder


def _counted(writers: dict[str, PartWriter]) -> tuple[str, ...]:
    highest = max(writer.highest for writer in writers.values())
    if highest < 1:
        raise DatasetUnavailable(
            "the masks hold one class only: they must hold class indices (0, 1, 2 …); 255 is what is ignored, not white"
        )
    return ("background", *(f"class {index}" for index in range(1, highest + 1)))


def _decoded(pairs: Sequence[Pair], frame: Frame, lookup: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as executor:
        for start in range(0, len(pairs), threads * _FOR_EACH_THREAD):
            some = pairs[start : start + threads * _FOR_EACH_THREAD]
            yield from executor.map(lambda pair: read_pair(pair, frame, lookup), some)


def read_pair(pair: Pair, frame: Frame, lookup: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image (H, W, 3) and the mask (H, W) at ``frame`` (H, W), uint8. Raises as :func:`prepare`."""
    try:
        with Image.open(pair.image) as file:
            if file.mode.startswith(("I", "F")):
                raise ValueError("images of more than 8 bits are not read here")
            image = ImageOps.exif_transpose(file).convert("RGB")
        with Image.open(pair.mask) as file:
            mode, values = file.mode, np.asarray(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetUnavailable(f"{pair.image} or its mask cannot be read: {error}") from error
    if values.ndim != 2 or values.dtype.kind == "f":
        raise DatasetUnavailable(f"{pair.mask} is of Pillow's mode {mode}: a mask has one channel of class indices")
    if values.shape != (image.height, image.width):
        raise DatasetUnavailable(
            f"{pair.mask} has {values.shape[1]}×{values.shape[0]} pixels and its image {image.width}×{image.height}"
        )
    if values.min() < 0 or values.max() > IGNORE:
        raise DatasetUnavailable(f"{pair.mask} holds values from {values.min()} to {values.max()}: 0 to 255 are read")
    classes = lookup[values.astype(np.uint8)]
    if (classes == UNKNOWN).any():
        unknown = np.unique(values[classes == UNKNOWN]).tolist()
        raise DatasetUnavailable(f"{pair.mask} holds {unknown}, which are no class of this data set")
    high, wide = frame
    reach = min(image.width / wide, image.height / high)
    left, top = (image.width - wide * reach) / 2, (image.height - high * reach) / 2
    box = (left, top, left + wide * reach, top + high * reach)
    scaled = image.resize((wide, high), Image.Resampling.BILINEAR, box=box)
    mask = Image.fromarray(classes).resize((wide, high), Image.Resampling.NEAREST, box=box)
    return np.asarray(scaled), np.asarray(mask)


def _fingerprint(layout: Layout) -> str:
    """Changes with the names, sizes and times of the files, the classes and what the mask values mean."""
    digest = hashlib.sha256(repr((layout.classes, layout.lookup.tolist())).encode())
    for part, pairs in layout.parts.items():
        for path in (path for pair in pairs for path in pair):
            facts = path.stat()
            digest.update(f"{part}/{path.name}/{facts.st_size}/{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
