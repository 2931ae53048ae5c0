"""Two classifiers on the task network's features that are made to agree and to disagree in turn.

Fu, Yuan, Wan, Xu & Ye, Agreement-Discrepancy-Selection: Active Learning with Progressive Distribution Alignment (AAAI
2021), "ADS". While the trunk makes the two agree on unlabeled images, those come to look like labeled ones; while the
classifiers disagree on them, what still does not shows up as uncertain. This module has the classifiers and the
mathematics; `models.losses.agreement_discrepancy` trains with them.

Axis letters: B batch, C classes, F features, K prototypes of a class.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[Tensor, Tensor]  # logits (B, C) of the two classifiers; ŷ = σ(logit), one-vs-all


class PrototypeClassifier(nn.Module):
    """Features (B, F) -> logits (B, C): the cosine to the nearest of a class's K learnable prototypes, ÷ α.

    The cosine is taken after a linear layer without bias and a sigmoid. (The authors have a 1 x 1 convolution here, but
    after the global pooling, on one pixel, and that is a linear layer.) Logits lie within ± 1 / α.
    """

    def __init__(self, num_features: int, num_classes: int, prototypes: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.linear = nn.Linear(num_features, num_features, bias=False)
        self.prototypes = nn.Parameter(torch.empty(num_classes, prototypes, num_features))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) -> logits (B, C) within ± 1 / α."""
        codes = functional.normalize(torch.sigmoid(self.linear(features)), dim=1)
        directions = functional.normalize(self.prototypes, dim=2)
        cosines = codes @ directions.flatten(0, 1).T  # (B, C K)
        return cosines.unflatten(1, self.prototypes.shape[:2]).amax(dim=2) / self.alpha


class TwoClassifiers(nn.Module):
    """f1 and f2 of ADS, of the same form and with nothing in common: features (B, F) -> logits (B, C) of each."""

    def __init__(self, num_features: int, num_classes: int, prototypes: int = 3, alpha: float = 0.05) -> None:
        super().__init__()
        self.num_features = num_features
        shape = (num_features, num_classes, prototypes, alpha)
        self.first = PrototypeClassifier(*shape)
        self.second = PrototypeClassifier(*shape)

    def forward(self, features: Tensor) -> Pair:
        """Features (B, F) -> logits (B, C) of each."""
        return self.first(features), self.second(features)


def build_two_classifiers(
    num_features: int, num_classes: int, prototypes: int, alpha: float, generator: torch.Generator
) -> TwoClassifiers:
    """On the CPU, drawn from `generator` (a CPU one) alone: PyTorch's default for the linear layers, and prototypes of
    random directions and length about 1."""
    with torch.device("meta"):
        classifiers = TwoClassifiers(num_features, num_classes, prototypes, alpha)
    classifiers.to_empty(device="cpu")
    scale = 1 / math.sqrt(num_features)
    for classifier in (classifiers.first, classifiers.second):
        nn.init.uniform_(classifier.linear.weight, -scale, scale, generator=generator)
        nn.init.normal_(classifier.prototypes, std=scale, generator=generator)
    return classifiers


def one_vs_all_loss(pair: Pair, targets: Tensor) -> Tensor:
    """Binary cross entropy of each class against the rest, mean over batch and classes, summed over the classifiers:
    scalar. targets (B,) int64."""
    wanted = functional.one_hot(targets, pair[0].shape[1]).to(pair[0].dtype)
    first, second = (functional.binary_cross_entropy_with_logits(logits, wanted) for logits in pair)
    return first + second


def uncertainty(pair: Pair) -> Tensor:
    """E = (H(ŷ¹) + H(ŷ²)) / 2 in bits, (B,), between 0 and log2 C; what ADS selects by, largest first.

    H is the entropy of ŷ / Σ ŷ, as in the authors' code, whose τ that is on the scale of. The paper writes
    -Σ ŷ log ŷ, but the ŷ of one-vs-all classifiers need not sum to 1: that sum would be largest at ŷ = 1/e, and near 0,
    certainty, for an image that no class wants. (Binary entropies, summed over the classes, would have the second
    flaw as well.)
    """
    first, second = (_entropy(logits) for logits in pair)
    return 0.5 * (first + second)


def _entropy(logits: Tensor) -> Tensor:
    """Of σ(z) / Σ σ(z), in bits, from logits (B, C): (B,). By logarithms, so that no ŷ is too small for it."""
    log_share = functional.logsigmoid(logits).log_softmax(dim=1)
    return -(log_share.exp() * log_share).sum(dim=1) / math.log(2.0)


def weights(uncertain: Tensor, tau: float) -> Pair:
    """w_a = (1 - σ(E - τ)) / n and w_d = σ(E - τ) / n, each (B,), from E (B,) and n = B; constants (ADS, equations 5
    and 8). The certain ones are to agree, the uncertain ones to disagree; the two sum to 1 / n.

    The authors' code divides by 128 and then takes the mean over the batch as well, which makes the weights 128 times
    smaller than the paper's. They are the paper's here.
    """
    share = torch.sigmoid(uncertain.detach() - tau)
    return (1.0 - share) / len(share), share / len(share)


def disagreement(pair: Pair) -> Tensor:
    """(1 / C) Σ |ŷ¹ - ŷ²|, (B,), between 0 and 1: the agreement loss L_a' of a sample; 1 - L_a' is the discrepancy
    loss L_d'."""
    return (torch.sigmoid(pair[0]) - torch.sigmoid(pair[1])).abs().mean(dim=1)


def agreement_loss(pair: Pair, tau: float) -> Tensor:
    """L_a = Σ w_a L_a', scalar, from both logits (B, C) of unlabeled images: small where the certain ones are agreed
    on.
    """
    agree, _ = weights(uncertainty(pair), tau)
    return (agree * disagreement(pair)).sum()


def discrepancy_loss(pair: Pair, tau: float) -> Tensor:
    """L_d = Σ w_d L_d', scalar, from both logits (B, C) of unlabeled images: small where the uncertain ones are
    disagreed on.
    """
    _, disagree = weights(uncertainty(pair), tau)
    return (disagree * (1.0 - disagreement(pair))).sum()
