"""ADS: ask for the image that two classifiers, pushed apart where it is unlike the labeled ones, know least about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers import families
from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models, torch
from samplers.options import TrainingOptions, above, between, option

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.losses.objectives import Objective
    from models.networks.base import TaskNet
    from models.networks.two_classifiers import TwoClassifiers


@dataclass(frozen=True)
class AdsOptions(TrainingOptions):
    """K, α and τ; the paper's values. The others are those of the task network's training, which the passes over
    unlabeled rows follow.
    """

    ads_prototypes: int = option(3, "ADS: prototypes of each class in each classifier.", between(1, 100))
    ads_alpha: float = option(0.05, "ADS: temperature α of the similarity to a prototype.", above(0, 10))
    ads_tau: float = option(
        0.1, "ADS: entropy τ in bits below which agreement weighs more, above which discrepancy.", between(0, 100)
    )


class AdsSampler(Sampler[AdsOptions]):
    """Agreement-discrepancy-selection (Fu, Yuan, Wan, Xu & Ye, AAAI 2021).

    The two classifiers are trained with the task network, which also trains on the unlabeled rows, two thirds of the
    time; `fit` has nothing left to do. They go on from the last cycle where classes and prototypes are the same.

    classifiers: built from the cycle's seed in `objective` or `fit`, or in `load_state_dict`.
    """

    name: ClassVar[str] = "ads"
    summary: ClassVar[str] = "where two classifiers are uncertain, after training to agree and to disagree"
    why: ClassVar[str] = "two classifiers, trained to disagree where they can, are unsure of it"
    source: ClassVar[str] = "Fu et al. 2021"
    trains: ClassVar[str] = "two more classifiers, with steps on the pool"
    family: ClassVar[str] = families.COVERAGE
    refusals: ClassVar[Mapping[str, str]] = {
        "multilabel": "its two classifiers choose exactly one class per image",
        "segmentation": "it compares two classifiers of a whole image",
    }
    knows_classes: ClassVar[bool] = True
    Options = AdsOptions

    classifiers: TwoClassifiers | None = None

    def objective(self, net: TaskNet, data: CycleData, runtime: Runtime) -> Objective:
        return models.losses.agreement_discrepancy.AgreementDiscrepancy(
            self._networks(net, runtime), self.options.recipe(), self.options.ads_tau
        )

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """All is trained with the task network. Where that had nothing to train on, the classifiers are fresh ones."""
        self._networks(net, runtime)
        return {}

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """E(x), the mean entropy of the two classifiers in bits, (N,), from one pass of the task network, whose own
        head gives the predictions. With a single class there is nothing to be uncertain of: all rows get 0.
        """
        classifiers = self.classifiers
        if classifiers is None or classifiers.num_features != net.feature_channels:
            raise NotFitted("sampler ads: its classifiers were neither trained nor loaded for this network yet")

        def of_batch(features: Tensor, _: Tensor) -> Tensor:
            return models.networks.two_classifiers.uncertainty(classifiers(features))

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)

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
        num_features = net.feature_channels
        if self.classifiers is None or self.classifiers.num_features != num_features:
            generator = runtime.generator("ads weights", "cpu")
            self.classifiers = self._fresh(num_features, generator).to(self.device).eval()
        return self.classifiers

    def _fresh(self, num_features: int, generator: torch.Generator) -> TwoClassifiers:
        options = self.options
        return models.networks.two_classifiers.build_two_classifiers(
            num_features, self.num_classes, options.ads_prototypes, options.ads_alpha, generator
        )
