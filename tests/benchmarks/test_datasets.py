"""Every source gives images and labels of one form; the fallbacks say why they were taken."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets import DEBIAN, DIGIT_CLASSES, FASHION_CLASSES, fashion_mnist, read_idx


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
