"""Random order: the baseline that every other sampler has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from models.data import Runtime
from models.networks.base import TaskNet
from samplers.base import Sampler, Scored
from samplers.noise import logistic_noise


class RandomSampler(Sampler):
    """A number per row that depends on (seed, row) only."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random order, the baseline"
    spreads_first: ClassVar[bool] = False

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Standard logistic noise (N,), so that 1 / (1 + exp(a)) is uniform in (0, 1).

        The task network is not run.
        """
        return Scored(logistic_noise(rows, runtime.seed))
