"""Labeled images for the demo and the benchmarks: Fashion-MNIST, CIFAR-10, CIFAR-100, SVHN.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (2017).
Krizhevsky, "Learning multiple layers of features from tiny images" (2009). Netzer et al., "Reading digits in natural
images with unsupervised feature learning" (2011).
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the original files."""

DOWNLOADS = Path("~/.cache/label-studio-active-learning").expanduser()
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGIT_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGITS_HELD_OUT = 500
_IDX_UINT8 = 0x08


class DatasetUnavailable(Exception):
    """The data set is neither at hand nor can it be fetched; the message says where it was looked for."""


class Dataset(NamedTuple):
    """Images (N, H, W) gray or (N, H, W, 3) RGB, uint8; labels (N,) int64 into ``class_names``; ``source`` says where
    they came from."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str


def fashion_mnist(*, downloads: Path = DOWNLOADS, debian: Path = DEBIAN) -> Dataset:
    """:func:`fashion_mnist_itself`, or where that cannot be had scikit-learn's 1,797 digits of 8×8."""
    try:
        return fashion_mnist_itself(downloads, debian)
    except DatasetUnavailable as error:
        return _digits(str(error))


def fashion_mnist_itself(downloads: Path = DOWNLOADS, debian: Path = DEBIAN) -> Dataset:
    """Fashion-MNIST (60,000 and 10,000 of 28×28) from Debian's package, else from torchvision's files in
    ``downloads``, fetched where they are missing.

    Raises:
        DatasetUnavailable: there is neither.
    """
    attempts: tuple[Callable[[], Dataset], ...] = (lambda: _from_debian(debian), lambda: _from_torchvision(downloads))
    reasons = []
    for attempt in attempts:
        try:
            return attempt()
        except (OSError, RuntimeError, ImportError, ValueError) as error:
            reasons.append(" ".join(str(error).split())[:100])
    raise DatasetUnavailable("; ".join(reasons))


def cifar(name: str, downloads: Path) -> Dataset:
    """``cifar10`` or ``cifar100``: 50,000 and 10,000 of 32×32, with the files that torchvision keeps in ``downloads``.

    Raises:
        DatasetUnavailable: they are not there and cannot be fetched.
    """
    from torchvision import datasets  # here: slow to import

    kind, file = {
        "cifar10": (datasets.CIFAR10, "cifar-10-python.tar.gz"),
        "cifar100": (datasets.CIFAR100, "cifar-100-python.tar.gz"),
    }[name]
    train, test = _at_hand_or_fetched(name, file, downloads, partial(kind, train=True), partial(kind, train=False))
    labels = [np.array(part.targets, dtype=np.int64) for part in (train, test)]
    return Dataset(train.data, labels[0], test.data, labels[1], tuple(train.classes), f"{name}, torchvision's files")


def svhn(downloads: Path) -> Dataset:
    """SVHN's cropped digits: 73,257 and 26,032 of 32×32, without the "extra" ones. Raises as :func:`cifar`."""
    from torchvision.datasets import SVHN  # here: slow to import

    parts = _at_hand_or_fetched(
        "svhn",
        "train_32x32.mat and test_32x32.mat",
        downloads,
        partial(SVHN, split="train"),
        partial(SVHN, split="test"),
    )
    images = [np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)) for part in parts]
    labels = [part.labels.astype(np.int64) for part in parts]
    return Dataset(images[0], labels[0], images[1], labels[1], DIGIT_CLASSES, "SVHN, torchvision's files")


NAMED: dict[str, Callable[[Path], Dataset]] = {
    "fashion-mnist": fashion_mnist_itself,
    "cifar10": lambda downloads: cifar("cifar10", downloads),
    "cifar100": lambda downloads: cifar("cifar100", downloads),
    "svhn": svhn,
    "digits": lambda _: digits(),
    "pullover-coat": lambda downloads: two_classes(fashion_mnist_itself(downloads), 2, 4),
    "digits-5-7": lambda _: two_classes(digits(), 5, 7),
}
"""Data sets with a name, each given the folder that downloads are kept in."""


def two_classes(raw: Dataset, first: int, second: int) -> Dataset:
    """The images of two of ``raw``'s classes, which become classes 0 and 1."""
    train, test = (np.isin(labels, (first, second)) for labels in (raw.train_labels, raw.test_labels))
    names = (raw.class_names[first], raw.class_names[second])
    return Dataset(
        raw.train_images[train],
        (raw.train_labels[train] == second).astype(np.int64),
        raw.test_images[test],
        (raw.test_labels[test] == second).astype(np.int64),
        names,
        f"{raw.source}, {names[0]} and {names[1]} alone",
    )


def _at_hand_or_fetched(
    name: str, file: str, downloads: Path, train: Callable[..., Any], test: Callable[..., Any]
) -> tuple[Any, Any]:
    """torchvision's two parts, from the files in ``downloads`` where they are there: that asks no network."""
    root = downloads.expanduser()
    try:
        return train(root=str(root), download=False), test(root=str(root), download=False)
    except (OSError, RuntimeError):
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _patience(20):
            return train(root=str(root), download=True), test(root=str(root), download=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DatasetUnavailable(
            f"{name} is not in {root} and could not be fetched ({reason}): put {file} there, or name the folder that"
            " has it with --data"
        ) from error


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """A network that swallows everything must not hold us up for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


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
    with _patience(20):
        train, test = (FashionMNIST(root, train=part, download=True) for part in (True, False))
    arrays = (train.data.numpy(), train.targets.numpy(), test.data.numpy(), test.targets.numpy())
    return Dataset(*arrays, FASHION_CLASSES, "Fashion-MNIST, torchvision's download")


def digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8×8, all in the training part: the test part is empty."""
    from sklearn.datasets import load_digits  # here: see above

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.int64)
    return Dataset(images, labels, images[:0], labels[:0], DIGIT_CLASSES, "scikit-learn's digits")


def _digits(reason: str) -> Dataset:
    images, labels, *_ = digits()
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
