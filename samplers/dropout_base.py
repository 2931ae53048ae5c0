"""What the samplers that drop features at random share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.data import CycleData, Runtime
from models.inference.disagreement import StreamingFigure
from models.inference.dropout import predict_and_disagree
from models.inference.predictions import Predictions
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from samplers.base import Sampler


@dataclass(frozen=True)
class DropoutOptions:
    """dropout_rate: share of the penultimate features that is dropped, in training and in scoring (0.5 in the paper).

    dropout_draws: how many masks are asked (100 in the paper's code).
    """

    dropout_rate: float = 0.5
    dropout_draws: int = 100


class DropoutSampler(Sampler):
    """Trained with dropout, and asked through many masks of it.

    Dropout is before the last layer only, and its masks are shared by the whole pool: `models.inference.dropout` says
    why. There is no state: the masks follow from the seed.
    """

    Options: ClassVar[type[Any]] = DropoutOptions

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
        """The answers, and a figure of the thinned networks' opinions, (N,); its mean over the pixels."""
        options = self.options
        return predict_and_disagree(net, pixels, rows, runtime, figure, options.dropout_draws, options.dropout_rate)
