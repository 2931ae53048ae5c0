"""MC-dropout: ask where many thinned copies of the task network leave the answer open between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.data import Runtime
from models.inference.disagreement import (
    StreamingFigure,
    StreamingMaxEntropy,
    StreamingMeanStd,
    StreamingVariationRatio,
)
from models.networks.base import TaskNet
from samplers.base import Scored
from samplers.dropout_base import DropoutOptions, DropoutSampler
from samplers.noise import uniform_noise

FIGURES: dict[str, Callable[[], StreamingFigure]] = {
    "max-entropy": StreamingMaxEntropy,
    "variation-ratio": StreamingVariationRatio,
    "mean-std": StreamingMeanStd,
}


@dataclass(frozen=True)
class McDropoutOptions(DropoutOptions):
    """mc_dropout_score: what of the thinned networks' answers counts."""

    mc_dropout_score: str = "max-entropy"


class McDropoutSampler(DropoutSampler):
    """Uncertainty under dropout (Gal, Islam & Ghahramani, ICML 2017, section 4)."""

    name: ClassVar[str] = "mc-dropout"
    summary: ClassVar[str] = "least certain on average over many random dropouts of the task network's features"
    Options: ClassVar[type[Any]] = McDropoutOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """H[p̄], variation ratio or mean standard deviation over the draws, (N,): Gal et al. (2017), section 4.

        The variation ratio of an image has one of K + 1 values; a random part of less than the step between two of them
        orders the rows of one value. Its mean over pixels seldom ties.
        """
        kind = self.options.mc_dropout_score
        answers, values = self.disagreement(net, pixels, rows, runtime, FIGURES[kind])
        if kind == "variation-ratio" and net.task.breaks_ties:
            values = values + 0.5 / self.options.dropout_draws * uniform_noise(rows, runtime.seed)
        return Scored(values, answers)
