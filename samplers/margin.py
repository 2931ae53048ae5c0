"""Margin: ask where the two most probable classes are closest."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Sampler, Scored
from samplers.deferred import models, torch
from samplers.options import SamplerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import Runtime
    from models.networks.base import TaskNet

SMALLEST = math.log(sys.float_info.min)  # stands for the logarithm of a margin of 0


class MarginSampler(Sampler[SamplerOptions]):
    """Difference of the two largest probabilities, on the scale of log-odds: the priority score is the margin."""

    name: ClassVar[str] = "margin"
    summary: ClassVar[str] = "where the two most probable classes are closest"
    why: ClassVar[str] = "the two most probable answers are nearly as probable"
    source: ClassVar[str] = "Scheffer et al. 2001"
    family: ClassVar[str] = families.UNCERTAINTY
    Options = SamplerOptions

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        return cls.why if acquisition is None else margin_in_words(acquisition)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log((1 - m) / m), (N,), which falls as the margin m = p_1 - p_2 rises (Scheffer, Decomain & Wrobel 2001;
        Settles 2009, section 3.1: x*_M). Of masks, the m averaged over the pixels; of several classes, |2 p_c - 1|
        averaged over the classes: twice the mean distance of a class's probability from one half.
        """

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            return net.task.per_image(log_odds_of_no_margin, logits, reduce="log_odds_of_mean")

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)


def margin_in_words(acquisition: float) -> str:
    """What :func:`log_odds_of_no_margin` says of an image; on average, where that is a mean."""
    return f"the two most probable answers are {100 * probability(-acquisition):.1f} points apart"


def probability(log_odds: float) -> float:
    """1 / (1 + exp(-x)) of log-odds x, in a form that does not overflow."""
    return 0.5 + 0.5 * math.tanh(log_odds / 2.0)


def log_odds_of_no_margin(logits: Tensor) -> Tensor:
    """log((1 - m) / m) for the margin m = p_1 - p_2 of p = softmax(logits): (B, C) -> (B,) float64, finite.

    The margin of probabilities, as in the literature; for C > 2 that of log-probabilities has another order. With
    d_j = z_j - z_1 <= 0 over the classes by falling probability, and S = sum_j exp d_j,

        m = (1 - exp d_2) / S        1 - m = (2 exp d_2 + sum_{j>=3} exp d_j) / S

    Neither loses digits where m is near 0 or near 1. Two equal classes have a margin of 0: about 708 = -log tiny.
    With a single class nothing is in doubt: 0 for every row.
    """
    logits = logits.double()
    if logits.shape[1] == 1:
        return 0.0 * logits[:, 0]  # NaN stays NaN, for the check of the base class
    best, places = logits.topk(2, dim=1)
    relative = logits - best[:, :1]
    lag = best[:, 1] - best[:, 0]  # d_2
    doubled = torch.stack([torch.full_like(lag, -torch.inf), lag + math.log(2.0)], dim=1)
    log_sum = relative.logsumexp(dim=1)
    log_rest = relative.scatter(1, places, doubled).logsumexp(dim=1) - log_sum  # log(1 - m)
    log_margin = (torch.log(-torch.expm1(lag)) - log_sum).clamp_min(SMALLEST)
    return log_rest - log_margin
