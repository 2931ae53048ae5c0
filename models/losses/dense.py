"""What a segmentation network is trained on: cross entropy of the labeled pixels, with dropout or under ISDA.

Wang et al., Implicit Semantic Data Augmentation for Deep Networks (NeurIPS 2019; TPAMI 2021), the part on semantic
segmentation. Features and their logits are small maps (h, w); the targets are masks (H, W), to whose size the logits
are enlarged. A pixel with the target IGNORE is in no loss, no covariance and no count.

Axis letters: B batch, C classes, F features, h w map, H W pixels of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.data import CycleData, Runtime
from models.inference.dropout import draw_masks
from models.inference.stage_dropout import draw_stage_masks, thinned_logits
from models.losses.isda import CovarianceEstimator, covariance_shape, semantic_table
from models.losses.objectives import Objective
from models.losses.pixel_covariance import estimator_for, targets_at, update_from_pixels
from models.losses.pixel_cross_entropy import pixel_cross_entropy
from models.networks.base import TaskNet
from models.networks.segmenter import enlarge


def isda_logits(logits: Tensor, targets: Tensor, table: Tensor, strength: float) -> Tensor:
    """z_j + λ/2 Q[y, j] at every pixel (ISDA, equation 6), where y is IGNORE z_j alone: (B, C, h, w).

    logits (B, C, h, w); targets (B, h, w); table (C, C) of `models.losses.isda.semantic_table`; strength λ >= 0. Never
    a (B, C, h, w, C) tensor: rows of Q are picked by a product with a 0/1 matrix, whose gradient is a product too.
    """
    classes = torch.arange(len(table), device=targets.device)
    member = (targets[..., None] == classes).to(table.dtype)  # (B, h, w, C): zero throughout for IGNORE
    return logits + (0.5 * strength) * (member @ table).movedim(-1, 1)


class DenseCrossEntropy(Objective):
    """Mean cross entropy of the labeled pixels, weighted by their class if wished; 0 for a batch without any.

    As any `Objective`, but of a segmenter, with targets (B, H, W) uint8 or int64. The weights are the data's; see
    `models.losses.pixel_cross_entropy.pixel_cross_entropy`.
    """

    def __init__(self) -> None:
        self.class_weight: Tensor | None = None  # (C,) float32 on the device, set by `begin`

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        self.class_weight = net.task.class_weight(data, runtime.device)

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar in nats; targets (B, H, W) masks."""
        logits = self.logits(net, net.features(images), targets, progress)
        return pixel_cross_entropy(enlarge(logits, targets.shape[1:]), targets, self.class_weight)

    def logits(self, net: TaskNet, features: Tensor, targets: Tensor, progress: float) -> Tensor:
        """What is enlarged and compared with the targets: features (B, F, h, w), targets (B, H, W) -> (B, C, h, w)."""
        logits: Tensor = net.head(features)
        return logits


class DenseDropoutCrossEntropy(DenseCrossEntropy):
    """The same, with a `rate` of the features' channels dropped at each step, in all pixels of an image alike; with
    `stages`, as many of the channels of each stage, too.

    The masks come from the runtime, a new one for each image at each step.
    """

    def __init__(self, rate: float, *, stages: bool = False) -> None:
        super().__init__()
        self.rate = rate
        self.stages = stages

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        super().begin(net, data, runtime)
        self._generator = runtime.generator("dropout")

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """As the base class says."""
        if not self.stages:
            return super().loss(net, images, targets, progress)
        masks = draw_stage_masks(net, len(images), self.rate, self._generator)
        logits = thinned_logits(net, images, masks)
        return pixel_cross_entropy(enlarge(logits, targets.shape[1:]), targets, self.class_weight)

    def logits(self, net: TaskNet, features: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Logits (B, C, h, w) of features (B, F, h, w) with whole channels dropped, image by image."""
        masks = draw_masks(len(features), features.shape[1], self.rate, self._generator)
        logits: Tensor = net.head(features * masks[:, :, None, None])
        return logits


class DenseISDA(DenseCrossEntropy):
    """Cross entropy under implicit augmentation of all pixels' features; its strength grows as λ = λ0 * epoch / epochs.

    The augmentation is at the features' resolution, by the targets nearest to them, and is enlarged with the logits;
    the loss is at the targets'. Features get gradient through the logits only; the last layer's weight also through Q;
    Σ is a constant. The estimate starts from nothing with each training.

    It bounds the expected cross entropy where a target is that of its neighborhood on the map. At an edge a pixel also
    gets augmentation that was meant for the target next to it, and the loss may fall below plain cross entropy.
    """

    def __init__(self, strength: float, covariance: str = "diag") -> None:
        """strength: λ0 >= 0; covariance: "diag" or "full". Raises ValueError."""
        super().__init__()
        if not strength >= 0.0:
            raise ValueError(f"the strength of ISDA must be 0 or more, got {strength}")
        covariance_shape(covariance, 1, 1)
        self.strength = strength
        self.kind = covariance
        self.estimator: CovarianceEstimator | None = None

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        super().begin(net, data, runtime)
        self.estimator = estimator_for(net, self.kind)

    def logits(self, net: TaskNet, features: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Augmented logits (B, C, h, w); takes the features into the estimate. Raises RuntimeError before `begin`."""
        if self.estimator is None:
            raise RuntimeError("DenseISDA.begin must be called before the first loss")
        logits: Tensor = net.head(features)
        nearest = targets_at(targets, *features.shape[2:])
        update_from_pixels(self.estimator, features.detach(), nearest)
        if progress == 0.0 or self.strength == 0.0:
            return logits
        table = semantic_table(net.head.weight.flatten(1), self.estimator.covariance[:-1])
        return isda_logits(logits, nearest, table, self.strength * progress)
