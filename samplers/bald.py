"""BALD: ask where many thinned copies of the task network are each confident, but of different classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Scored
from samplers.deferred import models
from samplers.dropout_base import DropoutOptions, DropoutSampler

if TYPE_CHECKING:
    from models.data import Runtime
    from models.networks.base import TaskNet


class BaldSampler(DropoutSampler[DropoutOptions]):
    """Bayesian active learning by disagreement (Houlsby et al. 2011), by dropout (Gal, Islam & Ghahramani, 2017)."""

    name: ClassVar[str] = "bald"
    summary: ClassVar[str] = "where networks with random features dropped disagree"
    why: ClassVar[str] = "networks with random features dropped disagree about it"
    source: ClassVar[str] = "Houlsby et al. 2011, Gal et al. 2017"
    family: ClassVar[str] = families.SEVERAL_OPINIONS
    Options = DropoutOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """I[y; w] = H[p̄] - mean_k H[p_k] over the draws, (N,), in nats: Houlsby et al. (2011), equation 2."""
        figure = models.inference.disagreement.StreamingBald
        predictions, values = self.disagreement(net, pixels, rows, runtime, figure)
        return Scored(values, predictions)
