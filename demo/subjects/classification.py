"""One class for each image: Fashion-MNIST as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from benchmarks.data.datasets import Dataset, fashion_mnist
from demo.annotator import as_png
from demo.choices import choices_config, choose
from demo.subjects.base import Result, Subject

if TYPE_CHECKING:
    from backend.learning.learner import Learner
    from demo.recognizer import Recognizer

HELD_OUT = 1_000
"""Test images that a version is judged by unless told otherwise: a backbone takes some 10 ms for each of them, once."""


class SingleItems(Subject):
    """``dataset.train_images[rows]``, of which each has one class; its test images are held out."""

    task: ClassVar[str] = "classification"

    def __init__(self, dataset: Dataset, rows: np.ndarray, held_out: int = HELD_OUT) -> None:
        super().__init__(dataset.source, dataset.class_names, len(rows), min(held_out, len(dataset.test_images)))
        self.dataset = dataset
        self.rows = rows
        self._test_pixels: dict[tuple[int, int], np.ndarray] = {}
        self._recognizer: Recognizer | None = None

    @classmethod
    def of_fashion(cls, count: int, held_out: int | None = None) -> Self:
        dataset = fashion_mnist()
        count = min(count, len(dataset.train_images))
        rows = np.random.default_rng(0).choice(len(dataset.train_images), count, replace=False)
        return cls(dataset, rows, HELD_OUT if held_out is None else held_out)

    @property
    def label_config(self) -> str:
        return choices_config(self.classes)

    def image(self, index: int) -> bytes:
        return as_png(self.dataset.train_images[self.rows[index]])

    def ground_truth(self, index: int) -> Result:
        return choose([self.classes[self.dataset.train_labels[self.rows[index]]]])

    def recognize(self, pixels: np.ndarray) -> Result | None:
        """What a classifier of all training images of the data set says, where it is sure."""
        if self._recognizer is None:
            from demo.recognizer import Recognizer

            self._recognizer = Recognizer(self.dataset.train_images, self.dataset.train_labels, len(self.classes))
        found = self._recognizer.recognize(pixels)
        return None if found is None else choose([self.classes[found]])

    def judge(self, learner: Learner) -> float:
        """Share of the held-out images that are classified correctly."""
        from models.inference.predictions import predict

        pixels = self._held_out(learner.frame)
        found = predict(learner.net, pixels, np.arange(len(pixels)), self.runtime(learner, pixels))
        names = np.array(learner.classes)[found.predicted]
        return float((names == np.array(self.classes)[self.dataset.test_labels[: self.held_out]]).mean())

    def _held_out(self, frame: tuple[int, int]) -> np.ndarray:
        """The test images, (N, H, W, 3)."""
        if frame not in self._test_pixels:
            self._test_pixels[frame] = self.decoded(self.dataset.test_images[: self.held_out], frame)
        return self._test_pixels[frame]
