"""Learning loss, second version: the same module, trained to rank instead of to keep a margin."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from models.data import Runtime
from models.losses.loss_prediction import PairLoss, ranking_loss
from models.networks.base import TaskNet
from samplers.base import Scored
from samplers.learning_loss import LearningLossSampler, LossPredictionOptions


class LearningLossV2Sampler(LearningLossSampler):
    """Learning loss with the ranking loss of TA-VAAL (Kim, Park, Kim & Chun, CVPR 2021; "learning loss v2" in the
    supplement): the margin loss asks for a fixed distance ξ while the losses it compares shrink, and does not converge.
    """

    name: ClassVar[str] = "learning-loss-v2"
    summary: ClassVar[str] = "learning loss with a module that learns to rank the losses, not to keep a margin"
    Options: ClassVar[type[Any]] = LossPredictionOptions

    def pair_loss(self) -> PairLoss:
        return ranking_loss

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """The predicted rank r, (N,): for two images, σ(r_i - r_j) is the probability that the loss of the first is
        the larger one. From the pass of the task network that also gives the answers.
        """
        return super()._score(net, pixels, rows, runtime)
