"""MC-dropout: ask where many thinned copies of the task network leave the class open between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Scored
from samplers.deferred import models
from samplers.dropout_base import DropoutOptions, DropoutSampler
from samplers.noise import uniform_noise
from samplers.options import one_of, option

if TYPE_CHECKING:
    from models.data import Runtime
    from models.inference.disagreement import StreamingFigure
    from models.networks.base import TaskNet


FIGURES: dict[str, Callable[[], StreamingFigure]] = {
    "max-entropy": lambda: models.inference.disagreement.StreamingMaxEntropy(),
    "variation-ratio": lambda: models.inference.disagreement.StreamingVariationRatio(),
    "mean-std": lambda: models.inference.disagreement.StreamingMeanStd(),
}


@dataclass(frozen=True)
class McDropoutOptions(DropoutOptions):
    """mc_dropout_score: what of the thinned networks' opinions counts."""

    mc_dropout_score: str = option("max-entropy", "MC-dropout: what orders the queue.", one_of(*FIGURES))


class McDropoutSampler(DropoutSampler[McDropoutOptions]):
    """Uncertainty under dropout (Gal, Islam & Ghahramani, ICML 2017, section 4)."""

    name: ClassVar[str] = "mc-dropout"
    summary: ClassVar[str] = "where networks with random features dropped are uncertain"
    why: ClassVar[str] = "networks with random features dropped are unsure of it"
    source: ClassVar[str] = "Gal & Ghahramani 2016"
    family: ClassVar[str] = families.SEVERAL_OPINIONS
    Options = McDropoutOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """H[p̄], variation ratio or mean standard deviation over the draws, (N,): Gal et al. (2017), section 4.

        The variation ratio of an image has one of K + 1 values; a random part of less than the step between two of them
        orders the rows of one value. Its mean over pixels seldom ties.
        """
        kind = self.options.mc_dropout_score
        predictions, values = self.disagreement(net, pixels, rows, runtime, FIGURES[kind])
        if kind == "variation-ratio" and net.task.breaks_ties:
            values = values + 0.5 / self.options.dropout_draws * uniform_noise(rows, runtime.seed)
        return Scored(values, predictions)
