"""A class for each pixel: scenes of Fashion-MNIST items, drawn when they are needed and never all at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from benchmarks.data.datasets import Dataset, fashion_mnist
from benchmarks.data.scenes import Scenes, cut_out
from demo.annotator import PreannotationError, as_png
from demo.brush import brush_config, paint, painted
from demo.subjects.base import Proposal, Result, Subject

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassJaccardIndex

    from backend.learning.learner import Learner

SIDE = 96
"""Of a scene, in pixels: a version is trained within a minute or two on two cores."""

HELD_OUT = 300
AT_A_TIME = 50


class PaintedScenes(Subject):
    """``count`` scenes of items of ``dataset``'s training part, to be painted; scenes of its test part are held out.

    Pixels that nobody paints are background, which is a class for the network and for the mean IoU.
    """

    task: ClassVar[str] = "segmentation"
    must_rise: ClassVar[bool] = True
    how_to: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Paint", "choose a class (its key is next to it), brush over its items, then the next class, then Submit"),
        ("", "what is left unpainted is background; from the second order on there are masks to correct"),
    )

    def __init__(self, dataset: Dataset, count: int, *, side: int = SIDE, held_out: int = HELD_OUT) -> None:
        name, _, origin = dataset.source.partition(", ")
        source = f"Scenes of {name}, {side}×{side} px, {origin}"
        super().__init__(source, dataset.class_names, count, held_out)
        self.side = side
        self._scenes = Scenes(cut_out(dataset.train_images, dataset.train_labels), side, seed=0)
        self._test = Scenes(cut_out(dataset.test_images, dataset.test_labels), side, seed=0, part="test")

    @classmethod
    def of_fashion(cls, count: int, held_out: int | None = None) -> Self:
        return cls(fashion_mnist(), count, held_out=HELD_OUT if held_out is None else held_out)

    @property
    def label_config(self) -> str:
        return brush_config(self.classes)

    def image(self, index: int) -> bytes:
        return as_png(self._scenes.scene(index)[0])

    def ground_truth(self, index: int) -> Result:
        return paint(self._scenes.scene(index)[1], self.classes)

    def judge(self, learner: Learner) -> float:
        """Mean IoU of all classes, the background among them, over the held-out scenes."""
        import torch

        from models.data import Runtime
        from models.inference.predictions import predict_masks

        ours = np.array([0, *(1 + self.classes.index(name) for name in learner.classes)])
        runtime = Runtime(device=learner.device, seed=0, progress=self.go_on)
        index = self._mean_iou()
        for start in range(0, self.held_out, AT_A_TIME):
            rows = range(start, min(start + AT_A_TIME, self.held_out))
            images, masks = zip(*map(self._test.scene, rows), strict=True)
            pixels = self.decoded(images, learner.frame)
            for places, predicted, _ in predict_masks(learner.net, pixels, np.arange(len(rows)), runtime):
                truth = np.stack([masks[place] for place in places])
                index.update(torch.from_numpy(ours[predicted]), torch.from_numpy(truth))
        return float(index.compute())

    def agreement(self, proposed: Iterable[Proposal]) -> float | None:
        """Mean IoU of the proposed masks with the scenes' own.

        Raises:
            PreannotationError: a region cannot be read, or is not of the scene's size; or nothing is proposed at all.
        """
        import torch

        index, regions = self._mean_iou(), 0
        for number, result in proposed:
            regions += len(result)
            mask = painted(result, self.classes, (self.side, self.side))
            index.update(torch.from_numpy(mask), torch.from_numpy(self._scenes.scene(number)[1]))
        if not regions:
            raise PreannotationError("no task at the head of the queue carries a mask")
        return float(index.compute())

    def _mean_iou(self) -> MulticlassJaccardIndex:
        from torchmetrics.classification import MulticlassJaccardIndex

        return MulticlassJaccardIndex(num_classes=1 + len(self.classes), average="macro")
