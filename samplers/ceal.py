"""CEAL: ask for the uncertain rows, and train on the network's own answers where it is sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, Runtime
from models.inference.predictions import predict_and_measure
from models.losses.objectives import Objective
from models.losses.pseudo_labels import PseudoLabels, threshold_at
from models.networks.base import TaskNet
from samplers.base import Sampler, Scored, check_task
from samplers.entropy import predictive_entropy
from samplers.least_confidence import log_odds_of_error
from samplers.margin import log_odds_of_no_margin

CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": predictive_entropy,
    "least-confidence": log_odds_of_error,
    "margin": log_odds_of_no_margin,
}


@dataclass(frozen=True)
class CealOptions:
    """ceal_criterion: what orders the queue, one of CRITERIA. ceal_delta: δ_0, the entropy in nats below which an
    answer becomes a pseudo-label; ceal_decay and ceal_schedule: how it falls
    (`models.losses.pseudo_labels.threshold_at`). budget: K, the most uncertain rows, which never get one.
    """

    ceal_criterion: str = "entropy"
    ceal_delta: float = 0.05
    ceal_decay: float = 0.0033
    ceal_schedule: str = "linear"
    budget: int = 50


class CealSampler(Sampler):
    """Cost-effective active learning (Wang et al., TCSVT 2017).

    Before each training the network of the last cycle labels the unlabelled rows that it is sure of; they train beside
    the annotator's in this training alone and are forgotten after it (`models.losses.pseudo_labels`). The order of the
    queue is that of the criterion, so that this differs from uncertainty sampling in the training only.

    The first cycle has no earlier network, hence no pseudo-labels; the second one has t = 0. With the setting
    ``warm_start`` false every cycle is a first one: CEAL is then its criterion and nothing more. The rows kept from
    pseudo-labels are the K that the annotator would be asked for next, by the network as it comes.
    """

    name: ClassVar[str] = "ceal"
    summary: ClassVar[str] = "an uncertainty criterion, with the network's sure answers as labels in training"
    Options: ClassVar[type[Any]] = CealOptions
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        self.fits = 0  # trainings so far, also before a restart
        self._training: PseudoLabels | None = None

    @property
    def criterion(self) -> Callable[[Tensor], Tensor]:
        return CRITERIA[self.options.ceal_criterion]

    @property
    def threshold(self) -> float:
        """δ of the training to come; 0 before the first, whose network has learnt nothing."""
        options = self.options
        if self.fits == 0:
            return 0.0
        return threshold_at(self.fits - 1, options.ceal_delta, options.ceal_decay, options.ceal_schedule)

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        check_task(self, net)

        def score_rows(logits: Tensor) -> tuple[Tensor, Tensor]:
            return predictive_entropy(logits), self.criterion(logits)

        self._training = PseudoLabels(score_rows, self.threshold, self.options.budget)
        return self._training

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Nothing to train: report what the training before took for sure, and count the cycle."""
        training, self._training = self._training, None
        figures = {"pseudo_labels": float(training.count if training else 0), "delta": self.threshold}
        self.fits += 1
        return figures

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """The criterion on the task network's answers, (N,): entropy in nats, or the log-odds of least confidence or of
        no margin (the paper's EN, LC and MS; Settles 2009, section 3.1).
        """
        check_task(self, net)
        answers, acquisition = predict_and_measure(net, pixels, rows, runtime, lambda _, logits: self.criterion(logits))
        return Scored(acquisition, answers)

    def state_dict(self) -> dict[str, Any]:
        return {"fits": self.fits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fits = int(state.get("fits", self.fits))
