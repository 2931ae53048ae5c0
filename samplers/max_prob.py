"""Max-prob: the most confident first, a negative control."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Sampler, Scored
from samplers.deferred import models
from samplers.least_confidence import confidence_in_words, log_odds_of_error
from samplers.options import SamplerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import Runtime
    from models.networks.base import TaskNet


class MaxProbSampler(Sampler[SamplerOptions]):
    """The exact reverse of least confidence, kept as a negative control: not a strategy to label with.

    DAST-AL reports a baseline "Maxp" (Chen et al., ECCV 2022, table 1) that lies far below random. In the authors'
    code it takes the most confident images, by an ascending sort of which the last are taken; so do we, in order that
    those numbers can be repeated and that a wrong direction can be told from a weak strategy.
    """

    name: ClassVar[str] = "max-prob"
    summary: ClassVar[str] = "where the network is most confident: a negative control, not for use"
    why: ClassVar[str] = "its most probable answer is very probable"
    source: ClassVar[str] = "Chen et al. 2022"
    family: ClassVar[str] = families.UNCERTAINTY
    Options = SamplerOptions

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        return cls.why if acquisition is None else confidence_in_words(acquisition)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log(p_ŷ / (1 - p_ŷ)), (N,): higher = more confident (the baseline "Maxp" of Chen et al. 2022, table 1)."""

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            return -net.task.per_image(log_odds_of_error, logits, reduce="log_odds_of_mean")

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)
