"""What the samplers that predict losses share: the module that does, its training and its way from cycle to cycle."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models, torch
from samplers.options import SamplerOptions, between, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.inference.predictions import ForwardPass
    from models.losses.loss_prediction import LossPredictor, PairLoss
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet


@dataclass(frozen=True)
class LossPredictionOptions(SamplerOptions):
    """Defaults are the paper's for CIFAR-10."""

    learning_loss_weight: float = option(
        1.0, "Learning loss, TA-VAAL: weight of the loss prediction (λ, η).", between(0, 1000)
    )
    learning_loss_stop: float = option(
        0.6,
        "Learning loss, TA-VAAL: share of the epochs after which its gradient no longer reaches the task network.",
        between(0, 1),
    )
    learning_loss_width: int = option(128, "Learning loss, TA-VAAL: width of the prediction module.", between(1, 4096))


LossPredictionT = TypeVar("LossPredictionT", bound=LossPredictionOptions)


class LossPredictionSampler(Sampler[LossPredictionT]):
    """A module that reads the task network's taps and predicts an image's loss (Yoo & Kweon, CVPR 2019).

    The module is trained with the task network, on the same batches by the same SGD; `fit` has nothing left to do. It
    goes on from the last cycle where taps and width are the same. The paper takes the top of a random subset of the
    pool: that is the setting `subset`.

    predictor: built from the cycle's seed in `objective` or `fit`, or in `load_state_dict`.
    """

    trains: ClassVar[str] = "the module, together with the task network"

    predictor: LossPredictor | None = None

    @abstractmethod
    def pair_loss(self) -> PairLoss:
        """What the module is trained on."""

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        """Mean cross entropy + `learning_loss_weight` times the pair loss."""
        return models.losses.loss_prediction.LossPrediction(
            self._network(net, runtime),
            self.pair_loss(),
            self.options.learning_loss_weight,
            self.options.learning_loss_stop,
        )

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """The module was trained with the task network. Where that had nothing to train on, it is a fresh one."""
        self._network(net, runtime)
        return {}

    def predictor_for(self, net: TaskNet) -> LossPredictor:
        """The module. Raises NotFitted where there is none for the taps of `net`."""
        if self.predictor is None or self.predictor.tap_channels != net.tap_channels:
            raise NotFitted(f"sampler {self.name}: its module was neither trained nor loaded for this network yet")
        return self.predictor

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """What the module predicts, (N,), from one pass of the task network, which also gives the predictions."""
        predictor = self.predictor_for(net)

        def of_batch(forward: ForwardPass) -> Tensor:
            return predictor(forward.taps)

        predictions, values = models.inference.predictions.predict_and_measure_forward(
            net, pixels, rows, runtime, of_batch
        )
        return Scored(values, predictions)

    def state_dict(self) -> dict[str, Any]:
        if self.predictor is None:
            return {}
        return {"tap_channels": list(self.predictor.tap_channels), "predictor": self.predictor.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            return
        weights: dict[str, Tensor] = state["predictor"]
        predictor = models.losses.loss_prediction.build_loss_predictor(
            state["tap_channels"], self.options.learning_loss_width, torch.Generator()
        )
        if any(weights[key].shape != own.shape for key, own in predictor.state_dict().items()):
            return
        predictor.load_state_dict(weights)
        self.predictor = predictor.to(self.device).eval()

    def _network(self, net: TaskNet, runtime: Runtime) -> LossPredictor:
        """The last cycle's module where it reads taps like this network's, else a fresh one."""
        if self.predictor is None or self.predictor.tap_channels != net.tap_channels:
            generator = runtime.generator("learning loss weights", "cpu")
            predictor = models.losses.loss_prediction.build_loss_predictor(
                net.tap_channels, self.options.learning_loss_width, generator
            )
            self.predictor = predictor.to(self.device).eval()
        return self.predictor
