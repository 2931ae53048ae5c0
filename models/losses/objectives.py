"""What the task network is trained on: the interface, and plain cross entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from models.data import CycleData, Runtime
from models.networks.base import TaskNet

HeadLoss = Callable[[Tensor, Tensor], Tensor]
"""Weight (C, F) and bias (C,) of a head -> a loss, ()."""


class Objective(ABC):
    """The loss that `models.training.task_network.train_network` minimizes. One object serves one training run, of a
    network and on data of the kind of task that it is for.
    """

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Networks alongside the task network that the same optimizer trains on the same loss; asked for once, after
        `begin`. They are on `runtime.device` by then, in training mode during an epoch and in eval mode afterwards.
        """
        return ()

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:  # noqa: B027 - most have nothing to do
        """Called once before the first step, `net` on `runtime.device`: make buffers, reset estimates."""

    @abstractmethod
    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar loss of one batch.

        images (B, 3, H, W) normalized float, augmented; targets of the task's `examples`: (B,) int64 classes, (B, C)
        float32 choices, or masks (B, H, W) uint8; both on the device.
        progress = epoch / epochs with epochs counted from 0: 0.0 throughout the first epoch, always < 1.
        `net` is in training mode. `net.features` returns float32 whatever precision it computes in, so losses
        need no care for mixed precision. Must not synchronize with the host (.item(), .cpu(), boolean masks).
        """

    def on_features(self, net: TaskNet, features: Tensor, targets: Tensor) -> HeadLoss | None:
        """The same loss as a function of the head alone, for features (L, F) that stay, summed over their labels: what
        `models.training.head` minimizes. Convex. None where it is not to be had, and steps have to do. Called after
        `begin`, with the features and the targets of all labeled rows.
        """
        return None

    def after_epoch(self, net: TaskNet, progress: float, learning_rate: float) -> None:  # noqa: B027 - most have nothing to do
        """Called after each pass over the labeled rows, with its `progress` and the rate of its last step: the
        place for steps on other rows. `net` and `networks` are in training mode and may be left in any.
        """

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Called once when the training is over, also when it failed: close what `begin` opened."""


class CrossEntropy(Objective):
    """Mean cross entropy of the labeled batch."""

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar in nats; targets (B,) int64."""
        return functional.cross_entropy(net(images), targets)

    def on_features(self, net: TaskNet, features: Tensor, targets: Tensor) -> HeadLoss:
        def loss(weight: Tensor, bias: Tensor) -> Tensor:
            return functional.cross_entropy(functional.linear(features, weight, bias), targets, reduction="sum")

        return loss
