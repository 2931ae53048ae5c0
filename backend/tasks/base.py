"""What a kind of task is: everything that differs between classification, several choices and masks, in one object.

The worker, the web process and the cycle ask a :class:`TaskKind` and never which kind it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from backend.errors import LabelConfigError, SettingsError
from backend.settings.core import Settings
from samplers import SAMPLERS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from backend.images.cache import Fetch, ImageCache
    from backend.labelstudio.client import TaskAnnotations
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool
    from backend.state import StoredPrediction
    from backend.tasks.label_config import Annotation
    from models import ProgressFn
    from models.data import Runtime, Targets
    from models.networks.base import TaskConfig

Result = list[dict[str, Any]]
"""The ``result`` of an annotation or a prediction, as Label Studio has it."""

Size = tuple[int, int]
"""(height, width)."""

Label = Hashable
"""What the annotations of one task say, in the terms of its kind alone; equal exactly when they say the same."""

ReadAnnotations = Callable[[Sequence[int]], Iterable["TaskAnnotations"]]
"""Asks Label Studio for the annotations of tasks, by id."""

Fetched = Mapping[int, tuple["np.ndarray", Size]]
"""Task id → pixels (H, W, 3) uint8 as the model reads them, and (height, width) of the image itself."""

FreshPrediction = tuple["StoredPrediction", Result]


class NotAsked(LabelConfigError):
    """The label config does not ask for this kind of task at all.

    ``instead``: it asks for something close, and the message says what to use in its place.
    """

    def __init__(self, message: str, *, instead: bool = False) -> None:
        super().__init__(message)
        self.instead = instead


@dataclass(frozen=True)
class TrainingLabels:
    """What there is to learn from: ``targets`` (L,) of ``tasks`` (L,), all with an image, for a network of
    ``num_classes`` outputs. ``problems``: what annotators gave that cannot be used, in words for the project's owner.
    """

    tasks: list[int]
    targets: Targets
    num_classes: int
    problems: Sequence[str] = ()


class KeptPredictions(Protocol):
    """What a version predicted and keeps in files alongside its checkpoint, for results that need more than a row."""

    def holds(self, task: int) -> bool: ...


class Question(Protocol):
    """Where a label config asks: the field of a task's data that holds its image, and the classes."""

    @property
    def data_key(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...


Spec = TypeVar("Spec", bound=Question)
Kept = TypeVar("Kept", bound=KeptPredictions)


class TaskKind(ABC, Generic[Spec, Kept]):
    """The kind of task of one project, as its label config and settings ask for it.

    ``name`` is its name in settings, ``status`` and checkpoints, and that of its :class:`models.tasks.base.Task`.
    ``learns``: what is learnt, in words for a sentence. ``metric``: what a network is judged by, in words.
    ``default_sampler``: what is advised in the place of one that has no meaning here.
    ``queue_columns``: of the Data Manager's prediction columns, those that the tab of the queue shows.
    ``reads_results``: results are needed to tell which annotations are labels; ``draws``: they hold drawn regions,
    which are large. ``fresh_limit``: tasks in one ``/predict`` that are predicted at once.
    """

    name: ClassVar[str]
    learns: ClassVar[str]
    metric: ClassVar[str]
    default_sampler: ClassVar[str] = Settings.sampler
    queue_columns: ClassVar[tuple[str, ...]] = ("score", "results", "model_versions")
    draws: ClassVar[bool] = False
    fresh_limit: ClassVar[int] = 64

    def __init__(self, spec: Spec, settings: Settings) -> None:
        """``settings`` are the project's. Raises SettingsError for one that does not go with this kind."""
        self.spec = spec
        if settings.sampler == Settings.sampler and "sampler" not in settings.given:
            settings = replace(settings, sampler=self.default_sampler)
        self.settings = settings
        self.check()

    @property
    def data_key(self) -> str:
        """The field of a task's data that holds the address of its image."""
        return self.spec.data_key

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    # -- reading the config ------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def read(cls, label_config: str, settings: Settings) -> Self:
        """As ``label_config`` asks for it.

        Raises:
            NotAsked: it does not.
            LabelConfigError: it does, but not so that it can be served.
            SettingsError: a setting does not go with it. All say in words what the owner can do.
        """

    def check(self) -> None:
        """Raise SettingsError for a setting that does not go with this kind of task."""
        reason = SAMPLERS[self.settings.sampler].refusals.get(self.name)
        if reason:
            raise SettingsError(
                f'sampler "{self.settings.sampler}" has no meaning for {self.learns}: {reason}. Set "sampler" to '
                f'another, such as "{self.default_sampler}".'
            )

    # -- annotations -------------------------------------------------------------------------------------------------

    @property
    def reads_results(self) -> bool:
        return True

    @abstractmethod
    def label_of(self, annotations: Sequence[Annotation], source: str) -> Label | None:
        """What a task's annotations say, or None when none of them is a label. ``source``: of its image."""

    @abstractmethod
    def counted(self, annotations: Sequence[Annotation]) -> list[tuple[int, str]]:
        """(annotation id, ``updated_at``) of those annotations that are labels: what a budget counts."""

    # -- images and training -----------------------------------------------------------------------------------------

    @abstractmethod
    def open_cache(self, folder: Path, tasks: Iterable[tuple[int, str]], fetch: Fetch, device: str) -> ImageCache:
        """The cache of the project's images as this kind sees them; ``device`` is a type such as "cuda"."""

    @abstractmethod
    def decode(self, data: bytes, frame: Size) -> tuple[np.ndarray, Size]:
        """One image as :meth:`open_cache` keeps it: pixels (H, W, 3) uint8 for ``frame``, and its own size.

        Raises:
            ImageError: it cannot be decoded.
        """

    @abstractmethod
    def training_labels(
        self,
        labels: Mapping[int, Any],
        sources: Mapping[int, str],
        cache: ImageCache,
        read_annotations: ReadAnnotations,
        report: ProgressFn,
    ) -> TrainingLabels:
        """Targets of the labeled tasks whose image can be had, from ``labels`` by task id (:meth:`label_of`).

        Raises:
            BackendError: not one can be used; says why.
            LabelStudioUnavailable, LeaseLost, …: what ``read_annotations`` raises.
        """

    @classmethod
    @abstractmethod
    def net_config(cls, settings: Settings, classes: int, frame: Size, device: torch.device) -> TaskConfig:
        """The network for ``classes`` labels and images of ``frame``, as the settings have it on this device."""

    # -- predictions -------------------------------------------------------------------------------------------------

    def head_size(self) -> int | None:
        """How many tasks at the head of an order get a result; the others get their score. None: all."""
        return None

    def class_index(self, pool: ScoredPool) -> np.ndarray | None:
        """What is stored as the predicted class of each task, (N,) indices into the model's classes; None: none is."""
        return None

    def keep_predictions(
        self, learner: Learner, cache: ImageCache, pool: ScoredPool, folder: Path, runtime: Runtime
    ) -> None:
        """Keep in ``folder`` what results need beyond a row of the state, for publishing and ``/predict``."""

    def open_kept(self, folder: Path) -> Kept | None:
        """What :meth:`keep_predictions` left in ``folder``, needing neither torch nor the model; None: nothing."""
        return None

    def holds(self, stored: StoredPrediction, kept: Kept | None) -> bool:
        """Whether :meth:`result` has all that it needs."""
        return True

    @abstractmethod
    def result(self, stored: StoredPrediction, kept: Kept | None) -> Result:
        """The ``result`` of a prediction of ``stored``'s task, in the words of the label config as it is now.

        Empty when there is no prediction of what is asked now: no model yet, another kind of task than the model's, a
        mask that was not kept, a class that left the label config. The score still has its place in the queue.
        """

    def weight(self, result: Result) -> int:
        """How many numbers a result holds beyond a line of text; bulk calls are kept to a bounded sum of these."""
        return 0

    @abstractmethod
    def predict_fresh(
        self, learner: Learner, version_name: str, fetched: Fetched, until: float
    ) -> Iterator[tuple[int, FreshPrediction]]:
        """Predictions of images outside of any pool, task by task, until ``until`` (monotonic seconds) has come."""


AnyTaskKind = TaskKind[Any, Any]
