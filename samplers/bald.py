"""BALD: ask where many thinned copies of the classifier are each sure, but of different answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.classifier import Classifier
from models.data import CycleData, Runtime
from models.disagreement import GatherBald
from models.dropout import DropoutCrossEntropy, predict_and_disagree
from models.objectives import Objective
from samplers.base import Sampler, Scored


@dataclass(frozen=True)
class BaldOptions:
    """dropout_rate: share of the penultimate features that is dropped, in training and in scoring (0.5 in the paper).

    dropout_draws: how many masks are asked (100 in the paper's code).
    """

    dropout_rate: float = 0.5
    dropout_draws: int = 100


class BaldSampler(Sampler):
    """Bayesian active learning by disagreement (Houlsby et al. 2011), by dropout (Gal, Islam & Ghahramani, ICML 2017).

    Dropout is before the last layer only, and its masks are shared by the whole pool: `models.dropout` says why. It
    needs no state: the masks follow from the seed.
    """

    name: ClassVar[str] = "bald"
    summary: ClassVar[str] = "random dropouts of the task network are each sure, but of different answers"
    Options: ClassVar[type[Any]] = BaldOptions

    def objective(self, net: Classifier, data: CycleData, runtime: Runtime) -> Objective:
        return DropoutCrossEntropy(self.options.dropout_rate)

    def _score(self, net: Classifier, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """I[y; w] = H[p̄] - mean_k H[p_k] over the draws, (N,), in nats: Houlsby et al. (2011), equation 2."""
        options = self.options
        answers, values = predict_and_disagree(
            net, pixels, rows, runtime, GatherBald, options.dropout_draws, options.dropout_rate
        )
        return Scored(values, answers)
