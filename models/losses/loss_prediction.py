"""A module alongside the task network that predicts the loss of an image, and the two losses that train it.

Yoo & Kweon, Learning Loss for Active Learning (CVPR 2019), "LL" below; Kim, Park, Kim & Chun, Task-Aware Variational
Adversarial Active Learning (CVPR 2021), "TA-VAAL", whose ranker is the same module under another loss.

Losses shrink while the task network learns, so neither loss compares a prediction with a number: both look at pairs of
images and ask only which of the two has the larger loss. That makes them blind to a shift of all predictions.

Axis letters: B batch, P pairs = B // 2, T_k channels of tap k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import CycleData, Runtime
from models.losses.objectives import Objective
from models.networks.base import TaskNet

# predictions (B,), losses (B,) -> scalar
PairLoss = Callable[[Tensor, Tensor], Tensor]


class LossPredictor(nn.Module):
    """LL, section 3.2 and figure 2: the stages of the task network, pooled -> one number an image.

    taps: as many as `tap_channels`, each (B, T_k), pooled already (`Classifier.features_and_taps`) -> (B,) float32.
    Each tap goes through a linear layer of its own and a ReLU; side by side they meet in a last linear layer. With the
    paper's taps (64, 128, 256, 512) and width 128 that is 123,905 parameters.
    """

    def __init__(self, tap_channels: Sequence[int], width: int = 128) -> None:
        super().__init__()
        self.tap_channels = tuple(tap_channels)
        self.width = width
        self.branches = nn.ModuleList(nn.Linear(channels, width) for channels in self.tap_channels)
        self.last = nn.Linear(len(self.tap_channels) * width, 1)

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """Taps (B, T_k) -> predicted losses (B,) float32, on a scale of the module's own."""
        seen = [functional.relu(branch(tap)) for branch, tap in zip(self.branches, taps, strict=True)]
        predicted: Tensor = self.last(torch.cat(seen, dim=1))
        return predicted.squeeze(1)


def build_loss_predictor(tap_channels: Sequence[int], width: int, generator: torch.Generator) -> LossPredictor:
    """On the CPU, PyTorch's default initialization of linear layers, drawn from `generator` (a CPU one) alone."""
    with torch.device("meta"):
        predictor = LossPredictor(tap_channels, width)
    predictor.to_empty(device="cpu")
    for module in predictor.modules():
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    return predictor


def pair_differences(values: Tensor) -> Tensor:
    """v_i - v_j for the pairs (i, B - 1 - i): (B,) -> (P,). Of an odd batch the row in the middle has no partner and
    is left out; the batches are shuffled, so it is another one each time."""
    pairs = len(values) // 2
    return values[:pairs] - values.flip(0)[:pairs]


def margin_loss(predicted: Tensor, losses: Tensor, margin: float) -> Tensor:
    """Mean over the pairs of max(0, -s (l̂_i - l̂_j) + ξ), scalar; s = 1 where l_i > l_j, else -1 (LL, equation 2).

    predicted (B,), losses (B,), margin ξ >= 0. The losses are constants. Equal losses count as l_i < l_j, as in the
    paper. Zero once every pair is in order and ξ or more apart; 0 for a single row.
    """
    if len(predicted) < 2:
        return 0.0 * predicted.sum()
    sign = torch.where(pair_differences(losses.detach()) > 0, 1.0, -1.0)
    return functional.relu(margin - sign * pair_differences(predicted)).mean()


def ranking_loss(predicted: Tensor, losses: Tensor) -> Tensor:
    """Mean over the pairs of the binary cross entropy of σ(r_i - r_j) against 1[L_i > L_j], scalar (TA-VAAL's
    supplement, "learning loss v2"; Burges et al., ICML 2005).

    predicted (B,), losses (B,). The losses are constants. Equal losses have the target 1/2, which asks for equal
    predictions; the authors' code takes 0, so that there the order of the batch decides. 0 for a single row.
    """
    if len(predicted) < 2:
        return 0.0 * predicted.sum()
    target = 0.5 + 0.5 * pair_differences(losses.detach()).sign()
    return functional.binary_cross_entropy_with_logits(pair_differences(predicted), target)


class LossPrediction(Objective):
    """Mean cross entropy + weight * pair loss of the predictions (LL, equation 1; TA-VAAL's L_T).

    The module is trained by the task network's optimizer. Its gradient also reaches the trunk, through the taps, up to
    and with the epoch at `progress` = stop (epoch 120 of 200 in both papers' code), and no longer afterwards. What the
    loss of an image is, the kind of task says (`models.tasks.base.Task.losses`).
    """

    def __init__(self, predictor: LossPredictor, pair_loss: PairLoss, weight: float = 1.0, stop: float = 0.6) -> None:
        """predictor: on the device of the training; pair_loss: `ranking_loss`, or `margin_loss` with its margin."""
        self.predictor = predictor
        self.pair_loss = pair_loss
        self.weight = weight
        self.stop = stop
        self._class_weight: Tensor | None = None

    @property
    def networks(self) -> Sequence[nn.Module]:
        return (self.predictor,)

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        """Raises ValueError when the module was made for other taps."""
        if self.predictor.tap_channels != net.tap_channels:
            raise ValueError(f"the module reads taps of {self.predictor.tap_channels}, the net has {net.tap_channels}")
        self._class_weight = net.task.class_weight(data, runtime.device)

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar: the task's own loss in nats + weight * pair loss; targets as the task's `losses` takes them."""
        features, taps = net.features_and_taps(images)
        mean, losses = net.task.losses(net.head(features), targets, self._class_weight)
        if progress > self.stop:
            taps = tuple(tap.detach() for tap in taps)
        return mean + self.weight * self.pair_loss(self.predictor(taps), losses)
