"""What a project of the demo is about: its images, the question, the right answers, and how good a version is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from backend.images.decoding import decode
from backend.learning.learner import Learner
from backend.state import Version
from benchmarks.data.datasets import Dataset, fashion_mnist
from demo.annotator import Annotator, as_png, choice, image_name
from models.data import Runtime
from models.inference.predictions import predict

Proposal = tuple[int, list[dict[str, Any]]]
"""The number of an image, and the ``result`` of its prediction."""


class Subject(ABC):
    """The project's images are numbered 0 .. ``count - 1``."""

    measure: ClassVar[str]
    """What :meth:`quality` is, in a word or two."""
    must_rise: ClassVar[bool] = False
    """Whether the demo fails when the quality does not rise from the first trained version to the last."""
    how_to: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Lines for the person who is going to answer."""

    def __init__(self, source: str, classes: tuple[str, ...], count: int, held_out: int) -> None:
        self.source = source
        self.classes = classes
        self.count = count
        self.held_out = held_out

    @property
    def title(self) -> str:
        return self.source.split(",")[0]

    @abstractmethod
    def create(self, annotator: Annotator) -> int:
        """Makes the project, without its images; its id."""

    @abstractmethod
    def image(self, index: int) -> bytes:
        """Image number ``index`` as a file."""

    @abstractmethod
    def answer(self, index: int) -> list[dict[str, Any]]:
        """The ``result`` of the annotation that is right for image ``index``."""

    @abstractmethod
    def quality(self, version: Version) -> float | None:
        """Of the version's own checkpoint on the held-out images, in [0, 1]; None when there is no model yet."""

    def agreement(self, proposed: Iterable[Proposal]) -> float | None:
        """Of what is proposed at the head of the queue with the truth, in [0, 1]; None where it is not looked at.

        Raises:
            PaintingError: what is proposed cannot be shown in the editor.
        """
        return None

    def images(self) -> Iterator[tuple[str, bytes]]:
        """File names and files of all images, made one by one."""
        return ((image_name(index), self.image(index)) for index in range(self.count))


class Choosing(Subject):
    """``dataset.train_images[chosen]``, of which each has one class; its test images are held out."""

    measure = "accuracy"

    def __init__(self, dataset: Dataset, chosen: np.ndarray) -> None:
        super().__init__(dataset.source, dataset.class_names, len(chosen), len(dataset.test_images))
        self.dataset = dataset
        self.chosen = chosen
        self._test_pixels: dict[int, np.ndarray] = {}

    @classmethod
    def of_fashion(cls, count: int) -> Choosing:
        """``count`` images of Fashion-MNIST, or all when there are fewer."""
        dataset = fashion_mnist()
        count = min(count, len(dataset.train_images))
        return cls(dataset, np.random.default_rng(0).choice(len(dataset.train_images), count, replace=False))

    def create(self, annotator: Annotator) -> int:
        return annotator.create_project(self.title, self.classes)

    def image(self, index: int) -> bytes:
        return as_png(self.dataset.train_images[self.chosen[index]])

    def answer(self, index: int) -> list[dict[str, Any]]:
        return [choice(self.classes[self.dataset.train_labels[self.chosen[index]]])]

    def quality(self, version: Version) -> float | None:
        """Share of the held-out images that are classified correctly."""
        learner = load_learner(version)
        if learner is None:
            return None
        pixels = self._held_out(learner.frame[0])
        answers = predict(learner.net, pixels, np.arange(len(pixels)), Runtime(device=learner.device, seed=0))
        names = np.array(learner.classes)[answers.predicted]
        return float((names == np.array(self.classes)[self.dataset.test_labels]).mean())

    def _held_out(self, size: int) -> np.ndarray:
        """The test images (N, size, size, 3) as the backend would decode them from files."""
        if size not in self._test_pixels:
            self._test_pixels[size] = np.stack([decode(as_png(image), size) for image in self.dataset.test_images])
        return self._test_pixels[size]


def load_learner(version: Version) -> Learner | None:
    """The version's checkpoint; None when it was made without a model."""
    if version.checkpoint is None:
        return None
    return Learner.load(version.checkpoint, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
