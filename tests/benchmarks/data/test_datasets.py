"""Every source gives images and labels of one form; the fallbacks say why they were taken."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.datasets import (
    DEBIAN,
    DIGIT_CLASSES,
    FASHION_CLASSES,
    NAMED,
    cifar,
    digits,
    fashion_mnist,
    read_idx,
    svhn,
)


def test_idx_files_are_read_as_their_header_says(tmp_path: Path) -> None:
    # by hand: type 8 (unsigned byte), two axes of 2 and 3, big-endian
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 20, 21, 22])
    path = tmp_path / "two-by-three.gz"
    path.write_bytes(gzip.compress(content))
    assert read_idx(path).tolist() == [[10, 11, 12], [20, 21, 22]]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "floats.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 13, 1, 0, 0, 0, 0])))
    with pytest.raises(ValueError, match="not an IDX file"):
        read_idx(path)


@pytest.mark.skipif(not DEBIAN.exists(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_from_debian() -> None:
    data = fashion_mnist()
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.test_images.shape == (10_000, 28, 28)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    # the paper's Table 1: ten classes of 6,000 and 1,000
    assert np.bincount(data.train_labels).tolist() == [6_000] * 10
    assert np.bincount(data.test_labels).tolist() == [1_000] * 10
    assert data.class_names == FASHION_CLASSES
    # the first training image is an ankle boot, as in every tutorial
    assert data.class_names[data.train_labels[0]] == "Ankle boot"
    assert "Debian" in data.source


def test_digits_stand_in_when_nothing_else_can_be_had(tmp_path: Path) -> None:
    unwritable = tmp_path / "file"
    unwritable.write_text("so that nothing can be downloaded below it")
    data = fashion_mnist(downloads=unwritable, debian=tmp_path)
    assert data.class_names == DIGIT_CLASSES
    assert len(data.train_images) + len(data.test_images) == 1_797  # scikit-learn's documentation
    assert data.train_images.shape[1:] == (8, 8)
    assert data.train_images.max() == 255
    assert "not at hand" in data.source


@pytest.mark.parametrize(("name", "key", "classes"), [("cifar10", "labels", 10), ("cifar100", "fine_labels", 100)])
def test_cifar_from_files_of_torchvisions_form(
    name: str, key: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny files in the published layout; only their checksums cannot be the published ones."""
    import torchvision.datasets.cifar as form

    monkeypatch.setattr(form, "check_integrity", lambda *_: True)
    kind = {"cifar10": form.CIFAR10, "cifar100": form.CIFAR100}[name]
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = {}
    for file, _ in (*kind.train_list, *kind.test_list):
        images[file] = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
        content = {"data": images[file].reshape(3, -1), key: [0, 1, classes - 1]}
        (folder / file).write_bytes(pickle.dumps(content))
    names = {kind.meta["key"]: [f"class {index}" for index in range(classes)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(names))

    found = cifar(name, tmp_path)

    assert found.train_images.shape == (3 * len(kind.train_list), 32, 32, 3) and found.train_images.dtype == np.uint8
    assert found.test_images.shape == (3, 32, 32, 3)
    first, last = kind.train_list[0][0], kind.test_list[0][0]
    assert np.array_equal(found.train_images[1], images[first][1].transpose(1, 2, 0))
    assert np.array_equal(found.test_images[2], images[last][2].transpose(1, 2, 0))
    assert found.test_labels.tolist() == [0, 1, classes - 1] and len(found.class_names) == classes


def test_svhn_from_files_of_torchvisions_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In these files the digit 0 has the label 10, and the images come last."""
    import torchvision.datasets.svhn as form
    from scipy.io import savemat

    monkeypatch.setattr(form, "check_integrity", lambda *_: True)
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": np.array([[1], [10], [9], [10]])})

    found = svhn(tmp_path)

    assert found.train_labels.tolist() == found.test_labels.tolist() == [1, 0, 9, 0]
    assert np.array_equal(found.train_images, images.transpose(3, 0, 1, 2))


def test_two_classes_are_all_images_of_the_two_in_their_order(tmp_path: Path) -> None:
    pair, whole = NAMED["digits-5-7"](tmp_path), digits()
    chosen = [row for row, label in enumerate(whole.train_labels) if label in (5, 7)]
    assert (pair.train_images == whole.train_images[chosen]).all()
    assert [(5, 7)[label] for label in pair.train_labels] == whole.train_labels[chosen].tolist()
    assert pair.class_names == ("five", "seven") and len(pair.test_labels) == 0
