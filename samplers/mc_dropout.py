"""MC-dropout: ask where many thinned copies of the classifier leave the answer open between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.classifier import Classifier
from models.data import CycleData, Runtime
from models.disagreement import Gathering, GatherMaxEntropy, GatherMeanStd, GatherVariationRatio
from models.dropout import DropoutCrossEntropy, predict_and_disagree
from models.objectives import Objective
from samplers.base import Sampler, Scored
from samplers.noise import uniform_noise

FIGURES: dict[str, Callable[[], Gathering]] = {
    "max-entropy": GatherMaxEntropy,
    "variation-ratio": GatherVariationRatio,
    "mean-std": GatherMeanStd,
}


@dataclass(frozen=True)
class McDropoutOptions:
    """dropout_rate: share of the penultimate features that is dropped, in training and in scoring (0.5 in the paper).

    dropout_draws: how many masks are asked (100 in the paper's code). mc_dropout_score: what of their answers counts.
    """

    dropout_rate: float = 0.5
    dropout_draws: int = 100
    mc_dropout_score: str = "max-entropy"


class McDropoutSampler(Sampler):
    """Uncertainty under dropout (Gal, Islam & Ghahramani, ICML 2017, section 4).

    Dropout is before the last layer only, and its masks are shared by the whole pool: `models.dropout` says why. It
    needs no state: the masks follow from the seed.
    """

    name: ClassVar[str] = "mc-dropout"
    summary: ClassVar[str] = "least certain on average over many random dropouts of the task network's features"
    Options: ClassVar[type[Any]] = McDropoutOptions

    def objective(self, net: Classifier, data: CycleData, runtime: Runtime) -> Objective:
        return DropoutCrossEntropy(self.options.dropout_rate)

    def _score(self, net: Classifier, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """H[p̄], variation ratio or mean standard deviation over the draws, (N,): Gal et al. (2017), section 4.

        The variation ratio has one of K + 1 values; a random part of less than the step between two of them orders
        the rows of one value.
        """
        options = self.options
        figure = FIGURES[options.mc_dropout_score]
        draws = options.dropout_draws
        answers, values = predict_and_disagree(net, pixels, rows, runtime, figure, draws, options.dropout_rate)
        if options.mc_dropout_score == "variation-ratio":
            values = values + 0.5 / draws * uniform_noise(rows, runtime.seed)
        return Scored(values, answers)
