"""Random order: the baseline that every other sampler has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Sampler, Scored
from samplers.noise import logistic_noise
from samplers.options import SamplerOptions

if TYPE_CHECKING:
    from models.data import Runtime
    from models.networks.base import TaskNet


class RandomSampler(Sampler[SamplerOptions]):
    """A number per row that depends on (seed, row) only."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "anything, as the baseline"
    why: ClassVar[str] = "it was drawn by chance, as all are with this sampler"
    family: ClassVar[str] = families.BASELINE
    spreads_first: ClassVar[bool] = False
    Options = SamplerOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Standard logistic noise (N,), so that 1 / (1 + exp(a)) is uniform in (0, 1).

        The task network is not run.
        """
        return Scored(logistic_noise(rows, runtime.seed))
