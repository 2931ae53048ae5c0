"""The product's own network and sampler in a replay: trained, asked and ordered as a cycle of the worker does it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from backend.learning.learner import Learner
from backend.learning.scores import priority_scores
from backend.replay.trials import SamplerFailed, Trained
from backend.settings.core import Settings
from models import ProgressFn
from models.data import SCORE_DTYPES, CycleData, Runtime, Targets, no_progress
from models.inference.predictions import NonFiniteOutputs
from models.training.task_network import TrainingDiverged
from samplers.base import SamplerError


@dataclass(frozen=True)
class Labels:
    """The labels of a replay, L of them: ``targets`` (L,) of the images of ``tasks`` (L,), in ``rows`` (L,) of
    ``pixels`` (M, H, W, 3), of which ``features`` (M, E) float16 are kept; and the names of the ``classes`` (C,)."""

    pixels: np.ndarray
    features: np.ndarray
    tasks: np.ndarray
    rows: np.ndarray
    targets: Targets
    num_classes: int
    classes: tuple[str, ...]

    def data(self, labeled: np.ndarray, unlabeled: np.ndarray) -> CycleData:
        """Those at the places ``labeled`` as labels, and those at ``unlabeled`` as a pool."""
        targets = self.targets.at(labeled)
        return CycleData(self.pixels, self.rows[labeled], self.rows[unlabeled], targets, self.num_classes)


@dataclass(frozen=True)
class LearnerTrained:
    """See :class:`backend.replay.trials.Trained`."""

    learner: Learner
    labels: Labels
    runtime: Runtime

    def accuracy(self, rows: np.ndarray) -> float:
        net = self.learner.net
        temperature = net.temperature
        try:
            figures = net.task.held_back_figures(net, self.labels.data(rows, rows[:0]), self.runtime)
        except NonFiniteOutputs as error:
            raise SamplerFailed(str(error)) from error
        finally:
            net.temperature = temperature  # what is held out must not reach the sampler
        return float(figures["cv_accuracy"])

    def order(self, rows: np.ndarray) -> np.ndarray:
        labels = self.labels
        try:
            acquisition, _ = self.learner.score(labels.pixels, labels.rows[rows], self.runtime)
        except (SamplerError, NonFiniteOutputs) as error:
            raise SamplerFailed(str(error)) from error
        return rows[np.argsort(priority_scores(acquisition, self.runtime.seed))]


@dataclass(frozen=True)
class LearnerTrain:
    """See :class:`backend.replay.trials.Train`. ``settings``: those of the project. ``progress``: called often while
    something is trained; what it raises ends the replay."""

    settings: Settings
    labels: Labels
    device: torch.device
    progress: ProgressFn = no_progress

    def __call__(
        self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
    ) -> LearnerTrained:
        labels, settings = self.labels, replace(self.settings, sampler=sampler)
        dtype = SCORE_DTYPES[settings.score_dtype]
        runtime = Runtime(self.device, seed, self.progress, score_dtype=dtype, features=labels.features)
        before = previous.learner if isinstance(previous, LearnerTrained) else None
        data = labels.data(labeled, unlabeled)
        try:
            learner, _ = Learner.trained(settings, labels.classes, data, runtime, before)
        except (SamplerError, TrainingDiverged, NonFiniteOutputs) as error:
            raise SamplerFailed(str(error)) from error
        return LearnerTrained(learner, labels, runtime)
