"""What the task network is trained on: the interface, and plain cross entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor, nn
from torch.nn import functional

from models.data import CycleData, Runtime
from models.networks.classifier import Classifier

N = TypeVar("N", bound=nn.Module)


class Objective(ABC, Generic[N]):
    """The loss that `models.training.task_network.train_network` minimises, of task networks of the kind N:
    classifiers, segmenters, or either. One object serves one training run.
    """

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Networks beside the task network that the same optimiser trains on the same loss; asked for once, after
        `begin`. They are on `runtime.device` by then, in training mode during an epoch and in eval mode afterwards.
        """
        return ()

    def begin(self, net: N, data: CycleData, runtime: Runtime) -> None:
        """Called once before the first step, `net` on `runtime.device`: make buffers, reset estimates."""

    @abstractmethod
    def loss(self, net: N, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar loss of one batch.

        images (B, 3, H, W) normalised float, augmented; targets (B,) int64, of a segmenter masks (B, H, W) uint8; both
        on the device.
        progress = epoch / epochs with epochs counted from 0: 0.0 throughout the first epoch, always < 1.
        `net` is in training mode. `net.features` answers float32 whatever precision it computes in, so losses
        need no care for mixed precision. Must not synchronise with the host (.item(), .cpu(), boolean masks).
        """

    def after_epoch(self, net: N, progress: float, learning_rate: float) -> None:
        """Called after each pass over the labelled rows, with its `progress` and the rate of its last step: the
        place for steps on other rows. `net` and `networks` are in training mode and may be left in any.
        """

    def finish(self) -> None:
        """Called once when the training is over, also when it failed: close what `begin` opened."""


AnyObjective = Objective[Any]


class CrossEntropy(Objective[Classifier]):
    """Mean cross entropy of the labelled batch."""

    def loss(self, net: Classifier, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        return functional.cross_entropy(net(images), targets)
