"""Any number of classes for each image: those that its mask holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmarks.curves.plan import Plan, PlanError
from benchmarks.curves.tasks.base import Measure
from benchmarks.curves.tasks.mask_sets import OnMasks
from benchmarks.data.kept_masks import MaskSet
from benchmarks.data.scenes import CATALOG, Arrangement

if TYPE_CHECKING:
    from backend.learning.learner import Learner
    from models.data import CycleData, Runtime


@dataclass(frozen=True)
class Multilabel(OnMasks):
    name: ClassVar[str] = "multilabel"
    measure: ClassVar[Measure] = Measure(
        "map",
        "mean average precision",
        "Mean average precision is the task network's on held-out images that nothing else looks at: of each class\n"
        "the area under its precision over its recall, and the mean over the classes that are in any of the images.",
    )
    labels: ClassVar[int] = 200
    datasets: ClassVar[str] = "fashion-scenes, voc, or a folder with images and masks, whose classes are the labels"
    arrangement: ClassVar[Arrangement] = CATALOG

    @classmethod
    def rows(cls, images: MaskSet, plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
        _, height, width, _ = images.train_images.shape
        if height != width:
            raise PlanError(
                f"the images of {plan.dataset} are {width}×{height} px, and those that several choices are made for"
                " have to be square"
            )
        return super().rows(images, plan, seed)

    @cached_property
    def chosen(self) -> np.ndarray:
        """(M, C) uint8: 1 where any pixel of the image is of the class, the background left out."""
        return classes_in(self.images.train_masks, len(self.classes))

    def data(self, labeled: np.ndarray, unlabeled: np.ndarray) -> CycleData:
        from models.data import CycleData, MultilabelTargets

        return CycleData(self.pixels, labeled, unlabeled, MultilabelTargets(self.chosen[labeled]), len(self.classes))

    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        import torch
        from torchmetrics.functional.classification import binary_average_precision

        from models.inference.predictions import predict

        found = predict(learner.net, self.images.test_images, self.test, runtime, "test").predicted
        truth = classes_in((self.images.test_masks[row] for row in self.test), len(self.classes))
        precisions = [
            float(binary_average_precision(torch.from_numpy(scores), torch.from_numpy(there).long()))
            for scores, there in zip(found.T.copy(), truth.T.copy(), strict=True)
            if there.any()  # a class that is nowhere has no recall
        ]
        return {self.measure.key: float(np.mean(precisions)) if precisions else 0.0}


def classes_in(masks: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """(M, ``classes``) uint8: 1 where a mask (H, W) uint8 of M holds index 1, 2, …; looked at one by one."""
    found = [np.bincount(mask.ravel(), minlength=256)[1 : 1 + classes] > 0 for mask in masks]
    return np.array(found, dtype=np.uint8).reshape(len(found), classes)
