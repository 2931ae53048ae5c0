"""Least confidence: ask where the task network gives its own prediction the lowest probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Sampler, Scored
from samplers.deferred import models, torch
from samplers.margin import probability
from samplers.options import SamplerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import Runtime
    from models.networks.base import TaskNet


class LeastConfidenceSampler(Sampler[SamplerOptions]):
    """One minus the probability of the predicted class, on the scale of log-odds: the priority score is the
    confidence itself. DAST-AL's order where its covariance is zero.
    """

    name: ClassVar[str] = "least-confidence"
    summary: ClassVar[str] = "where the predicted class is least probable"
    why: ClassVar[str] = "its most probable answer is not very probable"
    source: ClassVar[str] = "Lewis & Gale 1994"
    family: ClassVar[str] = families.UNCERTAINTY
    Options = SamplerOptions

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        return cls.why if acquisition is None else confidence_in_words(-acquisition)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log((1 - p_ŷ) / p_ŷ), (N,), which rises with 1 - p_ŷ (Lewis & Gale 1994, section 4; Settles 2009, section
        3.1: x*_LC). Of masks, the p_ŷ averaged over the pixels; of several classes, max(p_c, 1 - p_c) over the classes.
        """

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            return net.task.per_image(log_odds_of_error, logits, reduce="log_odds_of_mean")

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)


def confidence_in_words(log_odds: float) -> str:
    """The probability of the predicted answer with these log-odds; on average, where an image has several."""
    return f"its most probable answer has a probability of {100 * probability(log_odds):.1f} %"


def log_odds_of_error(logits: Tensor) -> Tensor:
    """log((1 - p_ŷ) / p_ŷ) for p = softmax(logits), ŷ its largest class: (B, C) -> (B,) float64.

    1 - p_ŷ is the sum of the other probabilities, hence log-odds = log sum_{j≠ŷ} exp(z_j - z_ŷ): no subtraction from
    1, so that very confident rows differ as long as their logits do. Differences of float32 are exact in float64.
    With a single class nothing is in doubt: 0 for every row.
    """
    logits = logits.double()
    if logits.shape[1] == 1:
        return 0.0 * logits[:, 0]  # NaN stays NaN, for the check of the base class
    top, predicted = logits.max(dim=1, keepdim=True)
    return (logits - top).scatter(1, predicted, -torch.inf).logsumexp(dim=1)
