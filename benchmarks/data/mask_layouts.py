"""Segmentation data sets as they lie in folders: Cityscapes, Pascal VOC 2012, and plain ``images/`` with ``masks/``.

Cordts et al., "The Cityscapes dataset for semantic urban scene understanding" (CVPR 2016). Everingham et al., "The
Pascal visual object classes challenge: a retrospective" (IJCV 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data.datasets import DatasetUnavailable
from models import IGNORE

CITYSCAPES_TRAIN_IDS = {
    7: (0, "road"), 8: (1, "sidewalk"), 11: (2, "building"), 12: (3, "wall"), 13: (4, "fence"), 17: (5, "pole"),
    19: (6, "traffic light"), 20: (7, "traffic sign"), 21: (8, "vegetation"), 22: (9, "terrain"), 23: (10, "sky"),
    24: (11, "person"), 25: (12, "rider"), 26: (13, "car"), 27: (14, "truck"), 28: (15, "bus"), 31: (16, "train"),
    32: (17, "motorcycle"), 33: (18, "bicycle"),
}  # fmt: skip
"""Label id: (train id, name), as in cityscapesScripts, ``helpers/labels.py``; the other ids up to 33 are ignored."""

CITYSCAPES_CLASSES = tuple(name for _, name in CITYSCAPES_TRAIN_IDS.values())
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The indices of VOC's palette PNGs, as in its development kit; 255, the outlines and what is difficult, is ignored."""

LAYOUTS = (
    "a folder with leftImg8bit and gtFine (Cityscapes), with JPEGImages, SegmentationClass and ImageSets (Pascal VOC),"
    " or with images and masks"
)
HELD_OUT = 0.2
UNKNOWN = 254
"""In :attr:`Layout.lookup`: this value is no class of the data set."""

_CITYSCAPES_FRAME, _VOC_FRAME, _FRAME = (512, 1024), (384, 384), (224, 224)
_LAST_CITYSCAPES_ID = 33
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_MASKS = (".png", ".bmp", ".tif", ".tiff")

Frame = tuple[int, int]


class Pair(NamedTuple):
    """An image file and its mask's."""

    image: Path
    mask: Path


class Layout(NamedTuple):
    """What a folder holds: pairs of both parts, class names (None: as many as the masks hold), the class of each mask
    value (256,) uint8, the size (H, W) when none is asked for, and words for where it is from."""

    parts: dict[str, list[Pair]]
    classes: tuple[str, ...] | None
    lookup: np.ndarray
    frame: Frame
    source: str


def is_mask_folder(folder: Path) -> bool:
    """Whether ``folder`` looks like one of the layouts; what it lacks of one, :func:`layout_of` says."""
    folders = (("leftImg8bit", "gtFine"), ("JPEGImages", "SegmentationClass"), ("images", "masks"))
    roots = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012", folder / "train")
    return any(all((root / name).is_dir() for name in names) for names in folders for root in roots)


def layout_of(folder: Path) -> Layout:
    """What is in ``folder``.

    Raises:
        DatasetUnavailable: it has none of the layouts, or a file of one is missing.
    """
    if (folder / "leftImg8bit").is_dir():
        return cityscapes(folder)
    for root in (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"):
        if (root / "JPEGImages").is_dir():
            return voc(root)
    if any((root / "images").is_dir() for root in (folder, folder / "train")):
        return plain(folder)
    raise DatasetUnavailable(f"{folder} is no segmentation data set: choose fashion-scenes, or {LAYOUTS}")


def cityscapes(root: Path) -> Layout:
    """Cityscapes' fine annotations; its val part is the test, because that of its test part is not published."""
    parts = {}
    for part, split in (("train", "train"), ("test", "val")):
        images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        masks = root / "gtFine" / split
        name = "_gtFine_labelIds.png"
        parts[part] = _pairs(
            root / "leftImg8bit" / split,
            [Pair(image, masks / image.parent.name / image.name.replace("_leftImg8bit.png", name)) for image in images],
        )
    lookup = _lookup(range(_LAST_CITYSCAPES_ID + 1), dict.fromkeys(range(_LAST_CITYSCAPES_ID + 1), IGNORE))
    for label_id, (train_id, _) in CITYSCAPES_TRAIN_IDS.items():
        lookup[label_id] = train_id
    return Layout(parts, CITYSCAPES_CLASSES, lookup, _CITYSCAPES_FRAME, "Cityscapes, val as the test")


def voc(root: Path) -> Layout:
    """Pascal VOC 2012's segmentation part, with the lists in ImageSets/Segmentation; val is the test."""
    parts = {}
    for part, split in (("train", "train"), ("test", "val")):
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listed.is_file():
            raise DatasetUnavailable(f"{listed} is missing: it names the images of the {part} part, one a line")
        names = listed.read_text().split()
        parts[part] = _pairs(
            listed,
            [Pair(root / "JPEGImages" / f"{one}.jpg", root / "SegmentationClass" / f"{one}.png") for one in names],
        )
    lookup = _lookup(range(len(VOC_CLASSES)))
    return Layout(parts, VOC_CLASSES, lookup, _VOC_FRAME, "Pascal VOC 2012, val as the test")


def plain(root: Path) -> Layout:
    """Images and masks of the same names in images/ and masks/, in ``root`` or in its train and its test (or val).

    A mask has one channel of class indices, 255 for what is ignored. classes.txt in ``root``, where there is one, names
    the classes, one a line from index 0. Without parts a fifth is drawn for the test from a fixed seed.
    """
    held_out = next((root / name for name in ("test", "val") if (root / name / "images").is_dir()), None)
    if (root / "train" / "images").is_dir():
        if held_out is None:
            raise DatasetUnavailable(f"{root} has a train folder but neither test nor val with images in it")
        parts = {"train": _named_alike(root / "train"), "test": _named_alike(held_out)}
        split = f"its own {held_out.name} folder"
    else:
        pairs = _named_alike(root)
        if len(pairs) < 2:
            raise DatasetUnavailable(f"{root / 'images'} has one image: a part is held out, so two are needed")
        count = max(1, round(HELD_OUT * len(pairs)))
        test = set(np.random.default_rng(0).choice(len(pairs), count, replace=False).tolist())
        parts = {"train": [], "test": []}
        for place, pair in enumerate(pairs):
            parts["test" if place in test else "train"].append(pair)
        split = "a fifth for the test"
    classes = None
    if (root / "classes.txt").is_file():
        classes = tuple(line.strip() for line in (root / "classes.txt").read_text().rstrip().splitlines())
        if not (2 <= len(classes) <= UNKNOWN and all(classes)):
            raise DatasetUnavailable(
                f"{root / 'classes.txt'} must name 2 to {UNKNOWN} classes, one a line from index 0"
            )
    lookup = _lookup(range(len(classes) if classes else UNKNOWN))
    return Layout(parts, classes, lookup, _common_size(parts["train"]), f"the folder {root.resolve().name}, {split}")


def _named_alike(root: Path) -> list[Pair]:
    def files(kind: str, suffixes: Sequence[str]) -> dict[Path, Path]:
        found = sorted(path for path in (root / kind).rglob("*") if path.suffix.lower() in suffixes)
        return {path.relative_to(root / kind).with_suffix(""): path for path in found}

    masks = files("masks", _MASKS)
    images = files("images", _IMAGES)
    return _pairs(
        root / "images",
        [Pair(image, masks.get(name, root / "masks" / f"{name}.png")) for name, image in images.items()],
    )


def _pairs(where: Path, pairs: list[Pair]) -> list[Pair]:
    if not pairs:
        raise DatasetUnavailable(f"{where} has no image: is the data set unpacked there?")
    for kind in ("image", "mask"):
        missing = [path for path in (getattr(pair, kind) for pair in pairs) if not path.is_file()]
        if missing:
            raise DatasetUnavailable(
                f"{len(missing)} of {len(pairs)} {kind}s that {where} asks for are missing, the first: {missing[0]}"
            )
    return pairs


def _lookup(known: Sequence[int], to: dict[int, int] | None = None) -> np.ndarray:
    """(256,) uint8: each known value is itself or what ``to`` says, 255 is IGNORE, all else is unknown."""
    lookup = np.full(256, UNKNOWN, dtype=np.uint8)
    lookup[IGNORE] = IGNORE
    for value in known:
        lookup[value] = to[value] if to else value
    return lookup


def _common_size(pairs: Sequence[Pair]) -> Frame:
    sizes = set()
    for pair in pairs[:: max(1, len(pairs) // 64)]:
        try:
            with Image.open(pair.mask) as mask:
                sizes.add((mask.height, mask.width))
        except OSError:
            continue  # decoding it says what is wrong
    return sizes.pop() if len(sizes) == 1 else _FRAME
