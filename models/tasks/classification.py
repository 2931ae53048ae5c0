"""One class an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.inference import epmcm
from models.inference.disagreement import ImageFigure, StreamingFigure
from models.inference.dropout import disagreement_of
from models.inference.predictions import embed, most_likely
from models.losses.dropout_cross_entropy import DropoutCrossEntropy
from models.losses.isda import ISDA, ClassSpread, class_covariance
from models.losses.objectives import CrossEntropy, Objective
from models.networks.base import TaskConfig, TaskNet
from models.networks.carry_over import carry_over
from models.tasks.base import Reduction, RowMeasure, Task
from models.tasks.classifiers import classifier_config
from models.training.examples import Examples, LabeledImages
from models.training.schedule import WHOLE_IMAGES, Recipe, Sizes


class ClassificationTask(Task):
    """A classifier's softmax over C classes that exclude each other: an image is one row."""

    name: ClassVar[str] = "classification"
    sizes: ClassVar[Sizes] = WHOLE_IMAGES
    breaks_ties: ClassVar[bool] = True

    def config_from_dict(self, values: Mapping[str, Any]) -> TaskConfig:
        return classifier_config(values)

    def carry_over(
        self, old_state: Mapping[str, Tensor], old_classes: Sequence[str], net: TaskNet, new_classes: Sequence[str]
    ) -> str:
        return carry_over(old_state, old_classes, net, new_classes)

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Class (B,) int64 and its softmax probability (B,)."""
        return most_likely(logits)

    def per_image(self, measure: RowMeasure, *outputs: Tensor, reduce: Reduction = "total") -> Tensor:
        """The measure of the image's own row, (B,) in its dtype, however it would be reduced."""
        return measure(*outputs)

    def residuals(self, logits: Tensor) -> Tensor:
        """softmax(z) - 1 at the predicted class: the gradient of cross entropy."""
        p = logits.softmax(dim=1)
        return p.scatter_add(1, logits.argmax(dim=1, keepdim=True), torch.full_like(p[:, :1], -1.0))

    def image_features(self, features: Tensor) -> Tensor:
        return features

    def streaming(self, figure: Callable[[], StreamingFigure]) -> ImageFigure:
        return ImageFigure(figure, lambda logits: iter([logits]), lambda values: values[:, 0])

    def thinned_disagreement(
        self, features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], StreamingFigure]
    ) -> Tensor:
        return disagreement_of(features, head, masks, figure)

    def examples(self, net: TaskNet, data: CycleData, recipe: Recipe, runtime: Runtime) -> Examples:
        return LabeledImages(data, _classes(data), runtime)

    def label_targets(self, data: CycleData) -> Tensor:
        """Classes (L,) int64."""
        return _classes(data)

    def cross_entropy(self) -> Objective:
        return CrossEntropy()

    def dropout_cross_entropy(self, rate: float, *, stages: bool = False) -> Objective:
        return DropoutCrossEntropy(rate, stages=stages)

    def isda(self, strength: float, covariance: str) -> Objective:
        return ISDA(strength, covariance)

    def losses(self, logits: Tensor, targets: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cross entropy, of logits (B, C) and classes (B,) int64."""
        losses = functional.cross_entropy(logits, targets, reduction="none")
        return losses.mean(), losses

    def latent_targets(self, data: CycleData, runtime: Runtime) -> Tensor:
        """Classes (L,) int64."""
        return _classes(data).to(runtime.device)

    def class_spread(self, net: TaskNet, data: CycleData, runtime: Runtime, kind: str) -> ClassSpread:
        """Covariances of the labeled images' features."""
        features = torch.from_numpy(embed(net, data.pixels, data.labeled, runtime, phase="fit"))
        targets = _classes(data).to(runtime.device)
        wide = features.to(runtime.device, torch.float64)
        covariance = class_covariance(wide, targets, data.num_classes, kind)
        weight = net.head.weight.detach().to(runtime.device, torch.float64)
        counts = np.bincount(targets_of(data, ClassTargets).classes, minlength=data.num_classes)
        return ClassSpread(weight, covariance, int((counts < 2).sum()))

    def epmcm(self, logits: Tensor, table: Tensor) -> Tensor:
        """Equation 7 of each row (B, C)."""
        if len(table) == 1:
            return 0.0 * logits[:, 0]  # NaN stays NaN
        return epmcm.log_bound(logits, table)

    def drawn_change(self, logits: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        """Equation 5 of each row (B, C)."""
        if len(factors) == 1:
            return 0.0 * logits[:, 0]
        return epmcm.log_drawn(logits, factors, noise)


def _classes(data: CycleData) -> Tensor:
    """(L,) int64 on the CPU."""
    return torch.as_tensor(targets_of(data, ClassTargets).classes, dtype=torch.int64)
