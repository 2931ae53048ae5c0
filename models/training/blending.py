"""Learning from images that nobody has labeled: probabilities that spread over the neighbor graph, beside a head's.

How much of what spreads is worth having is told by the folds that the head's penalty is chosen with. Where it is worth
anything, a head is trained on the labels and on what the blend of both says of a part of the pool. So it stays a head:
every sampler, every checkpoint and every new image has the same of it, and scoring costs what it did.

Axis letters: L labels, G rows of the pool, F features, C classes, K folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.geometry.directions import main_directions
from models.losses.objectives import HeadLoss
from models.training.calibration import LeftOut, fitted_temperature
from models.training.logistic import CrossValidation, can_be_told
from models.training.spreading import neighbor_graph, spread

MOST_ROWS, MOST_LABELS = 1_000, 300
"""Rows of the pool in the graph, beside those of the labels; of more labels nothing spreads."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the spread probabilities in the blend; none wins ties."""
_LEAST = 1e-6


@dataclass(frozen=True)
class Blend:
    """share: of the spread probabilities, above 0. features (G, F): of the rows of the pool. spread (G, C): what they
    are told. left_out: what the blend says of the labels that were left out."""

    share: float
    features: Tensor
    spread: Tensor
    left_out: LeftOut

    def loss(self, head_loss: HeadLoss, weight: Tensor, bias: Tensor) -> HeadLoss:
        """A head's loss on the labels and, for each row of the pool, the cross entropy of what the blend says of it
        with the head `weight` (C, F) and `bias` (C,); summed over both."""
        exclusive, features = self.left_out.exclusive, self.features
        own = _probabilities(functional.linear(features, weight, bias), exclusive)
        told = ((1 - self.share) * own + self.share * self.spread).detach()

        def loss(weight: Tensor, bias: Tensor) -> Tensor:
            logits = functional.linear(features, weight, bias)
            if exclusive:
                of_pool = functional.cross_entropy(logits, told, reduction="sum")
            else:
                of_pool = functional.binary_cross_entropy_with_logits(logits, told, reduction="sum")
            return head_loss(weight, bias) + of_pool

        return loss


def blended(
    labeled: Tensor,
    pool: Tensor,
    targets: Tensor,
    exclusive: bool,
    validated: CrossValidation,
    generator: torch.Generator,
) -> Blend | None:
    """The blend that tells labels which are left out best, by their mean cross entropy. None where that is the head
    alone, or where there are too few labels to say, more than `MOST_LABELS`, or nothing but labels.

    labeled (L, F), pool (G, F): features as they are; targets (L, C) as those of `cross_validated`, which gave
    `validated`. generator: on the CPU.
    """
    head, folds = validated.left_out, validated.folds
    if head is None or folds is None or len(labeled) > MOST_LABELS or not len(pool):
        return None
    rows = pool[:: -(-len(pool) // MOST_ROWS)]
    fold = torch.from_numpy(folds).to(targets.device)
    left_out = fold == torch.arange(int(fold.max()) + 1, device=fold.device)[:, None]  # (K, L)
    points = main_directions(torch.cat([labeled, rows]).cpu(), generator)
    spread_logits = _spread_logits(points, targets, left_out, exclusive)  # (1 + K, L + G, C)
    told = spread_logits[fold + 1, torch.arange(len(fold), device=fold.device)]
    asked = (left_out & can_be_told(left_out, targets)).any(dim=0)
    temperature = fitted_temperature(LeftOut(told[asked], targets[asked], exclusive))
    own, others = _probabilities(head.logits, exclusive), _probabilities(told / temperature, exclusive)
    blends = [(1 - share) * own + share * others for share in SHARES]
    losses = [float(_loss(blend[asked], targets[asked], exclusive)) for blend in blends]
    best = losses.index(min(losses))
    if SHARES[best] == 0:
        return None
    sure = blends[best].clamp(_LEAST, 1 - _LEAST)
    logits = sure.log() if exclusive else sure.logit()
    of_rows = _probabilities(spread_logits[0, len(fold) :] / temperature, exclusive)
    return Blend(SHARES[best], rows, of_rows, LeftOut(logits, targets, exclusive))


def _spread_logits(points: Tensor, targets: Tensor, left_out: Tensor, exclusive: bool) -> Tensor:
    """(1 + K, N, C): what points (N, D), the labeled ones first, are told by all labels, and by those without each of
    the folds. Of several choices, yes and no spread apart."""
    answers = targets if exclusive else torch.cat([targets, 1 - targets], dim=1)
    seen = torch.cat([torch.ones_like(left_out[:1]), ~left_out]).float()  # (1 + K, L)
    seeds = torch.zeros(len(points), len(seen), answers.shape[1])
    seeds[: len(targets)] = (seen.T[:, :, None] * answers[:, None, :]).cpu()
    found = (spread(neighbor_graph(points), seeds.flatten(1)) + _LEAST).log()
    logits = found.unflatten(1, seeds.shape[1:]).transpose(0, 1).to(targets.device)
    return logits if exclusive else logits[..., : targets.shape[1]] - logits[..., targets.shape[1] :]


def _probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    return logits.softmax(dim=-1) if exclusive else logits.sigmoid()


def _loss(probabilities: Tensor, targets: Tensor, exclusive: bool) -> Tensor:
    """Mean cross entropy, ()."""
    sure = probabilities.clamp(_LEAST, 1 - _LEAST)
    if exclusive:
        return -(targets * sure.log()).sum(dim=1).mean()
    return functional.binary_cross_entropy(sure, targets)
