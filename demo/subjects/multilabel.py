"""Any number of classes for each image: scenes of Fashion-MNIST items, of which the annotator says what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from benchmarks.data.datasets import Dataset, fashion_mnist
from benchmarks.data.scenes import CATALOG, Scenes, cut_out
from demo.annotator import as_png
from demo.choices import choices_config, choose, chosen
from demo.subjects.base import Proposal, Result, Subject

if TYPE_CHECKING:
    from backend.learning.learner import Learner

SIDE, SEEN_SIDE = 64, 32
"""Of a scene, in pixels: as a person sees it, where an item is about as large as in Fashion-MNIST, and as the network
does. A version takes 75 seconds of processor time to train at 32 px, so two cores less than a minute; four times that
at 64 px."""

HELD_OUT = 500


class TickedScenes(Subject):
    """``count`` scenes of items of ``dataset``'s training part; scenes of its test part are held out.

    The ground truth of a scene is the set of the classes that are in it. No item hides another, so all of them can be
    seen; some scenes are empty, and the annotation without any choice is right for these.
    """

    task: ClassVar[str] = "multilabel"
    must_rise: ClassVar[bool] = True
    how_to: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Tick", "every class that is in the image (its key is next to it), none if it is empty, then Submit"),
        ("", "from the second order on what the model sees is ticked already, for you to correct"),
    )
    settings: ClassVar[dict[str, Any]] = {"image_size": SEEN_SIDE}

    def __init__(self, dataset: Dataset, count: int, *, side: int = SIDE, held_out: int = HELD_OUT) -> None:
        name, _, origin = dataset.source.partition(", ")
        source = f"Scenes of {name}, {side}×{side} px, {origin}"
        super().__init__(source, dataset.class_names, count, held_out)
        self._scenes = Scenes(cut_out(dataset.train_images, dataset.train_labels), side, 0, "train", CATALOG)
        self._test = Scenes(cut_out(dataset.test_images, dataset.test_labels), side, 0, "test", CATALOG)
        self._test_rows: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def of_fashion(cls, count: int, held_out: int | None = None) -> Self:
        return cls(fashion_mnist(), count, held_out=HELD_OUT if held_out is None else held_out)

    @property
    def label_config(self) -> str:
        return choices_config(self.classes, several=True)

    def image(self, index: int) -> bytes:
        return as_png(self._scenes.scene(index)[0])

    def ground_truth(self, index: int) -> Result:
        return choose(self._classes_in(self._scenes, index))

    def judge(self, learner: Learner) -> float:
        """The mean over the classes of each one's average precision over the held-out scenes."""
        import torch
        from torchmetrics.classification import MultilabelAveragePrecision

        from models.inference.predictions import predict

        pixels, truth = self._held_out(learner.frame)
        found = predict(learner.net, pixels, np.arange(len(pixels)), self.runtime(learner, pixels))
        ours = [learner.classes.index(name) for name in self.classes]
        metric = MultilabelAveragePrecision(num_labels=len(self.classes), average="macro")
        return float(metric(torch.from_numpy(found.predicted[:, ours]), torch.from_numpy(truth)))

    def agreement(self, proposed: Iterable[Proposal]) -> float | None:
        """F1 of the ticks: the harmonic mean of the share of those proposed that are right and of those right that are
        proposed, all scenes taken together. 1 where there is nothing to tick and nothing is ticked."""
        right = ticked = wanted = 0
        for number, result in proposed:
            names, truth = chosen(result, self.classes), set(self._classes_in(self._scenes, number))
            right, ticked, wanted = right + len(names & truth), ticked + len(names), wanted + len(truth)
        return 2 * right / (ticked + wanted) if ticked + wanted else 1.0

    def _classes_in(self, scenes: Scenes, index: int) -> list[str]:
        """Names of the classes that a scene's mask holds, in the order of the label config."""
        return [self.classes[value - 1] for value in np.unique(scenes.scene(index)[1]).tolist() if value]

    def _held_out(self, frame: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Held-out scenes (N, H, W, 3) and which classes are in them, (N, C) of 0 and 1."""
        if frame not in self._test_rows:
            images, masks = zip(*map(self._test.scene, range(self.held_out)), strict=True)
            there = [(np.stack(masks) == 1 + index).any(axis=(1, 2)) for index in range(len(self.classes))]
            self._test_rows[frame] = (self.decoded(images, frame), np.stack(there, axis=1).astype(np.int64))
        return self._test_rows[frame]
