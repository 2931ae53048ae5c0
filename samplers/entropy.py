"""Entropy sampling: ask where the task network's class probabilities are spread widest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional

from models.data import Runtime
from models.inference.predictions import predict_and_measure
from models.networks.base import TaskNet
from samplers.base import Sampler, Scored


class EntropySampler(Sampler):
    """Predictive entropy of the softmax."""

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = "widest spread of the task network's class probabilities"

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """H = -sum_c p_c log p_c in nats, (N,), between 0 and log C (Settles 2009, section 3.1); its mean over
        the pixels.
        """
        answers, acquisition = predict_and_measure(
            net, pixels, rows, runtime, lambda _, logits: net.task.per_image(predictive_entropy, logits)
        )
        return Scored(acquisition, answers)


def predictive_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of softmax(logits): (B, C) -> (B,). Exact also where a probability underflows to 0."""
    log_p = functional.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
