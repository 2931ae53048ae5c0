"""What a network of several classes an image is trained on: binary cross entropy of each class.

Axis letters: B batch, C classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from models.losses.objectives import HeadLoss, Objective
from models.networks.base import TaskNet


def image_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of -t log σ(z) - (1 - t) log(1 - σ(z)) in nats, (B,).

    logits (B, C) float; targets (B, C) of the same dtype, in [0, 1].
    """
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


class BinaryCrossEntropy(Objective):
    """Mean over the labeled batch and the classes of each class's binary cross entropy.

    The mean and not the sum over the classes, so that the loss, and the learning rate that suits it, do not grow with
    their number.
    """

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar in nats; targets (B, C) float32, 0 or 1."""
        return functional.binary_cross_entropy_with_logits(net(images), targets)

    def on_features(self, net: TaskNet, features: Tensor, targets: Tensor) -> HeadLoss:
        """Summed over the classes too: each is a regression of its own."""

        def loss(weight: Tensor, bias: Tensor) -> Tensor:
            logits = functional.linear(features, weight, bias)
            return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")

        return loss
