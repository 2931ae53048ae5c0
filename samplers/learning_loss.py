"""Learning loss: ask for the image whose loss a small module beside the task network predicts to be the largest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, Runtime
from models.inference.predictions import ForwardPass, predict_and_measure_forward
from models.losses.loss_prediction import LossPrediction, LossPredictor, PairLoss, build_loss_predictor, margin_loss
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from samplers.base import NotFitted, Sampler, Scored


@dataclass(frozen=True)
class LossPredictionOptions:
    """Defaults are the paper's for CIFAR-10.

    learning_loss_weight  λ, weight of the module's loss beside the cross entropy.
    learning_loss_stop    share of the epochs after which its gradient no longer reaches the task network.
    learning_loss_width   of the module's branches.
    """

    learning_loss_weight: float = 1.0
    learning_loss_stop: float = 0.6
    learning_loss_width: int = 128


@dataclass(frozen=True)
class LearningLossOptions(LossPredictionOptions):
    """learning_loss_margin: ξ, how far apart the predictions of a pair have to be."""

    learning_loss_margin: float = 1.0


class LearningLossSampler(Sampler):
    """Learning loss for active learning (Yoo & Kweon, CVPR 2019).

    The module is trained with the task network, on the same batches by the same SGD; `fit` has nothing left to do. It
    goes on from the last cycle where taps and width are the same. The paper takes the top of a random subset of the
    pool: that is the setting `subset`.
    """

    name: ClassVar[str] = "learning-loss"
    summary: ClassVar[str] = "largest loss, as a module trained with the task network predicts it from its inside"
    Options: ClassVar[type[Any]] = LearningLossOptions

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        # Made from the cycle's seed in `objective` or `fit`, or in `load_state_dict`.
        self.predictor: LossPredictor | None = None

    def pair_loss(self) -> PairLoss:
        """What the module is trained on."""
        return partial(margin_loss, margin=self.options.learning_loss_margin)

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        options = self.options
        predictor = self._network(net, runtime)
        return LossPrediction(predictor, self.pair_loss(), options.learning_loss_weight, options.learning_loss_stop)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """The module was trained with the task network. Where that had nothing to train on, it is a fresh one."""
        self._network(net, runtime)
        return {}

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """The predicted loss l̂, (N,), on a scale of the module's own (section 3.1), from one pass of the task network,
        which also gives the answers.
        """
        predictor = self.predictor
        if predictor is None or predictor.tap_channels != net.tap_channels:
            raise NotFitted(f"sampler {self.name}: its module was neither trained nor loaded for this network yet")

        def predicted_loss(inside: ForwardPass) -> Tensor:
            return predictor(inside.taps)

        answers, values = predict_and_measure_forward(net, pixels, rows, runtime, predicted_loss)
        return Scored(values, answers)

    def state_dict(self) -> dict[str, Any]:
        if self.predictor is None:
            return {}
        return {"tap_channels": list(self.predictor.tap_channels), "predictor": self.predictor.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            return
        weights: dict[str, Tensor] = state["predictor"]
        predictor = build_loss_predictor(state["tap_channels"], self.options.learning_loss_width, torch.Generator())
        if any(weights[key].shape != own.shape for key, own in predictor.state_dict().items()):
            return
        predictor.load_state_dict(weights)
        self.predictor = predictor.to(self.device).eval()

    def _network(self, net: TaskNet, runtime: Runtime) -> LossPredictor:
        """The last cycle's module where it reads taps like this network's, else a fresh one."""
        if self.predictor is None or self.predictor.tap_channels != net.tap_channels:
            generator = runtime.generator("learning loss weights", "cpu")
            predictor = build_loss_predictor(net.tap_channels, self.options.learning_loss_width, generator)
            self.predictor = predictor.to(self.device).eval()
        return self.predictor
