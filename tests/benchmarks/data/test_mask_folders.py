"""Folders with masks: tiny trees of the published shapes, decoded to the pixel, and what is wrong said in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.data import mask_folders
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.data.kept_masks import MaskSet
from benchmarks.data.mask_folders import fitted, prepare, read_pair
from benchmarks.data.mask_layouts import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_TRAIN_IDS,
    VOC_CLASSES,
    Pair,
    is_mask_folder,
    layout_of,
)
from models import IGNORE

ITSELF = np.arange(256).astype(np.uint8)


def made(folder: Path, work: Path, size: int = 0) -> MaskSet:
    return MaskSet.open(prepare(str(folder), size, Path("unused"), work, lambda *_: None))


def save(path: Path, values: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(path)
    return path


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Two training frames and one of val, 4×8; the left halves are road."""
    root = tmp_path / "cityscapes"
    for split, town, number, right in (("train", "aachen", 0, 26), ("train", "bonn", 1, 33), ("val", "lindau", 2, 0)):
        stem = f"{town}_00000{number}_000019"
        save(root / "leftImg8bit" / split / town / f"{stem}_leftImg8bit.png", gray(np.full((4, 8), 40 * number)))
        mask = np.full((4, 8), 7)
        mask[:, 4:] = right
        save(root / "gtFine" / split / town / f"{stem}_gtFine_labelIds.png", mask)
        save(root / "gtFine" / split / town / f"{stem}_gtFine_instanceIds.png", mask)  # is there too, and not read
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for number, name in enumerate(("2007_000032", "2007_000039", "2007_000063")):
        mask = np.zeros((6, 6))
        mask[1:5, 1:5], mask[2:4, 2:4] = IGNORE, (1, 20, 15)[number]
        save(root / "SegmentationClass" / f"{name}.png", mask, palette=True)
        save(root / "JPEGImages" / f"{name}.jpg", gray(np.full((6, 6), 50 * number)))
    save(root / "JPEGImages" / "2008_000001.jpg", gray(np.zeros((6, 6))))  # detection only: in no list
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000063\n")
    (lists / "val.txt").write_text("2007_000039\n")
    return root


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Ten images of 6×8; the mask of each has a column of class 1 and one of class 2."""
    root = tmp_path / "mine"
    for number in range(10):
        mask = np.zeros((6, 8))
        mask[:, number % 8], mask[:, (number + 3) % 8] = 1, 2
        save(root / "images" / "street" / f"{number}.jpg", gray(np.full((6, 8), 20 * number)))
        save(root / "masks" / "street" / f"{number}.png", mask)
    return root


def test_names_are_in_the_order_of_the_indices() -> None:
    assert len(CITYSCAPES_CLASSES) == 19 and len(VOC_CLASSES) == 21
    assert (CITYSCAPES_CLASSES[0], CITYSCAPES_CLASSES[13], CITYSCAPES_CLASSES[18]) == ("road", "car", "bicycle")
    assert (VOC_CLASSES[0], VOC_CLASSES[15], VOC_CLASSES[20]) == ("background", "person", "tvmonitor")
    ids = CITYSCAPES_TRAIN_IDS
    assert [train_id for train_id, _ in ids.values()] == list(range(19)) and list(ids) == sorted(ids)


def test_cityscapes_label_ids_become_train_ids(city: Path, tmp_path: Path) -> None:
    """7 road → 0, 26 car → 13, 33 bicycle → 18, 0 unlabeled → 255."""
    found = made(city, tmp_path / "work", 8)
    assert found.classes == CITYSCAPES_CLASSES and isinstance(found.train_masks, np.memmap)
    assert found.train_masks[:, 0].tolist() == [[0] * 4 + [13] * 4, [0] * 4 + [18] * 4]
    assert found.test_masks[0, 3].tolist() == [0] * 4 + [IGNORE] * 4
    assert found.train_images[:, 0, 0].tolist() == [[0, 0, 0], [40, 40, 40]]
    assert found.frequencies["train"].pixels[0] == 0.5 and found.frequencies["test"].ignored == 0.5
    own = made(city, tmp_path / "work")
    assert own.train_images.shape == (2, 512, 1024, 3) and own.train_masks.shape == (2, 512, 1024)
    assert set(np.unique(own.train_masks)) == {0, 13, 18}


def test_voc_is_read_from_its_lists_and_palettes(voc: Path, tmp_path: Path) -> None:
    found = made(voc, tmp_path / "work", 6)
    assert len(found.train_masks) == 2 and len(found.test_masks) == 1 and found.classes == VOC_CLASSES
    assert found.train_masks[0, 2].tolist() == [0, IGNORE, 1, 1, IGNORE, 0]
    assert found.train_masks[1, 2, 2] == 15 and found.test_masks[0, 3, 3] == 20
    assert found.test_images[0, 0, 0].tolist() == [50, 50, 50] and found.train_images[1, 0, 0].tolist() == [100] * 3
    assert made(voc.parents[0], tmp_path / "work").digest == made(voc.parents[1], tmp_path / "work").digest
    assert made(voc, tmp_path / "work").train_images.shape == (2, 384, 384, 3)


def test_plain_folders_are_decoded_once(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pairs / "classes.txt").write_text("background\ncrack\nrust\nleak\n\n")
    found = made(pairs, tmp_path / "work")
    assert found.train_images.shape == (8, 6, 8, 3) and found.test_images.shape == (2, 6, 8, 3), "a fifth for the test"
    assert found.classes == ("background", "crack", "rust", "leak")
    for images, masks in ((found.train_images, found.train_masks), (found.test_images, found.test_masks)):
        for image, mask in zip(images, masks, strict=True):
            number = round(image[0, 0, 0] / 20)
            assert np.flatnonzero(mask[0] == 1).tolist() == [number % 8], "each with its own mask"
    numbers = np.concatenate([found.train_images[:, 0, 0, 0], found.test_images[:, 0, 0, 0]])
    assert sorted(numbers.tolist()) == list(range(0, 200, 20)), "every image once"

    with monkeypatch.context() as patched:
        patched.setattr(mask_folders, "read_pair", None)
        assert made(pairs, tmp_path / "work").digest == found.digest
    (pairs / "classes.txt").unlink()
    again = made(pairs, tmp_path / "work")
    assert again.classes == ("background", "class 1", "class 2") and again.digest != found.digest


def test_plain_folders_with_parts_of_their_own(pairs: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (pairs / part / kind).parent.mkdir(exist_ok=True)
            (pairs / kind).rename(pairs / part / kind)
        if part == "train":
            for number in range(3):
                save(pairs / "images" / f"{number}.png", gray(np.zeros((6, 8))))
                save(pairs / "masks" / f"{number}.png", np.eye(6, 8))
    found = made(pairs, tmp_path / "work", 4)
    assert found.train_masks.shape == (10, 3, 4) and found.test_masks.shape == (3, 3, 4) and "val" in found.source


def test_the_middle_is_cut_out_and_scaled_by_hand(tmp_path: Path) -> None:
    """4×8 to 2×2: columns 2 to 5 stay. Nearest takes the pixel below each new centre, (1, 3) in rows and (3, 5) in
    columns; bilinear weighs the four pixels around it 1/8, 3/8, 3/8, 1/8: (3·70 + 3·140 + 70) / 8 = 87.5 and
    (140 + 3·70) / 8 = 43.75."""
    mask = np.arange(32).reshape(4, 8)
    ramp = np.tile(np.array([0, 0, 70, 140, 70, 0, 0, 0]), (4, 1))
    pair = Pair(save(tmp_path / "image.png", gray(ramp)), save(tmp_path / "mask.png", mask))
    image, found = read_pair(pair, (2, 2), ITSELF)
    assert found.tolist() == [[11, 13], [27, 29]]
    assert image[0, 0, 0] in (87, 88) and image[1, 1, 0] == 44


@pytest.mark.parametrize("frame", [(5, 5), (3, 11), (32, 64), (40, 13)])
def test_scaling_brings_up_no_class_and_keeps_image_and_mask_together(frame: tuple[int, int], tmp_path: Path) -> None:
    """Blocks of 8 px with a grey of their own for each class: where an image pixel's surroundings are of one class, it
    has that class's grey."""
    rng = np.random.default_rng(sum(frame))
    classes = np.array([0, 3, 9, IGNORE])[rng.integers(0, 4, (3, 5))]
    mask = np.kron(classes, np.ones((8, 8), dtype=int))
    pair = Pair(save(tmp_path / "image.png", gray(mask // 2)), save(tmp_path / "mask.png", mask))
    image, found = read_pair(pair, frame, ITSELF)
    assert image.shape == (*frame, 3) and found.shape == frame
    assert set(np.unique(found)) <= set(np.unique(classes))
    if min(frame) >= 13:  # else most pixels lie across an edge
        assert (image[..., 0] == found // 2).mean() > 0.7


def test_what_is_wrong_is_said_in_words(city: Path, voc: Path, pairs: Path, tmp_path: Path) -> None:
    def refused(folder: Path, words: str) -> None:
        with pytest.raises(DatasetUnavailable, match=words):
            made(folder, tmp_path / "work", 8)
        assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir()), "nothing half made stays"

    bonn = city / "gtFine" / "train" / "bonn" / "bonn_000001_000019_gtFine_labelIds.png"
    save(bonn, np.full((4, 8), 77))
    refused(city, r"labelIds.png holds \[77\], which are no class")
    save(bonn, np.full((4, 6), 7))
    refused(city, "has 6×4 pixels and its image 8×4")
    bonn.unlink()
    refused(city, "1 of 2 masks .* are missing, the first: .*bonn_000001_000019_gtFine_labelIds.png")
    (city / "leftImg8bit" / "val").rename(city / "leftImg8bit" / "elsewhere")
    save(bonn, np.full((4, 8), 7))
    refused(city, "val has no image")

    lists = voc / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000032\n2099_000001\n")
    refused(voc, "1 of 2 images that .*train.txt asks for are missing, the first: .*2099_000001.jpg")
    (lists / "val.txt").unlink()
    (lists / "train.txt").write_text("2007_000032")
    refused(voc, "val.txt is missing")
    refused(voc / "JPEGImages", "is no segmentation data set: choose fashion-scenes")

    (pairs / "classes.txt").write_text("background\ncrack\n")
    refused(pairs, r"holds \[2\], which are no class")
    (pairs / "classes.txt").write_text("background\n\nrust\n")
    refused(pairs, "one a line from index 0")
    (pairs / "classes.txt").unlink()
    first = pairs / "masks" / "street" / "0.png"
    save(first, gray(np.zeros((6, 8))))
    refused(pairs, "0.png is of Pillow's mode RGB")
    first.write_bytes(b"no")
    refused(pairs, "cannot be read")
    Image.fromarray(np.full((6, 8), 300, dtype=np.uint16)).save(first)
    refused(pairs, "values from 300 to 300")
    for number in range(10):
        save(pairs / "masks" / "street" / f"{number}.png", np.where(np.eye(6, 8), 255, 0))
    refused(pairs, "255 is what is ignored, not white")
    save(pairs / "train" / "images" / "1.png", gray(np.zeros((6, 8))))
    save(pairs / "train" / "masks" / "1.png", np.eye(6, 8))
    refused(pairs, "neither test nor val")


def test_a_size_is_that_of_the_longer_side() -> None:
    assert fitted((512, 1024), 256) == (128, 256) and fitted((40, 30), 20) == (20, 15)
    assert fitted((3, 500), 16) == (1, 16) and fitted((7, 9), 0) == (7, 9)


def test_a_named_data_set_is_looked_for_among_the_downloads(city: Path, tmp_path: Path) -> None:
    """``city`` unpacks Cityscapes to a folder of that name; VOC is not there."""
    found = MaskSet.open(prepare("cityscapes", 8, tmp_path, tmp_path / "work", lambda *_: None))
    assert found.train_masks.shape == (2, 4, 8)
    with pytest.raises(DatasetUnavailable, match="VOCdevkit is no segmentation data set"):
        prepare("voc", 8, tmp_path, tmp_path / "work", lambda *_: None)


def test_an_image_that_was_turned_fits_its_mask(tmp_path: Path) -> None:
    """EXIF orientation 6: stored 8 wide and 4 high, shown 4 wide and 8 high."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gray(np.zeros((4, 8), dtype=np.uint8))).save(tmp_path / "1.jpg", exif=exif)
    image, mask = read_pair(Pair(tmp_path / "1.jpg", save(tmp_path / "1.png", np.eye(8, 4))), (8, 4), ITSELF)
    assert image.shape == (8, 4, 3) and np.array_equal(mask, np.eye(8, 4))


def test_a_layout_is_found_by_its_folders(city: Path, voc: Path, pairs: Path) -> None:
    assert [layout_of(folder).source.split(",")[0] for folder in (city, voc, pairs)] == [
        "Cityscapes",
        "Pascal VOC 2012",
        "the folder mine",
    ]
    assert all(is_mask_folder(folder) for folder in (city, voc, voc.parents[0], voc.parents[1], pairs))
    assert not is_mask_folder(pairs / "images") and not is_mask_folder(voc / "JPEGImages")
