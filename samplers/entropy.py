"""Entropy sampling: ask where the task network's class probabilities are spread widest."""

from __future__ import annotations

import math
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


class EntropySampler(Sampler[SamplerOptions]):
    """Predictive entropy of the softmax."""

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = "where the class probabilities are spread most evenly"
    why: ClassVar[str] = "the probabilities of its classes are spread evenly"
    source: ClassVar[str] = "Settles 2009"
    family: ClassVar[str] = families.UNCERTAINTY
    Options = SamplerOptions

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        return cls.why if acquisition is None else entropy_in_words(acquisition)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """H = -sum_c p_c log p_c in nats, (N,), between 0 and log C (Settles 2009, section 3.1). Of masks, its mean
        over the pixels; of several classes, the sum over the classes of -p log p - (1 - p) log(1 - p).
        """

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            return net.task.per_image(predictive_entropy, logits)

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)


def entropy_in_words(nats: float) -> str:
    """exp(H), the number of equally probable answers of the same entropy (Hill 1973); on average, where H is a mean."""
    return f"the network is as unsure as between {math.exp(min(max(nats, 0.0), 50.0)):.1f} equally probable answers"


def predictive_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits): (B, C) -> (B,). Exact also where a probability underflows to 0."""
    log_p = torch.nn.functional.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
