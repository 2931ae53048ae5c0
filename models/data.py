"""What a cycle computes on: the pixels, which rows are labelled, and where and how to run.

Axis letters: M cached images, K masks, L labelled rows, U unlabelled rows, B batch, C classes, H W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Task = Literal["classification", "segmentation"]


class DataError(ValueError):
    """The rows, targets or pixels handed over do not fit together; the message says what is wrong."""


def no_progress(phase: str, done: int, total: int) -> None:
    """Ignore progress; the default of `Runtime.progress`."""


@dataclass(frozen=True)
class CycleData:
    """One cycle's images and labels.

    pixels (M, H, W, 3) uint8, usually a read-only np.memmap: index rows of it, never copy it whole.
    labelled (L,) int64 rows of `pixels`.
    unlabelled (U,) int64 rows that a sampler may train on without their labels; may be empty.

    Classification: images are square, targets (L,) int64 are class indices in [0, num_classes).
    Segmentation: masks (K, H, W) uint8 is a map of index masks like `pixels`, and targets (L,) int64 are rows of it. A
    mask holds class indices below num_classes, the background being class 0, and `models.losses.index_masks.IGNORE`.
    class_weight (C,) float32 weighs the pixels of the classes in its loss; None: all alike.

    Raises DataError when the parts do not fit together.
    """

    pixels: np.ndarray
    labelled: np.ndarray
    targets: np.ndarray
    unlabelled: np.ndarray
    num_classes: int
    masks: np.ndarray | None = None
    class_weight: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_pixels(self.pixels)
        check_rows(self.labelled, len(self.pixels))
        check_rows(self.unlabelled, len(self.pixels))
        if self.num_classes < 1:
            raise DataError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.targets.shape != self.labelled.shape or self.targets.dtype.kind not in "iu":
            raise DataError(
                f"targets must be integers, one per label: got {self.targets.dtype}{self.targets.shape}"
                f" for {len(self.labelled)} labelled rows"
            )
        if self.masks is not None:
            check_masks(self.masks, self.pixels)
            check_rows(self.targets, len(self.masks))
            return
        if self.pixels.shape[1] != self.pixels.shape[2]:
            raise DataError(f"images to classify must be square, got {self.pixels.shape[1]} x {self.pixels.shape[2]}")
        if len(self.targets) and not 0 <= self.targets.min() <= self.targets.max() < self.num_classes:
            raise DataError(
                f"targets must lie in [0, {self.num_classes}), got {self.targets.min()}..{self.targets.max()}"
            )

    @property
    def task(self) -> Task:
        return "classification" if self.masks is None else "segmentation"

    @property
    def frame(self) -> tuple[int, int]:
        """(H, W) of the images in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])

    @property
    def image_size(self) -> int:
        """The longer side of the images in pixels."""
        return max(self.frame)


@dataclass(frozen=True)
class Runtime:
    """Where and how to run; handed to everything that computes.

    device           where networks and batches live.
    seed             the cycle's seed; all random draws come from `generator` or `rng`, none from a global one.
    progress         called as (phase, done, total); may raise to stop the work.
    eval_batch_size  rows per batch while scoring; 0 = chosen by device and image size.
    """

    device: torch.device
    seed: int
    progress: Callable[[str, int, int], None] = no_progress
    eval_batch_size: int = 0

    def generator(self, purpose: str, device: torch.device | str | None = None) -> torch.Generator:
        """A fresh torch.Generator for one purpose, on `device` (default: the runtime's).

        The stream depends on (seed, purpose) only, so two phases never share draws and none disturbs another.
        """
        return torch.Generator(device or self.device).manual_seed(self._derived_seed(purpose))

    def rng(self, purpose: str) -> np.random.Generator:
        """The same for NumPy on the host."""
        return np.random.default_rng(self._derived_seed(purpose))

    def _derived_seed(self, purpose: str) -> int:
        # SeedSequence mixes well; zlib.crc32 is stable between processes, unlike hash().
        words = np.random.SeedSequence([self.seed % 2**64, zlib.crc32(purpose.encode())]).generate_state(2)
        return int(words[0]) << 31 ^ int(words[1])


def check_pixels(pixels: np.ndarray) -> None:
    """Raise DataError unless `pixels` is (M, H, W, 3) uint8."""
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise DataError(f"pixels must be (M, H, W, 3) uint8, got {pixels.dtype}{pixels.shape}")


def check_masks(masks: np.ndarray, pixels: np.ndarray) -> None:
    """Raise DataError unless `masks` is (K, H, W) uint8 with the H and W of `pixels`."""
    if masks.dtype != np.uint8 or masks.ndim != 3 or masks.shape[1:] != pixels.shape[1:3]:
        raise DataError(f"masks must be (K, H, W) uint8 like the pixels {pixels.shape}, got {masks.dtype}{masks.shape}")


def check_rows(rows: np.ndarray, count: int) -> None:
    """Raise DataError unless `rows` is a vector of integers in [0, count)."""
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise DataError(f"rows must be a vector of integers, got {rows.dtype}{rows.shape}")
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise DataError(f"rows must lie in [0, {count}), got {rows.min()}..{rows.max()}")
