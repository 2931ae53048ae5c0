"""What the kinds of task share that take their ground truth from masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.curves.plan import Plan
from benchmarks.curves.tasks.base import CurveTask
from benchmarks.data import mask_folders
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.data.image_sets import names_classes
from benchmarks.data.kept_masks import MaskSet
from benchmarks.data.scenes import CLUTTER, Arrangement
from models import ProgressFn


@dataclass(frozen=True)
class OnMasks(CurveTask[MaskSet]):
    """``arrangement``: of the items in the scenes of ``fashion-scenes``."""

    arrangement: ClassVar[Arrangement] = CLUTTER

    @classmethod
    def prepare(cls, dataset: str, size: int, downloads: Path, work: Path, report: ProgressFn) -> Path:
        if names_classes(dataset):
            raise DatasetUnavailable(
                f"{dataset} has a class for each image and no masks: leave out --task {cls.name}, or choose"
                f" {mask_folders.CHOICES}"
            )
        return mask_folders.prepare(dataset, size, downloads, work, report, arrangement=cls.arrangement)

    @classmethod
    def open(cls, folder: Path) -> MaskSet:
        return MaskSet.open(folder)

    @classmethod
    def rows(cls, images: MaskSet, plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(len(images.train_masks)), np.arange(len(images.test_masks))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes[1:]  # what is none of them is the background, class 0

    @property
    def pixels(self) -> np.ndarray:
        return self.images.train_images
