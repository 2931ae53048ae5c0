"""What the samplers that predict losses share: the module that does, its training and its way from cycle to cycle."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models, torch
from samplers.entropy import predictive_entropy
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


FEWEST_COMPARED, COMPARED = 200, 500  # images of the pool that predicted losses are compared on
LEAST_CORRELATION = 0.1
"""Of ranks: that of 500 images strays by 0.04 about 0 where there is none."""

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
        """The module was trained with the task network. Where that had nothing to train on, it is a fresh one.

        Measured is how its order of some of the pool correlates with that by the entropy of what the network predicts,
        which is the loss that is to be expected where the network is as sure as it is right.
        """
        self._network(net, runtime)
        if len(data.unlabeled) < FEWEST_COMPARED:
            return {}
        some = np.sort(runtime.rng("ranker").permutation(data.unlabeled)[:COMPARED])
        predictor = self.predictor_for(net)

        def of_batch(forward: ForwardPass) -> tuple[Tensor, ...]:
            entropies = net.task.per_image(predictive_entropy, forward.logits)
            return predictor(forward.taps), entropies

        measure = models.inference.predictions.measure_forward
        losses, entropies = measure(net, data.pixels, some, runtime, of_batch, "fit")
        return {"ranker_correlation": rank_correlation(losses, entropies)}

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """A module that ranks the pool's losses no better than by chance."""
        correlation = metrics.get("ranker_correlation", 1.0)
        if correlation >= LEAST_CORRELATION:
            return ""
        return f"the losses that it predicts have a rank correlation of {correlation:.2f} with the network's entropy"

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


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, of (N,) and (N,), between -1 and 1: that of the ranks, where equal values share the mean of theirs. 0
    where all values of either are equal.
    """
    ranks = [_ranks(values) for values in (first, second)]
    spreads = [values.std() for values in ranks]
    if min(spreads) == 0.0:
        return 0.0
    return float(np.mean(ranks[0] * ranks[1]) / (spreads[0] * spreads[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """About 0, (N,) float64."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = last - (counts + 1) / 2.0
    return np.asarray(middle[place] - (len(values) - 1) / 2.0)
