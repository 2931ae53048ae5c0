"""What a cycle computes on: the pixels, which rows are labeled and with what, and where and how to run.

Axis letters: M cached images, K masks, L labeled rows, U unlabeled rows, B batch, C classes, H W pixels.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import torch

# Also names of this module; they stand where they need no torch.
from models import IGNORE as IGNORE
from models import ProgressFn as ProgressFn
from models.deadline import Deadline as Deadline
from models.lending import Lend

if TYPE_CHECKING:
    from models.inference.executors import Executor
    from models.training.kept_maps import EncodedImages

T = TypeVar("T", bound="Targets")

SCORE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What convolutions may compute in while scoring; see `Runtime`."""


class DataError(ValueError):
    """The rows, targets or pixels do not fit together; the message says what is wrong."""


def no_progress(phase: str, done: int, total: int) -> None:
    """Ignore progress; the default of `Runtime.progress`."""


class Targets(ABC):
    """What the annotators said of the labeled rows, one kind of task a subclass.

    task: the kind's name in `models.tasks.TASKS`.
    """

    task: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int:
        """L, how many labeled rows these are the targets of."""

    @abstractmethod
    def at(self, places: np.ndarray | slice) -> Self:
        """Those of the labels at these places, indices below L, in this order."""

    @abstractmethod
    def check(self, data: CycleData) -> None:
        """Raise DataError where these targets do not fit the pixels, the labeled rows or the number of classes."""


@dataclass(frozen=True)
class ClassTargets(Targets):
    """One class an image: classes (L,) integers in [0, C). Images are square."""

    task: ClassVar[str] = "classification"
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def at(self, places: np.ndarray | slice) -> Self:
        return replace(self, classes=self.classes[places])

    def check(self, data: CycleData) -> None:
        _check_one_per_label("targets", self.classes, data)
        _check_square(data)
        found = self.classes
        if len(found) and not 0 <= found.min() <= found.max() < data.num_classes:
            raise DataError(f"targets must lie in [0, {data.num_classes}), got {found.min()}..{found.max()}")


@dataclass(frozen=True)
class MultilabelTargets(Targets):
    """Any number of classes an image: chosen (L, C) uint8, 1 where the class was chosen, else 0. Images are square."""

    task: ClassVar[str] = "multilabel"
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    def at(self, places: np.ndarray | slice) -> Self:
        return replace(self, chosen=self.chosen[places])

    def check(self, data: CycleData) -> None:
        wanted = (len(data.labeled), data.num_classes)
        if self.chosen.shape != wanted or self.chosen.dtype != np.uint8:
            raise DataError(
                f"targets must be {wanted} uint8, a row per label and a column per class: "
                f"got {self.chosen.dtype}{self.chosen.shape}"
            )
        _check_square(data)
        if self.chosen.size and self.chosen.max() > 1:
            raise DataError(f"targets must be 0 or 1, got {self.chosen.max()}")


@dataclass(frozen=True)
class MaskTargets(Targets):
    """A class for each pixel.

    masks (K, H, W) uint8 is a map of index masks, usually a read-only np.memmap: class indices below C, the background
    being class 0, and IGNORE. rows (L,) integers into it. class_weight (C,) float32 weighs the pixels of the classes
    in the loss; None: all alike.
    """

    task: ClassVar[str] = "segmentation"
    masks: np.ndarray
    rows: np.ndarray
    class_weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: np.ndarray | slice) -> Self:
        return replace(self, rows=self.rows[places])

    def check(self, data: CycleData) -> None:
        _check_one_per_label("rows of masks", self.rows, data)
        check_masks(self.masks, data.pixels)
        check_rows(self.rows, len(self.masks))


@dataclass(frozen=True)
class CycleData:
    """One cycle's images and labels.

    pixels (M, H, W, 3) uint8, usually a read-only np.memmap: index rows of it, never copy it whole.
    labeled (L,) int64 rows of `pixels`; targets: what is known of them, in this order.
    unlabeled (U,) int64 rows that a sampler may train on without their labels; may be empty.
    num_classes C; with masks the background is one of them.
    synthetic (L,) bool: which of the labels are of generated images; None: none of them. Networks are trained on these
    too, but nothing is measured by them, and samplers do not take them for images of the pool.

    Raises DataError when the parts do not fit together.
    """

    pixels: np.ndarray
    labeled: np.ndarray
    unlabeled: np.ndarray
    targets: Targets
    num_classes: int
    synthetic: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_pixels(self.pixels)
        check_rows(self.labeled, len(self.pixels))
        check_rows(self.unlabeled, len(self.pixels))
        if self.synthetic is not None and (
            self.synthetic.shape != self.labeled.shape or self.synthetic.dtype != np.bool_
        ):
            raise DataError(f"synthetic must be bool, one per label: got {self.synthetic.dtype}{self.synthetic.shape}")
        if self.num_classes < 1:
            raise DataError(f"num_classes must be at least 1, got {self.num_classes}")
        self.targets.check(self)

    @property
    def real(self) -> CycleData:
        """The same without labels of generated images."""
        if self.synthetic is None:
            return self
        places = np.flatnonzero(~self.synthetic)
        return replace(self, labeled=self.labeled[places], targets=self.targets.at(places), synthetic=None)

    @property
    def task(self) -> str:
        """Name of the kind of task that the targets are of."""
        return self.targets.task

    @property
    def frame(self) -> tuple[int, int]:
        """(H, W) of the images in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])

    @property
    def image_size(self) -> int:
        """The longer side of the images in pixels."""
        return max(self.frame)


def targets_of(data: CycleData, kind: type[T]) -> T:
    """The targets of `data`, which are of this kind. Raises DataError when they are of another."""
    if not isinstance(data.targets, kind):
        raise DataError(f"this needs targets of the kind {kind.task}, and those of the data are of {data.task}")
    return data.targets


@dataclass(frozen=True)
class Runtime:
    """Where and how to run; handed to everything that computes.

    device           where networks and batches live.
    seed             the cycle's seed; all random draws come from `generator` or `rng`, none from a global one.
    progress         see `ProgressFn`.
    eval_batch_size  rows per batch while scoring; 0 = chosen by device and image size.
    score_dtype      what convolutions compute in while scoring: one of SCORE_DTYPES.
    deadline         when every loop of training steps has to end; None = none of them is cut short.
    features         (M, E) float16, usually a read-only np.memmap: what `models.networks.pretrained.FrozenClassifier`
                     keeps of the pool's rows; filled where rows are asked for. None = pixels are read instead.
    encoded          what a segmenter's frozen encoder says of the labeled images, for all trainings of a cycle; filled
                     as it is asked for. None = each training has its own.
    index            the file that an index of the neighbors among `features` is kept in from cycle to cycle
                     (`models.geometry.neighbor_index`); None = one is built when it is needed, and not kept.
    prepared         what a sampler's networks learned from the images apart from cycles, as `fit` takes it over; {} =
                     nothing yet. None = nobody sees to that, and `fit` trains them itself.
    idle             lends further devices of its type for a pass over rows of the pool. None = there is none.
    executor         who computes large passes over the pool; None = this process.
    """

    device: torch.device
    seed: int
    progress: ProgressFn = no_progress
    eval_batch_size: int = 0
    score_dtype: torch.dtype = torch.float32
    deadline: Deadline | None = None
    features: np.ndarray | None = None
    encoded: EncodedImages | None = None
    prepared: Mapping[str, Any] | None = None
    index: Path | None = None
    idle: Lend | None = None
    executor: Executor | None = None

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
    """Raise DataError unless `rows` is a vector (N,) of integers in [0, count)."""
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise DataError(f"rows must be a vector of integers, got {rows.dtype}{rows.shape}")
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise DataError(f"rows must lie in [0, {count}), got {rows.min()}..{rows.max()}")


def _check_one_per_label(what: str, values: np.ndarray, data: CycleData) -> None:
    if values.shape != data.labeled.shape or values.dtype.kind not in "iu":
        raise DataError(
            f"{what} must be integers, one per label: got {values.dtype}{values.shape}"
            f" for {len(data.labeled)} labeled rows"
        )


def _check_square(data: CycleData) -> None:
    high, wide = data.frame
    if high != wide:
        raise DataError(f"images to classify must be square, got {high} x {wide}")
