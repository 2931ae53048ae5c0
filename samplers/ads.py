"""ADS: ask for the image that two classifiers, pushed apart where it is unlike the labelled ones, know least about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, Runtime
from models.inference.predictions import predict_and_measure
from models.losses.agreement_discrepancy import AgreementDiscrepancy
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.networks.two_classifiers import TwoClassifiers, build_two_classifiers, uncertainty
from samplers.base import NotFitted, Sampler, Scored, check_task
from samplers.recipe import RecipeOptions


@dataclass(frozen=True)
class AdsOptions(RecipeOptions):
    """ads_prototypes: K, of each class in each classifier; ads_alpha: α, temperature of the similarity to a prototype;
    ads_tau: τ, the entropy in bits at which agreement and discrepancy weigh the same. The paper's values.

    The others are those of the task network's training, which the passes over unlabelled rows follow.
    """

    ads_prototypes: int = 3
    ads_alpha: float = 0.05
    ads_tau: float = 0.1


class AdsSampler(Sampler):
    """Agreement-discrepancy-selection (Fu, Yuan, Wan, Xu & Ye, AAAI 2021).

    The two classifiers are trained with the task network, which also trains on the unlabelled rows, two thirds of the
    time; `fit` has nothing left to do. They go on from the last cycle where classes and prototypes are the same.
    """

    name: ClassVar[str] = "ads"
    summary: ClassVar[str] = "most uncertain to two classifiers that disagree where images are unlike the labelled ones"
    Options: ClassVar[type[Any]] = AdsOptions
    knows_classes: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        # Made from the cycle's seed in `objective` or `fit`, or in `load_state_dict`.
        self.classifiers: TwoClassifiers | None = None

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        options = self.options
        return AgreementDiscrepancy(self._networks(net, runtime), options.recipe(), options.ads_tau)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """All is trained with the task network. Where that had nothing to train on, the classifiers are fresh ones."""
        self._networks(net, runtime)
        return {}

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """E(x), the mean entropy of the two classifiers in bits, (N,), from one pass of the task network, whose own
        head gives the answers. With a single class there is nothing to be uncertain of: all rows get 0.
        """
        check_task(self, net)
        classifiers = self.classifiers
        if classifiers is None or classifiers.num_features != net.feature_channels:
            raise NotFitted("sampler ads: its classifiers were neither trained nor loaded for this network yet")

        def acquisition(features: Tensor, _: Tensor) -> Tensor:
            return uncertainty(classifiers(features))

        answers, values = predict_and_measure(net, pixels, rows, runtime, acquisition)
        return Scored(values, answers)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.classifiers is None else {"classifiers": self.classifiers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            return
        weights: dict[str, Tensor] = state["classifiers"]
        classifiers = self._fresh(len(weights["first.linear.weight"]), torch.Generator())
        if any(weights[key].shape != own.shape for key, own in classifiers.state_dict().items()):
            return
        classifiers.load_state_dict(weights)
        self.classifiers = classifiers.to(self.device).eval()

    def _networks(self, net: TaskNet, runtime: Runtime) -> TwoClassifiers:
        """The last cycle's where they read features like this network's, else fresh ones."""
        check_task(self, net)
        num_features = net.feature_channels
        if self.classifiers is None or self.classifiers.num_features != num_features:
            generator = runtime.generator("ads weights", "cpu")
            self.classifiers = self._fresh(num_features, generator).to(self.device).eval()
        return self.classifiers

    def _fresh(self, num_features: int, generator: torch.Generator) -> TwoClassifiers:
        options = self.options
        return build_two_classifiers(
            num_features, self.num_classes, options.ads_prototypes, options.ads_alpha, generator
        )
