"""A class for each pixel: masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from models.data import CycleData, MaskTargets, Runtime, targets_of
from models.index_masks import class_counts, tally
from models.inference import epmcm, per_pixel
from models.inference.disagreement import ImageFigure, StreamingFigure
from models.inference.dropout import disagreement_over_pixels
from models.inference.predictions import most_likely
from models.inference.streaming import one_by_one
from models.losses.dense import DenseCrossEntropy, DenseDropoutCrossEntropy, DenseISDA
from models.losses.isda import ClassSpread
from models.losses.objectives import Objective
from models.losses.pixel_covariance import labeled_batches, pixel_covariance
from models.losses.pixel_cross_entropy import image_cross_entropy, inverse_log_weights, pixel_cross_entropy
from models.networks.base import TaskNet
from models.networks.carry_over import carry_over
from models.networks.pretrained_segmenter import (
    PretrainedSegmenter,
    PretrainedSegmenterConfig,
)
from models.networks.segmenter import SegmenterConfig, enlarge
from models.tasks.base import Reduction, RowMeasure, Task
from models.training.examples import Examples, LabeledMasks
from models.training.held_back import of_masks
from models.training.kept_maps import KeptMaps
from models.training.schedule import MASKS, Recipe, Sizes


class SegmentationTask(Task):
    """A segmenter's softmax over C classes at each pixel of its map: a pixel is a row, and an image's figure is the
    mean over its pixels. The first class is the background, which no owner's class names.
    """

    name: ClassVar[str] = "segmentation"
    maps: ClassVar[bool] = True
    sizes: ClassVar[Sizes] = MASKS
    breaks_ties: ClassVar[bool] = False

    def config_from_dict(self, values: Mapping[str, Any]) -> SegmenterConfig | PretrainedSegmenterConfig:
        kind = PretrainedSegmenterConfig if "digest" in values else SegmenterConfig
        return kind.from_dict(values)

    def carry_over(
        self, old_state: Mapping[str, Tensor], old_classes: Sequence[str], net: TaskNet, new_classes: Sequence[str]
    ) -> str:
        return carry_over(old_state, old_classes, net, new_classes, offset=1)

    def predict(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The class that most pixels are taken for, (B,) int64, and the mean confidence over the pixels, (B,)."""
        predicted, confidence = most_likely(logits)
        return tally(predicted.flatten(1), logits.shape[1]).argmax(dim=1), confidence.mean(dim=(1, 2))

    def per_image(self, measure: RowMeasure, *outputs: Tensor, reduce: Reduction = "total") -> Tensor:
        """Reduced over the pixels of the maps, (B,) float64; see `models.inference.per_pixel`."""
        if reduce == "log_odds_of_mean":
            return per_pixel.log_odds_of_mean(measure, *outputs)
        return per_pixel.mean_over_pixels(measure, *outputs)

    def image_features(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))

    def streaming(self, figure: Callable[[], StreamingFigure]) -> ImageFigure:
        return per_pixel.streaming_over_pixels(figure)

    def thinned_disagreement(
        self, features: Tensor, head: nn.Linear, masks: Tensor, figure: Callable[[], StreamingFigure]
    ) -> Tensor:
        return disagreement_over_pixels(features, head, masks, figure)

    def examples(self, net: TaskNet, data: CycleData, recipe: Recipe, runtime: Runtime) -> Examples:
        if net.keeps and not recipe.crop:
            return KeptMaps(cast(PretrainedSegmenter, net), data, runtime)
        return LabeledMasks(data, recipe, runtime)

    def held_back_figures(self, net: TaskNet, held: CycleData, runtime: Runtime) -> dict[str, float]:
        return of_masks(net, held, runtime)

    def cross_entropy(self) -> Objective:
        return DenseCrossEntropy()

    def dropout_cross_entropy(self, rate: float, *, stages: bool = False) -> Objective:
        return DenseDropoutCrossEntropy(rate, stages=stages)

    def isda(self, strength: float, covariance: str) -> Objective:
        return DenseISDA(strength, covariance)

    def losses(self, logits: Tensor, targets: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """An image's loss is the mean over its labeled pixels, the network's that over all of them, weighted by class.
        logits (B, C, h, w), targets (B, H, W).
        """
        logits = enlarge(logits, targets.shape[1:])
        return pixel_cross_entropy(logits, targets, class_weight), image_cross_entropy(logits, targets)

    def class_weight(self, data: CycleData, device: torch.device) -> Tensor | None:
        weight = targets_of(data, MaskTargets).class_weight
        return None if weight is None else torch.from_numpy(weight).float().to(device)

    def balanced(self, data: CycleData) -> CycleData:
        """With weights by the pixels of each class; one reading of the labeled masks."""
        targets = targets_of(data, MaskTargets)
        counts = torch.zeros(data.num_classes, dtype=torch.int64)
        for mask in one_by_one(targets.masks, targets.rows):
            counts += class_counts(mask, data.num_classes)
        return replace(data, targets=replace(targets, class_weight=inverse_log_weights(counts).numpy()))

    def latent_targets(self, data: CycleData, runtime: Runtime) -> Tensor:
        """Shares of the classes in the labeled pixels."""
        targets = targets_of(data, MaskTargets)
        shares = torch.empty(len(targets), data.num_classes)
        for place, mask in enumerate(one_by_one(targets.masks, targets.rows)):
            counts = class_counts(mask, data.num_classes).float()
            shares[place] = counts / counts.sum().clamp(min=1.0)
        return shares.to(runtime.device)

    def class_spread(self, net: TaskNet, data: CycleData, runtime: Runtime, kind: str) -> ClassSpread:
        """Covariances of the labeled pixels' features."""
        batches = labeled_batches(data, runtime, phase="fit")
        covariance, seen = pixel_covariance(net, batches, runtime, kind)
        weight = net.head.weight.detach().flatten(1).to(runtime.device, torch.float64)
        return ClassSpread(weight, covariance, int((seen < 2).sum()))

    def epmcm(self, logits: Tensor, table: Tensor) -> Tensor:
        """Logarithm of the mean over the pixels of the bound (section 4.2 of the paper), from maps (B, C, h, w)."""
        if len(table) == 1:
            return 0.0 * logits.flatten(1)[:, 0]  # NaN stays NaN
        return per_pixel.log_bound(logits, table)

    def drawn_change(self, logits: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        """Logarithm of the mean over the pixels of the expected change, from maps (B, C, h, w)."""
        if len(factors) == 1:
            return 0.0 * logits.flatten(1)[:, 0]
        return per_pixel.log_mean_over_pixels(lambda rows: epmcm.log_drawn(rows, factors, noise), logits)
