"""Any number of classes an image, each a question of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import CycleData, MultilabelTargets, Runtime, targets_of
from models.inference.disagreement import ImageFigure, StreamingFigure
from models.inference.dropout import disagreement_over_classes
from models.inference.per_class import binary_confidence, class_values, streaming_over_classes
from models.inference.per_pixel import log_odds_of_shares
from models.inference.predictions import Predictions
from models.losses.binary_cross_entropy import BinaryCrossEntropy, image_binary_cross_entropy
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.losses.isda import ClassSpread
from models.losses.objectives import Objective
from models.networks.base import TaskConfig, TaskNet
from models.networks.carry_over import carry_over
from models.tasks.base import Reduction, RowMeasure, Task, UnsupportedTask
from models.tasks.classifiers import classifier_config
from models.training.examples import Examples, LabeledImages
from models.training.schedule import WHOLE_IMAGES, Recipe, Sizes

SMALLEST_SUM = 1e-12  # of probabilities


class MultilabelTask(Task):
    """A classifier whose C logits are log-odds, each of one class: a class is a row of two logits, [0, z].

    The classes are taken for independent given the image, as binary cross entropy does. So entropies, and what the
    disagreement of several networks comes to, are sums over the classes.
    """

    name: ClassVar[str] = "multilabel"
    sizes: ClassVar[Sizes] = WHOLE_IMAGES
    breaks_ties: ClassVar[bool] = True

    def config_from_dict(self, values: Mapping[str, Any]) -> TaskConfig:
        return classifier_config(values)

    def carry_over(
        self, old_state: Mapping[str, Tensor], old_classes: Sequence[str], net: TaskNet, new_classes: Sequence[str]
    ) -> str:
        return carry_over(old_state, old_classes, net, new_classes)

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of each class (B, C) float32, and the mean over the classes of max(p, 1 - p), (B,)."""
        return torch.sigmoid(logits), binary_confidence(logits)

    def class_shares(self, predictions: Predictions, num_classes: int) -> np.ndarray:
        """By the mean probability of each class."""
        mean = predictions.predicted.mean(axis=0, dtype=np.float64)
        return np.asarray(mean / max(mean.sum(), SMALLEST_SUM))

    def nothing_predicted(self, num_classes: int) -> np.ndarray:
        return np.empty((0, num_classes), dtype=np.float32)

    def per_image(self, measure: RowMeasure, *outputs: Tensor, reduce: Reduction = "total") -> Tensor:
        """Reduced over the classes, (B,) float64; see `models.inference.per_class`."""
        values = class_values(measure, *outputs).double()
        if reduce == "log_odds_of_mean":
            return log_odds_of_shares(values)
        return values.sum(dim=1) if reduce == "total" else values.mean(dim=1)

    def residuals(self, logits: Tensor) -> Tensor:
        """σ(z) - 1 where a class is likelier than not, else σ(z): the gradient of the classes' binary cross entropies,
        summed."""
        return torch.sigmoid(logits) - (logits > 0).to(logits.dtype)

    def image_features(self, features: Tensor) -> Tensor:
        return features

    def streaming(self, figure: Callable[[], StreamingFigure]) -> ImageFigure:
        return streaming_over_classes(figure)

    def thinned_disagreement(
        self, features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], StreamingFigure]
    ) -> Tensor:
        return disagreement_over_classes(features, head, masks, figure)

    def examples(self, net: TaskNet, data: CycleData, recipe: Recipe, runtime: Runtime) -> Examples:
        return LabeledImages(data, _chosen(data), runtime)

    def label_targets(self, data: CycleData) -> Tensor:
        """Choices (L, C) float32, 0 or 1."""
        return _chosen(data)

    def cross_entropy(self) -> Objective:
        return BinaryCrossEntropy()

    def dropout_cross_entropy(self, rate: float, *, stages: bool = False) -> Objective:
        return DropoutCrossEntropy(rate, functional.binary_cross_entropy_with_logits, stages=stages)

    def isda(self, strength: float, covariance: str) -> Objective:
        raise UnsupportedTask("ISDA augments the features of one class an image, and here an image has several")

    def losses(self, logits: Tensor, targets: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Binary cross entropy, an image's the mean over its classes, of logits and choices (B, C) float32."""
        losses = image_binary_cross_entropy(logits, targets)
        return losses.mean(), losses

    def latent_targets(self, data: CycleData, runtime: Runtime) -> Tensor:
        """Shares of the chosen classes: 1 / n each of n; zeros where none is chosen."""
        chosen = _chosen(data)
        return (chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1.0)).to(runtime.device)

    def class_spread(self, net: TaskNet, data: CycleData, runtime: Runtime, kind: str) -> ClassSpread:
        raise UnsupportedTask(_NO_CHANGE)

    def epmcm(self, logits: Tensor, table: Tensor) -> Tensor:
        raise UnsupportedTask(_NO_CHANGE)

    def drawn_change(self, logits: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        raise UnsupportedTask(_NO_CHANGE)


_NO_CHANGE = "the expected partial model change needs classes that exclude each other, and here an image has several"


def _chosen(data: CycleData) -> Tensor:
    """(L, C) float32 on the CPU, 0 or 1."""
    return torch.as_tensor(targets_of(data, MultilabelTargets).chosen, dtype=torch.float32)
