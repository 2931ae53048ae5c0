"""A class for each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmarks.curves.plan import FOREGROUND
from benchmarks.curves.tasks.base import Measure
from benchmarks.curves.tasks.mask_sets import OnMasks
from models import IGNORE

if TYPE_CHECKING:
    from backend.learning.learner import Learner
    from models.data import CycleData, Runtime


@dataclass(frozen=True)
class Segmentation(OnMasks):
    name: ClassVar[str] = "segmentation"
    measure: ClassVar[Measure] = Measure(
        "miou",
        "mean IoU",
        "Mean IoU is the task network's on held-out images that nothing else looks at: of each class, the background\n"
        "included, the intersection over the union of its pixels in masks and predictions, added up over all images,\n"
        "and the mean over the classes that are in either.",
        {"pixel_accuracy": "pixel accuracy"},
    )
    labels: ClassVar[int] = 150  # a mask is worth many classes, and costs as many
    datasets: ClassVar[str] = "fashion-scenes, cityscapes, voc, or a folder with images and masks"
    controls: ClassVar[tuple[str, ...]] = (FOREGROUND,)

    def data(self, labeled: np.ndarray, unlabeled: np.ndarray) -> CycleData:
        from models.data import CycleData, MaskTargets

        targets = MaskTargets(self.images.train_masks, labeled.astype(np.int64))  # a mask has the row of its image
        return CycleData(self.pixels, labeled, unlabeled, targets, len(self.images.classes))

    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        """A batch of masks at a time is in memory; their pixels are added up over all of them."""
        import torch
        from torchmetrics.classification import MulticlassJaccardIndex

        from models.inference.predictions import predict_masks

        # MaskSet and the network vouch for the values: looking for them in each batch takes longer than counting
        meter = MulticlassJaccardIndex(len(self.images.classes), ignore_index=IGNORE, validate_args=False)
        for places, predicted, _ in predict_masks(learner.net, self.images.test_images, self.test, runtime, "test"):
            truth = self.images.test_masks[self.test[places]]
            meter.update(torch.from_numpy(predicted), torch.from_numpy(truth))
        confusion = meter.confmat
        accuracy = float(confusion.diagonal().sum() / confusion.sum())
        return {self.measure.key: float(meter.compute()), "pixel_accuracy": accuracy}
