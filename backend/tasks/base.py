"""The interface of a kind of task: one object for everything that differs between kinds.

The worker, the web process and the cycle use a :class:`TaskKind` without asking which kind it is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from backend.errors import LabelConfigError, SettingsError
from backend.settings.core import Settings
from backend.tasks.records import (
    Fetched,
    FreshPrediction,
    KeptPredictions,
    Label,
    LabelSpec,
    ReadAnnotations,
    Result,
    Size,
    TrainingLabels,
)
from backend.tasks.refusals import refused

if TYPE_CHECKING:
    import numpy as np
    import torch

    from backend.images.cache import Fetch, ImageCache
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool
    from backend.state import StoredPrediction
    from backend.tasks.label_config import Annotation
    from backend.tasks.votes import Answers
    from models import ProgressFn
    from models.data import Runtime
    from models.networks.base import TaskConfig


class NotAsked(LabelConfigError):
    """The label config does not ask for this kind of task at all.

    ``instead``: it asks for something similar, and the message says what to use instead.
    """

    def __init__(self, message: str, *, instead: bool = False) -> None:
        super().__init__(message)
        self.instead = instead


Spec = TypeVar("Spec", bound=LabelSpec)
Kept = TypeVar("Kept", bound=KeptPredictions)


class TaskKind(ABC, Generic[Spec, Kept]):
    """The kind of task of one project, according to its label config and settings.

    - ``name``: in settings, ``status`` and checkpoints; also the name of its :class:`models.tasks.base.Task`.
    - ``learns``: what it learns, as a phrase in messages. ``metric``: the name of the metric that networks are
      evaluated with.
    - ``default_sampler``: the sampler if the owner chooses none, also suggested instead of one that is refused.
    - ``consensuses``: what the setting ``consensus`` may be. ``compares``: what is compared of the answers of two
      annotators, "classes" or "sets" of them; "": nothing is.
    - ``queue_columns``: the Data Manager's prediction columns that the queue's tab shows.
    - ``reads_results``: whether the results of annotations are needed to tell which of them are labels. ``draws``:
      whether results contain drawn regions, which are large.
    - ``fresh_limit``: the maximum number of tasks that one ``/predict`` predicts afresh.
    """

    name: ClassVar[str]
    learns: ClassVar[str]
    metric: ClassVar[str]
    default_sampler: ClassVar[str] = Settings.sampler
    queue_columns: ClassVar[tuple[str, ...]] = ("score", "results", "model_versions")
    draws: ClassVar[bool] = False
    consensuses: ClassVar[tuple[str, ...]] = ("auto", "latest")
    compares: ClassVar[str] = ""
    fresh_limit: ClassVar[int] = 64

    shown_from: float = 0.0
    """The confidence from which on an answer is filled in in a pre-annotation."""

    def __init__(self, spec: Spec, settings: Settings) -> None:
        """``settings``: those of the project. Raises SettingsError if one of them does not fit this kind of task."""
        self.spec = spec
        self.settings = self.with_default_sampler(settings)
        self.check()

    @classmethod
    def with_default_sampler(cls, settings: Settings) -> Settings:
        """``settings`` with this kind's own default sampler if the owner named none."""
        named = settings.sampler != Settings.sampler or "sampler" in settings.given
        return settings if named else replace(settings, sampler=cls.default_sampler)

    @property
    def data_key(self) -> str:
        """The field of a task's data with the address of its image."""
        return self.spec.data_key

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    # -- reading the config ------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def read(cls, label_config: str, settings: Settings) -> Self:
        """This kind of task as ``label_config`` asks for it. All errors tell the owner what to change.

        Raises:
            NotAsked: the label config does not ask for it.
            LabelConfigError: it does, but not in a way that can be served.
            SettingsError: a setting does not fit.
        """

    def check(self) -> None:
        """Raise SettingsError if a setting does not fit this kind of task."""
        if reason := refused(self.settings, self.name, self.learns, self.default_sampler):
            raise SettingsError(reason)
        if self.settings.consensus not in self.consensuses:
            raise SettingsError(
                f'"consensus": "{self.settings.consensus}" has no meaning for {self.learns}, which are not put to the '
                'vote: set it to "latest" or "auto", with which the latest annotation of a task counts.'
            )

    # -- annotations -------------------------------------------------------------------------------------------------

    @property
    def reads_results(self) -> bool:
        return True

    @abstractmethod
    def label_of(self, annotations: Sequence[Annotation], source: str) -> Label | None:
        """What a task's annotations say, or None if none of them is a label. ``source``: that of the task's image."""

    @abstractmethod
    def counted(self, annotations: Sequence[Annotation]) -> list[tuple[int, str]]:
        """(annotation id, ``updated_at``) of those annotations that are labels, which count toward the budget."""

    @abstractmethod
    def why_not(self, annotation: Annotation) -> str | None:
        """Why an annotation does not count, in a few words that are the same for all of its kind, such as
        :data:`SKIPPED`; None if it counts."""

    def answer_of(self, annotation: Annotation) -> Any | None:
        """What an annotation says, in the form of :meth:`stored_label`, to be compared with others; None where it is no
        label, or this kind compares none."""
        return None

    def content_of(self, result: Result) -> Any | None:
        """What a result says, in a form that is equal where two say the same, so that an annotation can be compared
        with the prediction that was filled in; None where it is not to be compared."""
        return self.answer_of({"result": result})

    def weighed(self, answers: Mapping[int, Answers]) -> dict[int, Any]:
        """Task → its label in that form, by the votes of its annotators, weighed by how often each of them is right.
        Asked only where ``consensuses`` has "weighted"."""
        return {}

    def shows_nothing(self, label: Any) -> bool:
        """Whether a label of a generated image says that nothing can be recognized in it."""
        return False

    def stored_label(self, label: Any) -> Any:
        """A label in the form of JSON, as the state keeps it: the inverse of :meth:`label_from`."""
        return label

    def label_from(self, stored: Any) -> Label:
        """The label that :meth:`stored_label` turned into JSON."""
        return str(stored)

    def classes_in(self, stored: Any) -> tuple[str, ...]:
        """The classes that a label in that form names; none if it is drawn."""
        return ()

    # -- images and training -----------------------------------------------------------------------------------------

    @abstractmethod
    def open_cache(self, folder: Path, tasks: Iterable[tuple[int, str]], fetch: Fetch, device: str) -> ImageCache:
        """The cache of the project's images in the form that this kind needs. ``tasks``: (task id, source) pairs.
        ``device``: the type of the device, such as "cuda"."""

    @classmethod
    @abstractmethod
    def decode(cls, data: bytes, frame: Size) -> tuple[np.ndarray, Size]:
        """Decode an image as the cache of :meth:`open_cache` does: to pixels (H, W, 3) uint8 of size ``frame``, and the
        image's original size.

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
        """The targets of those labeled tasks whose image is in the cache.

        Args:
            labels: task id → :meth:`label_of`, for all labeled tasks.
            sources: task id → image source.

        Raises:
            BackendError: no label can be used; the message says why.
            LabelStudioUnavailable, LeaseLost, …: whatever ``read_annotations`` raises.
        """

    @classmethod
    @abstractmethod
    def net_config(cls, settings: Settings, classes: int, frame: Size, device: torch.device) -> TaskConfig:
        """The configuration of the network for ``classes`` labels and images of size ``frame`` on this device."""

    # -- predictions -------------------------------------------------------------------------------------------------

    def serving(self, metrics: Mapping[str, Any]) -> Self:
        """This kind, for the results of a version with these metrics: :meth:`result` and :meth:`predict_fresh` are
        asked of what this returns.

        Answers are filled in from ``preannotate_above`` on or, where that is auto, from what was measured when the
        version was trained. Where nothing was measured, all are: of a version of before, or of a network that is
        trained from scratch."""
        chosen = self.settings.preannotate_above
        threshold = metrics.get("train_preannotate_above", 0.0) if chosen == "auto" else float(chosen)
        served = copy(self)
        served.shown_from = threshold if threshold < 1 else math.inf
        return served

    def head_size(self) -> int | None:
        """How many tasks at the head of an order get a prediction with a result. The others get a score only. None:
        all tasks get a result."""
        return None

    def class_index(self, pool: ScoredPool) -> np.ndarray | None:
        """The predicted class to store for each task, (N,) indices into the model's classes. None: nothing is
        stored."""
        return None

    def keep_predictions(
        self, learner: Learner, cache: ImageCache, pool: ScoredPool, folder: Path, runtime: Runtime
    ) -> None:
        """Write to ``folder`` what :meth:`result` needs beyond a row of the state, for publishing and ``/predict``."""

    @classmethod
    def open_kept(cls, folder: Path) -> Kept | None:
        """What :meth:`keep_predictions` wrote to ``folder``, or None if there is nothing. Works without torch and the
        model."""
        return None

    def holds(self, stored: StoredPrediction, kept: Kept | None) -> bool:
        """Whether :meth:`result` has everything that it needs for this task."""
        return True

    @abstractmethod
    def result(self, stored: StoredPrediction, kept: Kept | None) -> Result:
        """The ``result`` of a stored prediction, in the terms of the current label config.

        It is empty if there is no prediction that fits the label config: there is no model yet, the model is for
        another kind of task, a mask was not kept, or a class is no longer in the label config; or if the model is not
        sure enough. The task still has its place in the queue.
        """

    def said(self, stored: StoredPrediction, kept: Kept | None) -> tuple[str, ...]:
        """The classes that a stored prediction names, however sure it is: what people are told of it."""
        return () if stored.label is None else (stored.label,)

    @classmethod
    def mask_of(cls, task: int, kept: Kept | None) -> np.ndarray | None:
        """The predicted mask (H, W) uint8 of a task, to be drawn over its image: 0 is background, i + 1 the class i.
        None where there is none."""
        return None

    def weight(self, result: Result) -> int:
        """How many numbers a result contains, roughly; the sum in a bulk call is limited. 0 if it is small."""
        return 0

    @abstractmethod
    def predict_fresh(
        self, learner: Learner, version_name: str, fetched: Fetched, until: float
    ) -> Iterator[tuple[int, FreshPrediction]]:
        """Predictions for images that belong to no pool, task by task, until ``until`` (monotonic seconds)."""


AnyTaskKind = TaskKind[Any, Any]
