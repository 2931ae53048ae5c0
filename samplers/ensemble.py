"""Ensemble: ask where the networks of a committee vote for different classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from models.data import Runtime
from models.inference.disagreement import StreamingVariationRatio
from models.networks.base import TaskNet
from models.training.committee import predict_and_disagree
from samplers.base import Scored
from samplers.committee_base import CommitteeSampler
from samplers.noise import uniform_noise


class EnsembleSampler(CommitteeSampler):
    """The variation ratio of an ensemble (Beluch, Genewein, Nürnberger & Köhler, CVPR 2018, section 3)."""

    name: ClassVar[str] = "ensemble"
    summary: ClassVar[str] = "most votes against the majority, in a committee of networks trained apart"

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """1 - (votes for the mode) / M, (N,), of M networks. Of an image it has few values: a random part of less than
        the step between two of them orders the rows of one value. Its mean over pixels seldom ties.
        """
        answers, values = predict_and_disagree(net, self.committee(), pixels, rows, runtime, StreamingVariationRatio)
        if net.task.breaks_ties:
            values = values + 0.5 / self.size * uniform_noise(rows, runtime.seed)
        return Scored(values, answers)
