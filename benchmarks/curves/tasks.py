"""What the samplers compete on, for either task: the pool, the test images, what a label is, who judges a network.

Axis letters: N rows of the pool, T rows of the test, L labelled rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from backend.learning.learner import Learner
from benchmarks.curves.measures import CLASSIFICATION, MEASURES, SEGMENTATION
from benchmarks.curves.plan import Plan, PlanError, part_of
from benchmarks.curves.sets import opened
from benchmarks.data.image_sets import balanced, long_tailed, split_name
from benchmarks.data.kept_images import ImageSet
from benchmarks.data.kept_masks import MaskSet
from models import IGNORE
from models.data import ClassTargets, CycleData, MaskTargets, Runtime
from models.inference.predictions import predict, predict_masks


@dataclass(frozen=True)
class Task(ABC):
    """Rows of the training part that are the pool (N,), and rows of the test part (T,)."""

    pool: np.ndarray
    test: np.ndarray

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The labels that an annotator has."""

    @property
    @abstractmethod
    def pixels(self) -> np.ndarray:
        """(M, H, W, 3) uint8, the images of the training part."""

    @abstractmethod
    def data(self, labelled: np.ndarray, unlabelled: np.ndarray) -> CycleData:
        """What a cycle learns from: the labels of ``labelled`` (L,) alone, the oracle's."""

    @abstractmethod
    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        """The columns of :data:`~benchmarks.curves.measures.MEASURES` on the test images, from 0 to 1."""


@dataclass(frozen=True)
class Classification(Task):
    images: ImageSet

    @classmethod
    def of(cls, images: ImageSet, plan: Plan) -> Classification:
        """Drawn from the plan's seed, so the same in all trials. Raises PlanError when the images do not suffice."""
        classes = len(images.classes)
        pool, test = np.arange(len(images.train_labels)), np.arange(len(images.test_labels))
        if (ratio := split_name(plan.dataset)[1]) > 1:
            pool = long_tailed(images.train_labels, classes, ratio, plan.seed)
            test = balanced(images.test_labels, classes, plan.seed)
        return cls(*_parts(pool, test, plan), images)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def pixels(self) -> np.ndarray:
        return self.images.train_pixels

    def data(self, labelled: np.ndarray, unlabelled: np.ndarray) -> CycleData:
        return CycleData(
            pixels=self.images.train_pixels,
            labeled=labelled,
            unlabeled=unlabelled,
            targets=ClassTargets(self.images.train_labels[labelled]),
            num_classes=len(self.images.classes),
        )

    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        answers = predict(learner.net, self.images.test_pixels, self.test, runtime, "test").predicted
        right = answers == self.images.test_labels[self.test]
        return {MEASURES[CLASSIFICATION].key: float(right.mean())}


@dataclass(frozen=True)
class Segmentation(Task):
    images: MaskSet

    @classmethod
    def of(cls, images: MaskSet, plan: Plan) -> Segmentation:
        """As :meth:`Classification.of`."""
        pool, test = np.arange(len(images.train_masks)), np.arange(len(images.test_masks))
        return cls(*_parts(pool, test, plan), images)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes[1:]  # what is none of them is the background, class 0

    @property
    def pixels(self) -> np.ndarray:
        return self.images.train_images

    def data(self, labelled: np.ndarray, unlabelled: np.ndarray) -> CycleData:
        return CycleData(
            pixels=self.images.train_images,
            labeled=labelled,
            unlabeled=unlabelled,
            # rows of the masks, which are those of their images
            targets=MaskTargets(self.images.train_masks, labelled.astype(np.int64)),
            num_classes=len(self.images.classes),
        )

    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        """A batch of masks at a time is in memory; their pixels are added up over all of them."""
        # MaskSet and the network vouch for the values: looking for them in each batch takes longer than counting
        meter = MulticlassJaccardIndex(len(self.images.classes), ignore_index=IGNORE, validate_args=False)
        for places, predicted, _ in predict_masks(learner.net, self.images.test_images, self.test, runtime, "test"):
            truth = self.images.test_masks[self.test[places]]
            meter.update(torch.from_numpy(predicted), torch.from_numpy(truth))
        confusion = meter.confmat
        accuracy = float(confusion.diagonal().sum() / confusion.sum())
        return {MEASURES[SEGMENTATION].key: float(meter.compute()), "pixel_accuracy": accuracy}


def _parts(pool: np.ndarray, test: np.ndarray, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    pool, test = part_of(pool, plan.pool, plan.seed, 0), part_of(test, plan.test, plan.seed, 1)
    plan.check(len(pool))
    if not len(test):
        raise PlanError("there is no image to test on")
    return pool, test


def task_of(folder: Path, plan: Plan) -> Task:
    """The plan's task on the data set in ``folder``. Raises PlanError when its images do not suffice."""
    images = opened(plan.task, folder)
    return Segmentation.of(images, plan) if isinstance(images, MaskSet) else Classification.of(images, plan)
