"""Ensemble: ask where the networks of a committee vote for different classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Scored
from samplers.committee_base import CommitteeOptions, CommitteeSampler
from samplers.deferred import models
from samplers.noise import uniform_noise

if TYPE_CHECKING:
    from models.data import Runtime
    from models.networks.base import TaskNet


class EnsembleSampler(CommitteeSampler[CommitteeOptions]):
    """The variation ratio of an ensemble (Beluch, Genewein, Nürnberger & Köhler, CVPR 2018, section 3)."""

    name: ClassVar[str] = "ensemble"
    summary: ClassVar[str] = "where independently trained networks vote differently, by variation ratio"
    why: ClassVar[str] = "independently trained networks vote for different classes"
    source: ClassVar[str] = "Beluch et al. 2018"
    family: ClassVar[str] = families.SEVERAL_OPINIONS
    Options = CommitteeOptions

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """1 - (votes for the mode) / M, (N,), of M networks. Of an image it has few values: a random part of less than
        the step between two of them orders the rows of one value. Its mean over pixels seldom ties.
        """
        figure = models.inference.disagreement.StreamingVariationRatio
        predictions, values = self.disagreement(net, pixels, rows, runtime, figure)
        if net.task.breaks_ties:
            values = values + 0.5 / self.size * uniform_noise(rows, runtime.seed)
        return Scored(values, predictions)
