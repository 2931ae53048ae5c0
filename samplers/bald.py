"""BALD: ask where many thinned copies of the task network are each sure, but of different answers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from models.data import Runtime
from models.inference.disagreement import StreamingBald
from models.networks.base import TaskNet
from samplers.base import Scored
from samplers.dropout_base import DropoutSampler


class BaldSampler(DropoutSampler):
    """Bayesian active learning by disagreement (Houlsby et al. 2011), by dropout (Gal, Islam & Ghahramani, 2017)."""

    name: ClassVar[str] = "bald"
    summary: ClassVar[str] = "random dropouts of the task network are each sure, but of different answers"

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """I[y; w] = H[p̄] - mean_k H[p_k] over the draws, (N,), in nats: Houlsby et al. (2011), equation 2."""
        answers, values = self.disagreement(net, pixels, rows, runtime, StreamingBald)
        return Scored(values, answers)
