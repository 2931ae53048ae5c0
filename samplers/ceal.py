"""CEAL: ask for the uncertain rows, and train on the network's own predictions where it is confident."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers import families
from samplers.base import Sampler, Scored
from samplers.deferred import models
from samplers.entropy import predictive_entropy
from samplers.least_confidence import log_odds_of_error
from samplers.margin import log_odds_of_no_margin
from samplers.options import SamplerOptions, between, one_of, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.losses.objectives import Objective
    from models.losses.pseudo_labels import PseudoLabels
    from models.networks.base import TaskNet

CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": predictive_entropy,
    "least-confidence": log_odds_of_error,
    "margin": log_odds_of_no_margin,
}


@dataclass(frozen=True)
class CealOptions(SamplerOptions):
    """ceal_delta is δ_0; `models.losses.pseudo_labels.threshold_at` says how it falls. budget: K, the most uncertain
    rows, which never get a pseudo-label.
    """

    ceal_criterion: str = option("entropy", "CEAL: what orders the queue.", one_of(*CRITERIA))
    ceal_delta: float = option(
        0.05, "CEAL: entropy in nats below which a prediction becomes a pseudo-label (δ).", between(0, 20)
    )
    ceal_decay: float = option(0.0033, "CEAL: how fast δ falls with the cycles.", between(0, 20))
    ceal_schedule: str = option(
        "linear", "CEAL: δ − decay · t, or δ − decay · t (t + 1) / 2.", one_of("linear", "recursive")
    )
    budget: int = 50


class CealSampler(Sampler[CealOptions]):
    """Cost-effective active learning (Wang et al., TCSVT 2017).

    Before each training the network of the last cycle labels the unlabeled rows that it is confident of; they train
    alongside the annotator's in this training alone and are forgotten after it (`models.losses.pseudo_labels`). The
    order of the queue is that of the criterion, so that this differs from uncertainty sampling in the training only.

    The first cycle has no earlier network, hence no pseudo-labels; the second one has t = 0. With the setting
    ``warm_start`` false every cycle is a first one: CEAL is then its criterion and nothing more. The rows kept from
    pseudo-labels are the K that the annotator would be asked for next, by the network as it comes.

    fits: trainings so far, also before a restart.
    """

    name: ClassVar[str] = "ceal"
    summary: ClassVar[str] = "where the network is uncertain, by least confidence, margin, or entropy"
    why: ClassVar[str] = "the network is unsure of it"
    source: ClassVar[str] = "Wang et al. 2017"
    trains: ClassVar[str] = "nothing; confident predictions become pseudo-labels for one training"
    family: ClassVar[str] = families.UNCERTAINTY
    refusals: ClassVar[Mapping[str, str]] = {
        "multilabel": "its pseudo-labels are exactly one class per image",
        "segmentation": "its pseudo-labels are classes of whole images",
    }
    Options = CealOptions

    fits: int = 0
    _training: PseudoLabels | None = None

    @property
    def criterion(self) -> Callable[[Tensor], Tensor]:
        return CRITERIA[self.options.ceal_criterion]

    @property
    def threshold(self) -> float:
        """δ of the training to come; 0 before the first, whose network has learned nothing."""
        options = self.options
        if self.fits == 0:
            return 0.0
        return models.losses.pseudo_labels.threshold_at(
            self.fits - 1, options.ceal_delta, options.ceal_decay, options.ceal_schedule
        )

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        def score_rows(logits: Tensor) -> tuple[Tensor, Tensor]:
            return predictive_entropy(logits), self.criterion(logits)

        self._training = models.losses.pseudo_labels.PseudoLabels(score_rows, self.threshold, self.options.budget)
        return self._training

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Nothing to train: report how many pseudo-labels the training before took, and count the cycle."""
        training, self._training = self._training, None
        metrics = {"pseudo_labels": float(training.count if training else 0), "delta": self.threshold}
        self.fits += 1
        return metrics

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """The criterion on the task network's predictions, (N,): entropy in nats, or the log-odds of least confidence
        or of no margin (the paper's EN, LC and MS; Settles 2009, section 3.1).
        """

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            return self.criterion(logits)

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)

    def state_dict(self) -> dict[str, Any]:
        return {"fits": self.fits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fits = int(state.get("fits", self.fits))
