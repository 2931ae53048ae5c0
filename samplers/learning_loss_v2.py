"""Learning loss, second version: the same module, trained to rank instead of to keep a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Scored
from samplers.deferred import models
from samplers.loss_prediction_base import LossPredictionOptions, LossPredictionSampler

if TYPE_CHECKING:
    from models.data import Runtime
    from models.losses.loss_prediction import PairLoss
    from models.networks.base import TaskNet


class LearningLossV2Sampler(LossPredictionSampler[LossPredictionOptions]):
    """Learning loss with the ranking loss of TA-VAAL (Kim, Park, Kim & Chun, CVPR 2021; "learning loss v2" in the
    supplement): the margin loss asks for a fixed distance ξ while the losses it compares shrink, and does not converge.
    """

    name: ClassVar[str] = "learning-loss-v2"
    summary: ClassVar[str] = "where such a module, trained to rank the losses, predicts the largest"
    why: ClassVar[str] = "one of the largest losses is predicted for it"
    source: ClassVar[str] = "Kim et al. 2021, supplement"
    family: ClassVar[str] = families.LOSS_PREDICTION
    Options = LossPredictionOptions

    def pair_loss(self) -> PairLoss:
        return models.losses.loss_prediction.ranking_loss

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """The predicted rank r, (N,): for two images, σ(r_i - r_j) is the probability that the loss of the first is
        the larger one. From the pass of the task network that also gives the predictions.
        """
        return super()._score(net, pixels, rows, runtime)
