"""A kind of task: what a network's outputs mean, what it is trained on, and what uncertainty of an image is.

Everything in models/ and samplers/ that differs between the kinds is a method here; nobody else asks which kind it is.

Axis letters: B batch, C classes, F features, R rows, L labeled rows, K draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from models.data import CycleData, Runtime
from models.inference.disagreement import ImageFigure, StreamingFigure
from models.inference.predictions import Predictions
from models.losses.isda import ClassSpread
from models.losses.objectives import Objective
from models.networks.base import TaskConfig, TaskNet
from models.training.examples import Examples
from models.training.held_back import of_whole_images
from models.training.schedule import Recipe, Sizes

Reduction = Literal["total", "mean", "log_odds_of_mean"]
"""How the figures of an image's rows become the image's, where it has several rows.

total             the uncertainty of the whole: the mean over pixels, the sum over classes that are questions apart.
mean              the mean over either: for a figure that has to stay within its bounds.
log_odds_of_mean  for the log-odds of a share u: the log-odds of the mean of u over either.
"""

RowMeasure = Callable[..., Tensor]
"""Rows (R, C'), one tensor for each of the outputs -> (R,), a row's value independent of the others. A row is logits of
classes that exclude each other."""


class UnsupportedTask(ValueError):
    """What was asked for has no meaning for this kind of task; the message says so."""


class Task(ABC):
    """One kind of task. Stateless, one object a kind, in `models.tasks.TASKS` by `name`.

    Outputs of a network are features and logits of a batch, as `TaskNet.features` and its head give them: (B, F) and
    (B, C), or maps of them, (B, F, h, w) and (B, C, h, w).

    sizes        what a training comes to unless its length is set.
    breaks_ties  a figure of votes has few values for one image: what orders by it has to break ties.
    """

    name: ClassVar[str]
    maps: ClassVar[bool] = False
    sizes: ClassVar[Sizes]
    breaks_ties: ClassVar[bool]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: a copied network is of the same kind."""
        return self

    # --- networks ---

    @abstractmethod
    def config_from_dict(self, values: Mapping[str, Any]) -> TaskConfig:
        """What `TaskConfig.to_dict` gave, of a network for this kind. Raises TypeError for other keys."""

    def build(self, config: TaskConfig, seed: int) -> TaskNet:
        """The network of `config` on the CPU, initialized from `seed` alone; its `task` is this object.

        Raises ValueError for a network that does not exist, `models.networks.base.PretrainedUnavailable` when
        `config.pretrained` cannot be honored, TypeError for a configuration of another kind of network.
        """
        if config.maps is not self.maps:
            raise TypeError(f"{self.name} needs {'a segmenter' if self.maps else 'a classifier'}, got {config}")
        net = config.build(seed)
        net.task = self
        return net

    @abstractmethod
    def carry_over(
        self, old_state: Mapping[str, Tensor], old_classes: Sequence[str], net: TaskNet, new_classes: Sequence[str]
    ) -> str:
        """Start `net` from the state of an earlier one of this kind, the head by the classes' names, as the project's
        owner gave them. Returns "" when it was carried over, else the reason in words: `net` is then as it was.
        """

    # --- what outputs mean ---

    @abstractmethod
    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says about each image of a batch, predicted (B, ...) and confidence (B,), from its logits:
        see `models.inference.predictions.Predictions`. Confidence is NaN where a logit is NaN.
        """

    def class_shares(self, predictions: Predictions, num_classes: int) -> np.ndarray:
        """How the classes share in what is predicted for one image or more, (C,) float64, the sum of which is 1."""
        return np.bincount(predictions.predicted, minlength=num_classes) / len(predictions.predicted)

    def nothing_predicted(self, num_classes: int) -> np.ndarray:
        """`predicted` of `predict` for no image at all, (0, ...)."""
        return np.empty(0, dtype=np.int64)

    @abstractmethod
    def per_image(self, measure: RowMeasure, *outputs: Tensor, reduce: Reduction = "total") -> Tensor:
        """What `measure` says of each image, (B,) in its dtype or float64, from outputs (B, C, ...) of one batch."""

    def residuals(self, logits: Tensor) -> Tensor:
        """Gradient of each image's loss by its logits (B, C), if what the network predicts were the label: (B, C).

        Raises UnsupportedTask where a row of logits is not an image's.
        """
        raise UnsupportedTask("a gradient of one row of features needs logits of whole images")

    @abstractmethod
    def image_features(self, features: Tensor) -> Tensor:
        """Features of the images, (B, F), from those of the network."""

    @abstractmethod
    def streaming(self, figure: Callable[[], StreamingFigure]) -> ImageFigure:
        """A figure of `models.inference.disagreement`, of images and as their total, for opinions that come one by one
        as logits (B, C, ...).
        """

    @abstractmethod
    def thinned_disagreement(
        self, features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], StreamingFigure]
    ) -> Tensor:
        """The same figure, (B,), of the opinions of one head through K masks (K, F) of its features (B, F, ...); see
        `models.inference.dropout`.
        """

    # --- training ---

    @abstractmethod
    def examples(self, net: TaskNet, data: CycleData, recipe: Recipe, runtime: Runtime) -> Examples:
        """The labeled rows and their targets, augmented, for one training of `net`, which is on the device.

        Raises models.data.DataError for targets of another kind or with a class that there is not.
        """

    def label_targets(self, data: CycleData) -> Tensor:
        """What is said of the labeled rows, in their order, on the CPU: classes (L,) int64, or choices (L, C) float32.

        Raises UnsupportedTask where a row of features is not what is labeled.
        """
        raise UnsupportedTask("a head on the features of whole images needs labels of whole images")

    def labels_per_class(self, data: CycleData) -> np.ndarray:
        """How many labels say that an image is of a class, (C,) int64. Raises what `label_targets` does."""
        targets = self.label_targets(data)
        if targets.is_floating_point():
            return targets.sum(dim=0).long().numpy()
        return np.bincount(targets.numpy(), minlength=data.num_classes)

    def held_back_figures(self, net: TaskNet, held: CycleData, runtime: Runtime) -> dict[str, float]:
        """Set the temperature of `net` by the labels of `held`, of which it learned from none, and there is one or
        more. Returns what they say of it, for the metrics; see `models.training.held_back`. Raises
        `models.inference.predictions.NonFiniteOutputs`.
        """
        return of_whole_images(net, held, runtime)

    @abstractmethod
    def cross_entropy(self) -> Objective:
        """The plain objective of this kind."""

    @abstractmethod
    def dropout_cross_entropy(self, rate: float, *, stages: bool = False) -> Objective:
        """The same with a `rate` of the features dropped at each step, drawn again each time; with `stages`, as many of
        the channels of each stage, too (`models.inference.stage_dropout`)."""

    @abstractmethod
    def isda(self, strength: float, covariance: str) -> Objective:
        """Cross entropy under implicit semantic data augmentation (`models.losses.isda.ISDA`).

        Raises ValueError for a strength below 0 or another covariance than "diag" or "full"; UnsupportedTask.
        """

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """The task network's own loss (), and that of each image (B,), in nats.

        logits as the network's head gives them and targets as `examples` do; class_weight of `class_weight`.
        """

    def class_weight(self, data: CycleData, device: torch.device) -> Tensor | None:
        """Weights (C,) float32 of the classes in the network's own loss, on the device; None: all alike."""
        return None

    def balanced(self, data: CycleData) -> CycleData:
        """`data` with weights that make up for how little of a class is labeled, where this kind knows them."""
        return data

    @abstractmethod
    def latent_targets(self, data: CycleData, runtime: Runtime) -> Tensor:
        """What a classifier of whole images learns of the labeled ones, in their order, on the device: classes (L,)
        int64, or the share of each class, (L, C) float32, as probabilities; a row of zeros where there is nothing to
        learn. SRAAL's latent is trained on it.
        """

    # --- expected partial model change ---

    @abstractmethod
    def class_spread(self, net: TaskNet, data: CycleData, runtime: Runtime, kind: str) -> ClassSpread:
        """Of the labeled rows as they are and the network in eval mode. On the runtime's device; reports the phase
        "fit". kind: "diag" or "full".

        Raises UnsupportedTask.
        """

    @abstractmethod
    def epmcm(self, logits: Tensor, table: Tensor) -> Tensor:
        """Logarithm of the bound of the expected partial model change, (B,), from logits (B, C, ...) and Q (C, C): see
        `models.inference.epmcm.log_bound`. With a single class nothing can change: 0 for every image.

        Raises UnsupportedTask.
        """

    @abstractmethod
    def drawn_change(self, logits: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        """Logarithm of the expected partial model change itself, (B,), by drawing: see
        `models.inference.epmcm.log_drawn`. With a single class 0 for every image.

        Raises UnsupportedTask.
        """
