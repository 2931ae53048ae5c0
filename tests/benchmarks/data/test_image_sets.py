"""Data sets for the curves: long tails by the formula, folders decoded once, and words when nothing is there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from benchmarks.curves.plan import Plan
from benchmarks.curves.tasks.classification import Classification
from benchmarks.data import image_sets
from benchmarks.data.datasets import DEBIAN, Dataset, DatasetUnavailable, cifar, fashion_mnist_itself, svhn
from benchmarks.data.image_sets import balanced, long_tail_counts, long_tailed, prepare, split_name
from benchmarks.data.kept_images import ImageSet


def quiet(*_: object) -> None:
    """Nobody listens."""


def image(path: Path, brightness: int, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (brightness, brightness, brightness)).save(path)


def test_the_long_tail_of_cifar_10_is_the_published_one() -> None:
    """Imbalance 100: 5,000, 2,997, 1,796 … 50, in all 12,406, as in the papers that use CIFAR-10-LT."""
    labels = np.repeat(np.arange(10), 5000)
    counts = long_tail_counts(labels, 10, 100)
    assert counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50] and sum(counts) == 12_406
    rows = long_tailed(labels, 10, 100, seed=3)
    assert np.bincount(labels[rows]).tolist() == counts and len(np.unique(rows)) == len(rows)
    assert rows.tolist() != long_tailed(labels, 10, 100, seed=4).tolist()


def test_a_tail_of_unequal_classes_keeps_its_ratio() -> None:
    """n is the smallest class: 40 · 10^(−i/2) = 40, 12.6, 4. A single class stays whole."""
    labels = np.repeat([0, 1, 2], [90, 40, 70])
    assert long_tail_counts(labels, 3, 10) == [40, 12, 4]
    assert np.bincount(labels[balanced(labels, 3, 0)]).tolist() == [40, 40, 40]
    assert long_tail_counts(np.zeros(7, dtype=int), 1, 100) == [7]


def test_names_and_their_tails(tmp_path: Path) -> None:
    assert split_name("cifar10") == ("cifar10", 1)
    assert split_name("cifar100-x10") == ("cifar100", 10)
    assert split_name("svhn-x100") == ("svhn", 100)
    for name in ("a", "b"):
        image(tmp_path / "mine-x10" / name / "1.png", 9)
    assert split_name(str(tmp_path / "mine-x10")) == (str(tmp_path / "mine-x10"), 1), "an existing folder is itself"
    with pytest.raises(DatasetUnavailable, match="fashion-mnist-x100"):
        split_name("cifar11")
    with pytest.raises(DatasetUnavailable, match="one folder of images per class"):
        split_name(str(tmp_path))  # one folder only


def test_a_folder_is_divided_by_class_in_each_trial_and_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of each class: a fifth is two. One file is no image and is set aside."""
    root = tmp_path / "pets"
    for number in range(10):
        image(root / "cat" / f"{number}.png", 10 + number)
        image(root / "dog" / "deeper" / f"{number}.jpg", 200 + number)
    (root / "dog" / "broken.png").write_bytes(b"not an image")
    (root / "dog" / "notes.txt").write_text("no image either")
    made = prepare(str(root), 0, Path("unused"), tmp_path / "work", quiet)
    images = ImageSet.open(made)
    assert images.classes == ("cat", "dog")
    assert images.train_pixels.shape[1:] == (32, 32, 3) and isinstance(images.train_pixels, np.memmap)
    assert images.undivided and np.bincount(images.train_labels).tolist() == [10, 10]
    plan = Plan(str(root), "", 4, 2, 2, redraw=True)
    trials = [Classification.of(images, plan, trial) for trial in (1, 1, 2)]
    for task in trials:
        assert np.bincount(images.test_labels[task.test]).tolist() == [2, 2]
        assert sorted([*task.pool, *task.test]) == list(range(20))
    assert trials[0].test.tolist() == trials[1].test.tolist() != trials[2].test.tolist()
    bright = images.train_pixels.mean(axis=(1, 2, 3)) > 100
    assert bright.tolist() == (images.train_labels == 1).tolist(), "pixels and labels belong together"
    assert "1 unreadable image" in images.source

    monkeypatch.setattr("benchmarks.data.class_folders.decode", None)
    assert prepare(str(root), 0, Path("unused"), tmp_path / "work", quiet) == made
    image(root / "cat" / "new.png", 3)
    with pytest.raises(TypeError):  # it changed, so it is decoded again
        prepare(str(root), 0, Path("unused"), tmp_path / "work", quiet)
    assert len(list((tmp_path / "work").iterdir())) == 1, "what was begun is removed"


def test_a_folder_with_parts_of_its_own(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("val", 2)):
        for name in ("a", "b"):
            for number in range(count):
                image(tmp_path / part / name / f"{number}.png", 30)
    images = ImageSet.open(prepare(str(tmp_path), 16, Path("unused"), tmp_path / "work", quiet))
    assert (len(images.train_labels), len(images.test_labels)) == (10, 4)
    assert images.train_pixels.shape == (10, 16, 16, 3) and "val" in images.source


def test_a_folder_without_a_readable_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(b"no")
    with pytest.raises(DatasetUnavailable, match="no image that can be read"):
        prepare(str(tmp_path / "set"), 16, Path("unused"), tmp_path / "work", quiet)


def tiny(_: Path) -> Dataset:
    """Grey images of 28 px; every pixel of an image is its number."""
    grey = np.repeat(np.arange(40, dtype=np.uint8), 28 * 28).reshape(40, 28, 28)
    labels = np.arange(40) % 2
    return Dataset(grey, labels, grey[:10], labels[:10], ("even", "odd"), "made up")


@pytest.mark.parametrize(("size", "side"), [(0, 28), (32, 32), (16, 16)])
def test_grey_images_become_rgb_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, side: int
) -> None:
    monkeypatch.setitem(image_sets.NAMED, "svhn", tiny)
    images = ImageSet.open(prepare("svhn", size, tmp_path, tmp_path, quiet))
    assert images.train_pixels.shape == (40, side, side, 3)
    assert (images.train_pixels[17] == 17).all() and images.test_labels.tolist() == [0, 1] * 5


def test_a_long_tailed_pool_has_a_balanced_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(image_sets.NAMED, "svhn", tiny)
    images = ImageSet.open(prepare("svhn", 0, tmp_path, tmp_path, quiet))
    task = Classification.of(images, Plan("svhn-x10", "", 4, 2, 2))
    assert np.bincount(images.train_labels[task.pool]).tolist() == [20, 2]
    assert np.bincount(images.test_labels[task.test]).tolist() == [5, 5]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "fashion-mnist"])
def test_missing_files_without_a_network_are_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def unreachable(*_: object, **__: object) -> NoReturn:
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    load = {
        "cifar10": lambda: cifar("cifar10", tmp_path),
        "cifar100": lambda: cifar("cifar100", tmp_path),
        "svhn": lambda: svhn(tmp_path),
        "fashion-mnist": lambda: fashion_mnist_itself(tmp_path, tmp_path),
    }[name]
    with pytest.raises(DatasetUnavailable) as raised:
        load()
    if name != "fashion-mnist":
        assert f"{name} is not in {tmp_path}" in str(raised.value) and "--data" in str(raised.value)


@pytest.mark.skipif(not DEBIAN.exists(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_keeps_its_28_pixels(tmp_path: Path) -> None:
    images = ImageSet.open(prepare("fashion-mnist", 0, tmp_path, tmp_path, quiet))
    assert images.train_pixels.shape == (60_000, 28, 28, 3) and images.test_pixels.shape == (10_000, 28, 28, 3)
    assert (images.train_pixels[0, :, :, 0] == images.train_pixels[0, :, :, 2]).all()
    assert images.classes[images.train_labels[0]] == "Ankle boot"
