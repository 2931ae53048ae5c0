"""A folder with one folder of images per class, decoded once into files of uint8 pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backend.errors import ImageError
from backend.images.decoding import SMALL_SIZE, SMALL_UP_TO, decode, dimensions
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.data.kept_images import made_whole, write_about
from models import ProgressFn

LARGE_SIZE = 224
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
_TEST_NAMES = ("test", "val", "validation")
_LOOK_AT = 64
_AT_A_TIME = 256


class Listed(NamedTuple):
    """An image file and the index of its class."""

    path: Path
    label: int


def is_image_folder(folder: Path) -> bool:
    """Whether ``folder`` has at least two class folders, or train and test folders of such."""
    if not folder.is_dir():
        return False
    train, _ = _halves(folder)
    return len(_class_names(train)) >= 2


def decode_folder(folder: Path, size: int, work: Path, report: ProgressFn) -> Path:
    """Decode what ``folder`` holds to ``size`` px (0: 32 for images up to 40 px, else 224), as the worker does.

    The test part is its test (or val) folder; where it has no train and test folders, there is none, and each trial
    holds out images of its own. Images that cannot be read are set aside and counted. Never more than a few hundred
    decoded images are in memory.

    Raises:
        DatasetUnavailable: a part has no image that can be read.
    """
    train, test = _halves(folder)
    classes = _class_names(train)
    listed = _listed(train, classes)
    parts = {"train": listed, "test": _listed(test, classes)} if test else {"train": listed}
    side = size or _own_size(listed)
    kept = work / f"{folder.resolve().name}-{side}-{_fingerprint(folder, parts)}"
    if (kept / "about.json").exists():
        return kept
    with made_whole(kept) as draft:
        broken = 0
        for part, files in parts.items():
            labels = []
            with (draft / f"{part}.u8").open("wb") as file:
                for done, (pixels, label) in enumerate(_decoded(files, side)):
                    report(f"decoding {part}", done, len(files))
                    if pixels is not None:
                        file.write(pixels.tobytes())
                        labels.append(label)
            if not labels:
                raise DatasetUnavailable(f"the {part} part of {folder} has no image that can be read")
            broken += len(files) - len(labels)
            np.save(draft / f"{part}.npy", np.array(labels, dtype=np.int64))
        split = f"its own {test.name} folder" if test else "a fifth of each class held out, drawn in each trial"
        aside = f", {broken} unreadable images set aside" if broken else ""
        write_about(draft, side, tuple(classes), f"the folder {folder.resolve().name}, {split}{aside}")
    return kept


def _halves(folder: Path) -> tuple[Path, Path | None]:
    """The folders of the two parts; (folder, None) when it is not split."""
    train = folder / "train"
    for name in _TEST_NAMES:
        if train.is_dir() and (folder / name).is_dir():
            return train, folder / name
    return folder, None


def _class_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _listed(folder: Path, classes: Sequence[str]) -> list[Listed]:
    found = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            paths = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in _SUFFIXES)
            found += [Listed(path, label) for path in paths]
    return found


def _own_size(listed: Sequence[Listed]) -> int:
    longest = 0
    for one in listed[:: max(1, len(listed) // _LOOK_AT)]:
        try:
            longest = max(longest, *dimensions(one.path.read_bytes()))
        except (ImageError, OSError):
            continue
    return SMALL_SIZE if 0 < longest <= SMALL_UP_TO else LARGE_SIZE


def _decoded(files: Sequence[Listed], side: int) -> Iterator[tuple[np.ndarray | None, int]]:
    """Pixels (side, side, 3) and class of each file in order; None for one that cannot be read."""

    def one(listed: Listed) -> np.ndarray | None:
        try:
            return decode(listed.path.read_bytes(), side)
        except (ImageError, OSError):
            return None

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        for start in range(0, len(files), _AT_A_TIME):
            some = files[start : start + _AT_A_TIME]
            yield from zip(executor.map(one, some), (listed.label for listed in some), strict=True)


def _fingerprint(folder: Path, parts: dict[str, list[Listed]]) -> str:
    """Changes with the names, sizes and times of the files."""
    digest = hashlib.sha256()
    for part, files in parts.items():
        for one in files:
            facts = one.path.stat()
            digest.update(f"{part}/{one.path.relative_to(folder)}/{facts.st_size}/{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]
