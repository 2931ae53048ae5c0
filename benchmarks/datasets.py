"""Labelled images for the demo and the benchmarks: Fashion-MNIST, or the digits that scikit-learn ships.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (2017).
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the original files."""

DOWNLOADS = Path("~/.cache/label-studio-active-learning")
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGIT_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS_HELD_OUT = 500
_IDX_UINT8 = 0x08


class Dataset(NamedTuple):
    """Images (N, H, W) uint8 grey, labels (N,) int64 into ``class_names``; ``source`` says where they came from."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str


def fashion_mnist(*, downloads: Path = DOWNLOADS, debian: Path = DEBIAN) -> Dataset:
    """Fashion-MNIST (60,000 and 10,000 of 28×28) from Debian's package, else from torchvision's download into
    ``downloads``; where neither can be had, scikit-learn's 1,797 digits of 8×8."""
    attempts: tuple[Callable[[], Dataset], ...] = (lambda: _from_debian(debian), lambda: _from_torchvision(downloads))
    reasons = []
    for attempt in attempts:
        try:
            return attempt()
        except (OSError, RuntimeError, ImportError, ValueError) as error:
            reasons.append(" ".join(str(error).split())[:100])
    return _digits("; ".join(reasons))


def _from_debian(folder: Path) -> Dataset:
    images, labels = {}, {}
    for part in ("train", "t10k"):
        images[part] = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels[part] = read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
    source = "Fashion-MNIST, Debian's package dataset-fashion-mnist"
    return Dataset(images["train"], labels["train"], images["t10k"], labels["t10k"], FASHION_CLASSES, source)


def _from_torchvision(downloads: Path) -> Dataset:
    from torchvision.datasets import FashionMNIST  # here: it is needed in this case only, and slow to import

    root = downloads.expanduser()
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # a network that swallows everything must not hold the demo up for ever
    try:
        train, test = (FashionMNIST(root, train=part, download=True) for part in (True, False))
    finally:
        socket.setdefaulttimeout(patience)
    arrays = (train.data.numpy(), train.targets.numpy(), test.data.numpy(), test.targets.numpy())
    return Dataset(*arrays, FASHION_CLASSES, "Fashion-MNIST, torchvision's download")


def _digits(reason: str) -> Dataset:
    from sklearn.datasets import load_digits  # here: see above

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    held_out, train = order[:_DIGITS_HELD_OUT], order[_DIGITS_HELD_OUT:]
    source = f"scikit-learn's digits, because Fashion-MNIST is not at hand ({reason})"
    return Dataset(images[train], labels[train], images[held_out], labels[held_out], DIGIT_CLASSES, source)


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes, as MNIST's: two zero bytes, type, number of axes, big-endian sizes.

    Raises:
        ValueError: it is not one.
    """
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != bytes((0, 0, _IDX_UINT8)):
        raise ValueError(f"{path.name} is not an IDX file of unsigned bytes")
    axes = data[3]
    shape = np.frombuffer(data, ">u4", count=axes, offset=4).astype(int)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
