"""The control that knows nothing of images: an SVM with an RBF kernel on raw pixels, from scikit-learn."""

from __future__ import annotations

import numpy as np

SIDE = 32
"""Larger images are averaged down to about this side."""
PENALTIES = (1.0, 10.0, 100.0)
"""C, of which cross-validation on the labels chooses."""
FOLDS = 3


def accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Of an SVM that learned ``labels`` (L,) of the images ``train`` (L, S, S, 3) uint8, on ``test`` (T, S, S, 3) and
    ``truth`` (T,). Its kernel's width is scikit-learn's "scale"."""
    points, others = vectors(train), vectors(test)
    gamma = 1.0 / (points.shape[1] * float(points.var()) or 1.0)
    among, towards = kernel(points, points, gamma), kernel(others, points, gamma)
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS

    def right(penalty: float) -> int:
        parts = [(fold != number, fold == number) for number in range(FOLDS)]
        answers = [
            (_answers(among[np.ix_(learned, learned)], labels[learned], among[np.ix_(asked, learned)], penalty), asked)
            for learned, asked in parts
        ]
        return sum(int((found == labels[asked]).sum()) for found, asked in answers)

    best = max(PENALTIES, key=right)
    return float((_answers(among, labels, towards, best) == truth).mean())


def _answers(among: np.ndarray, labels: np.ndarray, towards: np.ndarray, penalty: float) -> np.ndarray:
    """What an SVM that learned ``labels`` (L,) under the kernel ``among`` (L, L) says under ``towards`` (T, L)."""
    from sklearn.svm import SVC  # here: slow to import

    if len(np.unique(labels)) == 1:
        return np.full(len(towards), labels[0])
    found: np.ndarray = SVC(C=penalty, kernel="precomputed").fit(among, labels).predict(towards)
    return found


def vectors(images: np.ndarray) -> np.ndarray:
    """(N, S, S, 3) uint8 as rows of floats in [0, 1], at most about ``SIDE`` of them on a side."""
    step = max(1, images.shape[1] // SIDE)
    side = images.shape[1] // step
    cut = images[:, : side * step, : side * step].reshape(len(images), side, step, side, step, 3)
    return cut.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1) / 255


def kernel(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    """exp(-gamma |a - b|²), (A, B)."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    values: np.ndarray = np.exp(-gamma * np.maximum(squares, 0))
    return values
