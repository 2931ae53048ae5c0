"""What the samplers compete on: the pool, the test images, what a label is, what a network is judged by.

One kind of task is one file in this folder and one line of :data:`benchmarks.curves.tasks.TASKS`. torch is imported
when it is needed: ``--help`` does without.

Axis letters: N rows of the pool, T rows of the test part, L labeled rows, C classes, M images of the training part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from benchmarks.curves.plan import Plan, PlanError, part_of, trial_seed
from models import ProgressFn

if TYPE_CHECKING:
    from backend.learning.learner import Learner
    from models.data import CycleData, Runtime


@dataclass(frozen=True)
class Measure:
    """What a task network is judged by. The curves are of ``key``, a share from 0 to 1: a column of the CSV, which
    pages and pictures call ``words``.

    ``alongside``: other columns and their words, reported but not compared. ``note``: what it is, for the foot of the
    page.
    """

    key: str
    words: str
    note: str
    alongside: Mapping[str, str] = field(default_factory=dict)


class KeptSet(Protocol):
    """A data set in mapped files."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def source(self) -> str: ...

    @property
    def digest(self) -> str: ...


Images = TypeVar("Images", bound=KeptSet)


class Kept(NamedTuple):
    """What a frozen backbone says of the images of the training part, (M, E) float16, and of the test part; None where
    the networks read the images themselves. ``width``: F, the first of E numbers, which are the features."""

    train: np.ndarray | None = None
    test: np.ndarray | None = None
    width: int = 0


NOTHING_KEPT = Kept()


class Part(NamedTuple):
    """Images (M, S, S, 3) uint8 with the digest of all of them, and the rows that are used."""

    pixels: np.ndarray
    digest: str
    rows: np.ndarray


@dataclass(frozen=True)
class CurveTask(ABC, Generic[Images]):
    """One kind of task on one data set: rows of its training part that are the pool (N,), rows of its test part (T,).

    ``name`` is the kind's in :data:`backend.tasks.KINDS`. ``labels``: before the first purchase and in each, unless
    told otherwise. ``datasets``: words for the help text. ``controls``: those of
    :data:`benchmarks.curves.plan.CONTROLS` that there are for it. ``recognizes``: whether images that a sampler
    generates can be answered (:mod:`benchmarks.curves.generated`).
    """

    name: ClassVar[str]
    measure: ClassVar[Measure]
    labels: ClassVar[int]
    datasets: ClassVar[str]
    controls: ClassVar[tuple[str, ...]] = ()
    recognizes: ClassVar[bool] = False

    pool: np.ndarray
    test: np.ndarray
    images: Images
    kept: Kept = NOTHING_KEPT

    @classmethod
    @abstractmethod
    def prepare(cls, dataset: str, size: int, downloads: Path, work: Path, report: ProgressFn) -> Path:
        """The folder that :meth:`open` reads, made where it is missing. ``size``: the (longer) side in px, 0 = its own.

        Raises:
            DatasetUnavailable: no such data set, one for other tasks, or its files are not at hand or are broken.
        """

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Images:
        """What :meth:`prepare` made."""

    @classmethod
    def of(cls, images: Images, plan: Plan, trial: int = 0) -> Self:
        """Drawn from the plan's seed or, where the plan redraws, from the trial's. Raises PlanError when the images do
        not suffice."""
        seed = trial_seed(plan.seed, trial) if trial and plan.redraw else plan.seed
        pool, test = cls.rows(images, plan, seed)
        pool = part_of(part_of(pool, plan.bank, plan.seed, 5), plan.pool, seed, 0)
        test = part_of(test, plan.test, plan.seed, 1)
        plan.check(len(pool))
        if not len(test):
            raise PlanError("there is no image to test on")
        return cls(pool, test, images)

    @classmethod
    @abstractmethod
    def rows(cls, images: Images, plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training part and of the test part that pool and test are drawn from, ascending. ``seed``
        decides which images of an undivided data set are held out.

        Raises:
            PlanError: the data set is not for this kind of task.
        """

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The labels that an annotator has."""

    @property
    @abstractmethod
    def pixels(self) -> np.ndarray:
        """(M, H, W, 3) uint8, the images of the training part."""

    @abstractmethod
    def data(self, labeled: np.ndarray, unlabeled: np.ndarray) -> CycleData:
        """What a cycle learns from: the labels of ``labeled`` (L,) alone, the oracle's."""

    @abstractmethod
    def judged(self, learner: Learner, runtime: Runtime) -> dict[str, float]:
        """The columns of ``measure`` on the test images, from 0 to 1."""

    def judged_on_pixels(self, labeled: np.ndarray) -> dict[str, float]:
        """The same of a classifier that learns from the raw pixels of ``labeled`` (L,).

        Raises:
            PlanError: this kind of task has none.
        """
        raise PlanError(f"svm-pixels is for classification, not for {self.name}")

    def parts(self) -> tuple[Part, ...]:
        """The pixels of both parts, for a backbone to embed those of ``pool`` and ``test``; none where they are not to
        be kept."""
        return ()

    def bought(self, picks: np.ndarray, before: np.ndarray, pool: np.ndarray, predicted: Any) -> dict[str, Any]:
        """What a purchase was worth: columns of :data:`benchmarks.curves.purchases.COLUMNS` for the rows ``picks`` (B,)
        of the unlabeled ``pool`` (U,), with ``before`` (L,) labeled already, ``picked_counts``, how many of them
        each class has (C,), and ``picked``, the first of them; none where there is nothing to say.

        ``predicted``: of ``pool``, by the network that chose."""
        return {}
