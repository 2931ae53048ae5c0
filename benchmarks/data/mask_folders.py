"""Segmentation data sets in folders: Cityscapes, Pascal VOC 2012, and plain ``images/`` beside ``masks/``.

Cordts et al., "The Cityscapes dataset for semantic urban scene understanding" (CVPR 2016). Everingham et al., "The
Pascal visual object classes challenge: a retrospective" (IJCV 2015).

Everything is decoded once to one size: the middle of the image with the proportions asked for is cut out and scaled,
bilinear the image and nearest its mask, so that neither is distorted and no class comes up that was not there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmarks.data import scenes
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.data.kept_masks import PartWriter, draft_of, finish
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

FOLDERS = {"cityscapes": "cityscapes", "voc": "VOCdevkit"}
"""Data sets with a name, and the folder that each is unpacked to below the one that downloads are kept in."""

CHOICES = (
    f"{scenes.NAME}, or a folder with leftImg8bit and gtFine (Cityscapes), with JPEGImages, SegmentationClass and"
    " ImageSets (Pascal VOC), or with images and masks"
)
HELD_OUT = 0.2
SCENE_SIZE = 64
_CITYSCAPES_FRAME, _VOC_FRAME, _FRAME = (512, 1024), (384, 384), (224, 224)
_LAST_CITYSCAPES_ID = 33
_UNKNOWN = 254
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_MASKS = (".png", ".bmp", ".tif", ".tiff")
_FOR_EACH_THREAD = 4

Frame = tuple[int, int]
Tell = Callable[[str, int, int], None]


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


def prepare(dataset: str, size: int, downloads: Path, work: Path, tell: Tell) -> Path:
    """The decoded folder of ``dataset``, which is ``fashion-scenes``, one of FOLDERS, or a folder of one of the three
    layouts; made where it is missing. ``size``: the longer side of its frame in px, 0 = its own. MaskSet opens it.

    Raises:
        DatasetUnavailable: no such data set, or a file of it is missing or is not what it should be; says which.
    """
    if dataset == scenes.NAME:
        return scenes.prepare_scenes(size or SCENE_SIZE, downloads, work, tell)
    folder = Path(dataset)
    if dataset in FOLDERS and not folder.is_dir():
        folder = downloads.expanduser() / FOLDERS[dataset]
    layout = layout_of(folder)
    return decode(layout, fitted(layout.frame, size), work, tell)


def fitted(frame: Frame, longer: int) -> Frame:
    """The frame (H, W) with its longer side ``longer`` px and the same proportions; itself for 0."""
    scale = longer / max(frame) if longer else 1
    return max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))


def is_mask_folder(folder: Path) -> bool:
    """Whether ``folder`` looks like one of the layouts; what it lacks of one, :func:`layout_of` says."""
    beside = (("leftImg8bit", "gtFine"), ("JPEGImages", "SegmentationClass"), ("images", "masks"))
    roots = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012", folder / "train")
    return any(all((root / name).is_dir() for name in names) for names in beside for root in roots)


def layout_of(folder: Path) -> Layout:
    """What is in ``folder``. Raises as :func:`prepare`."""
    if (folder / "leftImg8bit").is_dir():
        return cityscapes(folder)
    for root in (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"):
        if (root / "JPEGImages").is_dir():
            return voc(root)
    if any((root / "images").is_dir() for root in (folder, folder / "train")):
        return plain(folder)
    raise DatasetUnavailable(f"{folder} is no segmentation data set: choose {CHOICES}")


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
        if not (2 <= len(classes) <= _UNKNOWN and all(classes)):
            raise DatasetUnavailable(
                f"{root / 'classes.txt'} must name 2 to {_UNKNOWN} classes, one a line from index 0"
            )
    lookup = _lookup(range(len(classes) if classes else _UNKNOWN))
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
    lookup = np.full(256, _UNKNOWN, dtype=np.uint8)
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


def decode(layout: Layout, frame: Frame, work: Path, tell: Tell) -> Path:
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
                tell(f"decoding {part}", done, len(pairs))
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
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(pairs), threads * _FOR_EACH_THREAD):
            some = pairs[start : start + threads * _FOR_EACH_THREAD]
            yield from pool.map(lambda pair: read_pair(pair, frame, lookup), some)


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
    if (classes == _UNKNOWN).any():
        unknown = np.unique(values[classes == _UNKNOWN]).tolist()
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
