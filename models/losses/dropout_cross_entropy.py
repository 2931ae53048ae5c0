"""Training with dropout between the penultimate features and the head (`models.inference.dropout` says why there), or
at several stages (`models.inference.stage_dropout`).

Axis letters: B batch, C classes, F features.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from models.data import CycleData, Runtime
from models.inference.dropout import draw_masks
from models.inference.stage_dropout import draw_stage_masks, thinned_logits
from models.losses.objectives import Objective
from models.networks.base import TaskNet


class DropoutCrossEntropy(Objective):
    """Mean loss of the head on the labeled batch's features, a `rate` of which is dropped at each step; with `stages`,
    as many of the channels of each stage, too.

    The masks come from the runtime, a new one for each image at each step. The trunk is trained through what is left.
    """

    def __init__(
        self,
        rate: float,
        loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
        *,
        stages: bool = False,
    ) -> None:
        """rate: in [0, 1); loss: logits (B, C), targets (B, ...) -> scalar."""
        self.rate = rate
        self.stages = stages
        self._loss = loss

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        self._generator = runtime.generator("dropout")

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar in nats; targets as the loss function takes them."""
        if self.stages:
            masks = draw_stage_masks(net, len(images), self.rate, self._generator)
            return self._loss(thinned_logits(net, images, masks), targets)
        features = net.features(images)
        mask = draw_masks(len(features), features.shape[1], self.rate, self._generator)
        return self._loss(net.head(features * mask), targets)
