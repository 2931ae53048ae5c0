"""Data sets for the learning curves: by name, long-tailed and redundant variants of those, and folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.class_folders import decode_folder, is_image_folder
from benchmarks.data.copies import COPIES, SUFFIX, jittered
from benchmarks.data.datasets import NAMED, Dataset, DatasetUnavailable
from benchmarks.data.kept_images import made_whole, write_about
from benchmarks.data.photographs import PHOTOGRAPHS, photographs
from models import ProgressFn

TAILS = {"-x10": 10, "-x100": 100}
HELD_OUT = 0.2
"""Share of the images of an undivided data set that a trial is tested on."""

_AT_A_TIME = 2_000


def names_classes(dataset: str) -> bool:
    """Whether this is the name of a data set with a class for each image, and no folder."""
    return dataset in _names() and not Path(dataset).is_dir()


def _names() -> list[str]:
    return [*(name + suffix for name in NAMED for suffix in ("", *TAILS, SUFFIX)), PHOTOGRAPHS]


def split_name(dataset: str) -> tuple[str, int]:
    """``cifar10-x100`` → ("cifar10", 100): the data set and its imbalance, 1 for none.

    Raises:
        DatasetUnavailable: neither a name nor a folder of class folders.
    """
    base, ratio = dataset, 1
    if not Path(dataset).is_dir():
        for suffix, value in TAILS.items():
            if dataset.endswith(suffix):
                base, ratio = dataset.removesuffix(suffix), value
    if base not in _names() and not is_image_folder(Path(base)):
        raise DatasetUnavailable(
            f"there is no data set {dataset!r}: choose one of {', '.join(_names())}, or a folder with one folder of"
            " images per class"
        )
    return base, ratio


def prepare(base: str, size: int, downloads: Path, work: Path, report: ProgressFn) -> Path:
    """The folder of ``base`` (a name or a folder of class folders) at ``size`` px (0 = its own), made where missing.

    Raises:
        DatasetUnavailable: its files are not at hand, or there is nothing in them.
    """
    work.mkdir(parents=True, exist_ok=True)
    if base == PHOTOGRAPHS:
        return decode_folder(photographs(downloads), size, work, report)
    if base.removesuffix(SUFFIX) not in NAMED:
        return decode_folder(Path(base), size, work, report)
    folder = work / f"{base}-{size or 'own'}"
    if not (folder / "about.json").exists():
        raw = NAMED[base.removesuffix(SUFFIX)](downloads)
        redundant = base.endswith(SUFFIX)
        with made_whole(folder) as draft:
            _write(draft, jittered(raw) if redundant else raw, size, report, COPIES if redundant else 1)
    return folder


def _write(draft: Path, raw: Dataset, size: int, report: ProgressFn, copies: int = 1) -> None:
    side = size or raw.train_images.shape[1]
    for part, images, labels in (
        ("train", raw.train_images, raw.train_labels),
        ("test", raw.test_images, raw.test_labels),
    ):
        if not len(labels):
            continue  # each trial holds out images of its own
        with (draft / f"{part}.u8").open("wb") as file:
            for start in range(0, len(images), _AT_A_TIME):
                file.write(_to_rgb(images[start : start + _AT_A_TIME], side).tobytes())
                report(f"{raw.source}: {part}", start, len(images))
        np.save(draft / f"{part}.npy", labels)
    write_about(draft, side, raw.class_names, raw.source, copies)


def _to_rgb(images: np.ndarray, side: int) -> np.ndarray:
    """(B, H, H) gray or (B, H, H, 3) to (B, side, side, 3) uint8: as they are where they fit, padded with their border
    from 28 to 32 px as the worker does, else scaled."""
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    own = images.shape[1]
    if own == side:
        return images
    if 28 <= own < side == 32:
        low = (side - own) // 2
        return np.pad(images, ((0, 0), (low, side - own - low), (low, side - own - low), (0, 0)), mode="edge")
    scaled = [Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in scaled])


def long_tail_counts(labels: np.ndarray, classes: int, ratio: int) -> list[int]:
    """Images to keep of each class: n_i = ⌊n · ratio^(−i / (C − 1))⌋, with n the size of the smallest class.

    The exponential profile of Cui, Jia, Lin, Song and Belongie, "Class-balanced loss based on effective number of
    samples" (CVPR 2019), section 5.1, as their code computes it: the first class keeps ``ratio`` times as many as the
    last.
    """
    most = int(np.bincount(labels, minlength=classes).min())
    return [int(most * ratio ** (-index / max(1, classes - 1)) + 1e-9) for index in range(classes)]


def long_tailed(labels: np.ndarray, classes: int, ratio: int, seed: int) -> np.ndarray:
    """Rows (N,) of a long-tailed part of ``labels`` (M,), ascending; which ones of a class is drawn from ``seed``."""
    return _some_of_each(labels, long_tail_counts(labels, classes, ratio), seed)


def balanced(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Rows (N,) with as many of every class as there are of the smallest, ascending."""
    return _some_of_each(labels, [int(np.bincount(labels, minlength=classes).min())] * classes, seed)


def held_out(labels: np.ndarray, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` (N,) in two: those to learn from, and a random fifth of each class to test on; both ascending."""
    counts = np.bincount(labels[rows])
    fifths = [round(HELD_OUT * int(count)) for count in counts]
    draw = np.random.default_rng([seed, 6])
    chosen = [draw.choice(rows[labels[rows] == index], count, replace=False) for index, count in enumerate(fifths)]
    test = np.sort(np.concatenate(chosen))
    return np.setdiff1d(rows, test), test


def _some_of_each(labels: np.ndarray, counts: list[int], seed: int) -> np.ndarray:
    draw = np.random.default_rng([seed, 4])
    chosen = [draw.choice(np.flatnonzero(labels == index), count, replace=False) for index, count in enumerate(counts)]
    return np.sort(np.concatenate(chosen))
