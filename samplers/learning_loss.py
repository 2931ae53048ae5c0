"""Learning loss: ask for the image whose loss a small module alongside the task network predicts to be the largest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers import families
from samplers.base import Scored
from samplers.deferred import models
from samplers.loss_prediction_base import LossPredictionOptions, LossPredictionSampler
from samplers.options import between, option

if TYPE_CHECKING:
    from models.data import Runtime
    from models.losses.loss_prediction import PairLoss
    from models.networks.base import TaskNet


@dataclass(frozen=True)
class LearningLossOptions(LossPredictionOptions):
    """learning_loss_margin: how far apart the predictions of a pair have to be."""

    learning_loss_margin: float = option(1.0, "Learning loss: margin ξ of the first version.", between(0, 1000))


class LearningLossSampler(LossPredictionSampler[LearningLossOptions]):
    """Learning loss for active learning (Yoo & Kweon, CVPR 2019)."""

    name: ClassVar[str] = "learning-loss"
    summary: ClassVar[str] = "where a module attached to the task network predicts the largest loss"
    why: ClassVar[str] = "a large loss of the network is predicted for it"
    source: ClassVar[str] = "Yoo & Kweon 2019"
    family: ClassVar[str] = families.LOSS_PREDICTION
    Options = LearningLossOptions

    def pair_loss(self) -> PairLoss:
        return partial(models.losses.loss_prediction.margin_loss, margin=self.options.learning_loss_margin)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """The predicted loss l̂, (N,), on a scale of the module's own (section 3.1), from one pass of the task network,
        which also gives the predictions.
        """
        return super()._score(net, pixels, rows, runtime)
