"""What the samplers that drop features at random share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from samplers.base import Sampler, SamplerError
from samplers.deferred import models
from samplers.options import SamplerOptions, above, between, one_of, option

if TYPE_CHECKING:
    from models.data import CycleData, Runtime
    from models.inference.disagreement import StreamingFigure
    from models.inference.predictions import Predictions
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet

FEATURES, STAGES = "features", "stages"
"""Places of `dropout_place`."""


@dataclass(frozen=True)
class DropoutOptions(SamplerOptions):
    """dropout_rate: in training and in scoring (0.5 in the paper). dropout_draws: how many draws of it are asked (100
    in the paper's code). dropout_place: before the last layer only, or after each stage of the network as well.
    """

    dropout_rate: float = option(0.5, "MC-dropout, BALD: share of the features dropped.", above(0, 0.95))
    dropout_draws: int = option(100, "MC-dropout, BALD: random networks that are asked.", between(2, 1000))
    dropout_place: str = option(
        FEATURES,
        "MC-dropout, BALD: what is dropped: features before the last layer, or channels after each stage, too.",
        one_of(FEATURES, STAGES),
    )


DropoutT = TypeVar("DropoutT", bound=DropoutOptions)


class DropoutSampler(Sampler[DropoutT]):
    """Trained with dropout, and asked through many masks of it.

    Dropout is before the last layer only (`models.inference.dropout` says why), or at several stages
    (`models.inference.stage_dropout`). Its masks are shared by the whole pool. There is no state: they follow from the
    seed.
    """

    trains: ClassVar[str] = "nothing; dropout before the last layer, or after every stage"
    inside: ClassVar[dict[str, str]] = {"dropout_place": STAGES}

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        return net.task.dropout_cross_entropy(self.options.dropout_rate, stages=self._at_stages(net))

    def disagreement(
        self,
        net: TaskNet,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        figure: Callable[[], StreamingFigure],
    ) -> tuple[Predictions, np.ndarray]:
        """The predictions of the whole network, and a figure of the thinned networks' opinions, (N,)."""
        options, inference = self.options, models.inference
        place = inference.stage_dropout if self._at_stages(net) else inference.dropout
        return place.predict_and_disagree(
            net, pixels, rows, runtime, figure, options.dropout_draws, options.dropout_rate
        )

    def _at_stages(self, net: TaskNet) -> bool:
        """Whether stages of `net` are thinned. Raises SamplerError where that is asked for and it has none."""
        if self.options.dropout_place == STAGES and not net.stage_channels:
            raise SamplerError(
                f'sampler {self.name}: "dropout_place": "{STAGES}" needs a network that is trained as a whole, not '
                f"{net.config.name}"
            )
        return self.options.dropout_place == STAGES
