"""One class for each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.curves import purchases
from benchmarks.curves.plan import PIXELS, Plan
from benchmarks.curves.tasks.base import CurveTask, Measure, Part
from benchmarks.data import image_sets
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.data.kept_images import ImageSet
from benchmarks.data.mask_folders import holds_masks
from models import ProgressFn

if TYPE_CHECKING:
    from backend.learning.learner import Learner
    from models.data import CycleData, Runtime

SHOWN = 100  # rows of a purchase that its line has, in the order of the queue


@dataclass(frozen=True)
class Classification(CurveTask[ImageSet]):
    name: ClassVar[str] = "classification"
    measure: ClassVar[Measure] = Measure(
        "accuracy", "accuracy", "Accuracy is the task network's on held-out images that nothing else looks at."
    )
    labels: ClassVar[int] = 1_000
    datasets: ClassVar[str] = (
        "fashion-mnist, cifar10, cifar100, svhn, digits, pullover-coat, digits-5-7; -x10, -x100 (long tails) or -copies"
        " (a redundant pool) behind it; photographs; or a folder with one folder of images per class"
    )
    controls: ClassVar[tuple[str, ...]] = (PIXELS,)
    recognizes: ClassVar[bool] = True

    @classmethod
    def prepare(cls, dataset: str, size: int, downloads: Path, work: Path, report: ProgressFn) -> Path:
        if holds_masks(dataset):
            raise DatasetUnavailable(
                f"{dataset} holds images with masks: it is for --task segmentation or --task multilabel"
            )
        return image_sets.prepare(image_sets.split_name(dataset)[0], size, downloads, work, report)

    @classmethod
    def open(cls, folder: Path) -> ImageSet:
        return ImageSet.open(folder)

    @classmethod
    def rows(cls, images: ImageSet, plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
        classes, ratio = len(images.classes), image_sets.split_name(plan.dataset)[1]
        if images.undivided:
            rows = np.arange(len(images.train_labels))
            if ratio > 1:
                rows = image_sets.long_tailed(images.train_labels, classes, ratio, plan.seed)
            return image_sets.held_out(images.train_labels, rows, seed)
        if ratio > 1:
            pool = image_sets.long_tailed(images.train_labels, classes, ratio, plan.seed)
            return pool, image_sets.balanced(images.test_labels, classes, plan.seed)
        return np.arange(len(images.train_labels)), np.arange(len(images.test_labels))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def pixels(self) -> np.ndarray:
        return self.images.train_pixels

    def data(self, labeled: np.ndarray, unlabeled: np.ndarray) -> CycleData:
        from models.data import ClassTargets, CycleData

        targets = ClassTargets(self.images.train_labels[labeled])
        return CycleData(self.pixels, labeled, unlabeled, targets, len(self.images.classes))

    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        from models.inference.predictions import predict

        runtime = replace(runtime, features=self.kept.test)
        predicted = predict(learner.net, self.images.test_pixels, self.test, runtime, "test").predicted
        return {self.measure.key: float((predicted == self.images.test_labels[self.test]).mean())}

    def judged_on_pixels(self, labeled: np.ndarray) -> dict[str, float]:
        from benchmarks.curves.pixel_svm import accuracy

        images = self.images
        train, test = images.train_pixels[labeled], images.test_pixels[self.test]
        labels = (images.train_labels[labeled], images.test_labels[self.test])
        return {self.measure.key: accuracy(train, labels[0], test, labels[1])}

    def parts(self) -> tuple[Part, ...]:
        images = self.images
        return (
            Part(images.train_pixels, images.digests[0], self.pool),
            Part(images.test_pixels, images.digests[1], self.test),
        )

    def bought(self, picks: np.ndarray, before: np.ndarray, pool: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        wrong = predicted != self.images.train_labels[pool]
        found: dict[str, Any] = {
            "picked": picks[:SHOWN].tolist(),
            "picked_counts": np.bincount(self.images.train_labels[picks], minlength=len(self.classes)).tolist(),
            "picked_classes": purchases.effective_classes(self.images.train_labels[picks]),
            "picked_error": float(wrong[np.isin(pool, picks)].mean()),
            "pool_error": float(wrong.mean()),
        }
        if self.images.copies > 1:
            found["picked_duplicates"] = purchases.share_of_copies(picks, before, self.images.copies)
        elif self.kept.train is not None:
            features, width = self.kept.train, self.kept.width
            found["picked_duplicates"] = purchases.share_of_duplicates(
                features[picks, :width], features[before, :width], self._close
            )
        return found

    @cached_property
    def _close(self) -> float:
        """Two images of the pool that are as close as this are near-duplicates."""
        assert self.kept.train is not None
        return purchases.close_distance(self.kept.train[self.pool, : self.kept.width])
