"""What a training step sees: labeled images and what is said of them, augmented, batch by batch.

Axis letters: L labeled rows, B batch, C classes, H W pixels, h w those of a crop.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from torch import Tensor

from models.data import CycleData, MaskTargets, Runtime, targets_of
from models.index_masks import check_classes
from models.pixels import augment
from models.training.augmentation import augment_pairs
from models.training.rows import TrainingRows
from models.training.schedule import Recipe


class Examples(Protocol):
    """The labeled rows of one training. rows: where their images come from."""

    rows: TrainingRows

    def batches(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Images (B, h, w, 3) uint8 and targets (B, ...), both on the device, for each batch of positions in `plan`."""


class LabeledImages:
    """Labeled images and one row of targets for each, augmented."""

    def __init__(self, data: CycleData, targets: Tensor, runtime: Runtime) -> None:
        """targets (L, ...) in the order of `data.labeled`."""
        self.rows = TrainingRows(data.pixels, data.labeled, runtime)
        self._targets = targets.to(runtime.device)
        self._draws = runtime.generator("train augmentation")

    def batches(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Images (B, H, W, 3) uint8 and targets (B, ...) for each batch of positions."""
        for positions, images in self.rows.batches(plan):
            yield augment(images, self._draws), self._targets[positions]


class LabeledMasks:
    """Labeled images and their masks, augmented alike."""

    def __init__(self, data: CycleData, recipe: Recipe, runtime: Runtime) -> None:
        """Raises DataError for a mask with a class that there is not."""
        targets = targets_of(data, MaskTargets)
        check_classes(targets.masks, targets.rows, data.num_classes)
        self.rows = TrainingRows(data.pixels, data.labeled, runtime)
        self._masks = TrainingRows(targets.masks, targets.rows, runtime, aligned_with=self.rows)
        self._crop = (recipe.crop, recipe.crop) if recipe.crop else data.frame
        self._draws = runtime.generator("train augmentation")

    def batches(self, plan: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Images (B, h, w, 3) uint8 and masks (B, h, w) uint8 for each batch of positions."""
        plan = list(plan)
        for (_, images), (_, masks) in zip(self.rows.batches(plan), self._masks.batches(plan), strict=True):
            yield augment_pairs(images, masks, self._crop, self._draws)
