"""What the samplers that drop features at random share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from samplers.base import Sampler
from samplers.deferred import models
from samplers.options import SamplerOptions, above, between, option

if TYPE_CHECKING:
    from models.data import CycleData, Runtime
    from models.inference.disagreement import StreamingFigure
    from models.inference.predictions import Predictions
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet


@dataclass(frozen=True)
class DropoutOptions(SamplerOptions):
    """dropout_rate: of the penultimate features, in training and in scoring (0.5 in the paper). dropout_draws: how many
    masks of it are asked (100 in the paper's code).
    """

    dropout_rate: float = option(0.5, "MC-dropout, BALD: share of the features dropped.", above(0, 0.95))
    dropout_draws: int = option(100, "MC-dropout, BALD: random networks that are asked.", between(2, 1000))


DropoutT = TypeVar("DropoutT", bound=DropoutOptions)


class DropoutSampler(Sampler[DropoutT]):
    """Trained with dropout, and asked through many masks of it.

    Dropout is before the last layer only, and its masks are shared by the whole pool: `models.inference.dropout` says
    why. There is no state: the masks follow from the seed.
    """

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        return net.task.dropout_cross_entropy(self.options.dropout_rate)

    def disagreement(
        self,
        net: TaskNet,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        figure: Callable[[], StreamingFigure],
    ) -> tuple[Predictions, np.ndarray]:
        """The predictions of the whole network, and a figure of the thinned networks' opinions, (N,)."""
        options = self.options
        return models.inference.dropout.predict_and_disagree(
            net, pixels, rows, runtime, figure, options.dropout_draws, options.dropout_rate
        )
