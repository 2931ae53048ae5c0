"""Implicit semantic data augmentation: class covariances of the features, and the loss that uses them.

Wang et al., Implicit Semantic Data Augmentation for Deep Networks (NeurIPS 2019; TPAMI 2021), "ISDA" below; section
3.1 of Chen et al., When Active Learning Meets Implicit Semantic Data Augmentation (ECCV 2022), "DAST-AL".

Every sample of class y is thought to stand for infinitely many, spread as N(a, λ Σ_y) around its features a. The
expected cross entropy over all of them has an upper bound in closed form, and that is the loss: nothing is drawn.

Axis letters: B batch, N rows, C classes, K classes handled at a time, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.data import CycleData, Runtime
from models.losses.objectives import HeadLoss, Objective
from models.networks.base import TaskNet

COVARIANCES = ("diag", "full")
CHUNK = 1 << 24  # elements of the largest temporary tensor


def covariance_shape(kind: str, num_classes: int, num_features: int) -> tuple[int, ...]:
    """(C, F) for "diag", (C, F, F) for "full". Raises ValueError for another kind."""
    if kind not in COVARIANCES:
        raise ValueError(f"unknown covariance {kind!r}: choose one of {', '.join(COVARIANCES)}")
    return (num_classes, num_features) if kind == "diag" else (num_classes, num_features, num_features)


class CovarianceEstimator:
    """Online mean and biased covariance of the features of each class (ISDA, equations of section 3.2).

    After any number of updates the figures are those of all rows seen, in whatever order and batches they came.
    A class never seen has zero mean and covariance, one seen once has zero covariance.

    count (C,) float64; mean (C, F); covariance (C, F), the variances, for kind "diag" or (C, F, F) for "full".
    Batches are merged through their own means and never as raw second moments, so float32 is enough in training.
    """

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        kind: str = "diag",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raises ValueError for a kind other than "diag" and "full"."""
        self.kind = kind
        self.count = torch.zeros(num_classes, dtype=torch.float64, device=device)
        self.mean = torch.zeros(num_classes, num_features, dtype=dtype, device=device)
        shape = covariance_shape(kind, num_classes, num_features)
        self.covariance = torch.zeros(shape, dtype=dtype, device=device)

    @torch.no_grad()
    def update(self, features: Tensor, targets: Tensor) -> None:
        """Take in features (B, F) of the classes targets (B,) int64; never waits for a CUDA device.

        With m new rows of a class after n old ones and w = m / (m + n):
            Σ <- (1 - w) Σ + w V + w (1 - w) (μ - μ_b)(μ - μ_b)ᵀ,   μ <- (1 - w) μ + w μ_b,   n <- n + m
        where μ_b and V are mean and biased covariance of the new rows.
        """
        features = features.to(self.mean.dtype)
        # A product with a 0/1 matrix instead of index_add: on CUDA its order of summing is always the same.
        classes = torch.arange(len(self.count), device=features.device)
        member = (targets[:, None] == classes).to(features.dtype)  # (B, C)
        new = member.sum(dim=0, dtype=torch.float64)
        per_row = member / new.clamp(min=1.0).to(features.dtype)  # columns sum to 1, or to 0 without rows
        batch_mean = per_row.T @ features
        centered = features - batch_mean[targets]
        weight = (new / (new + self.count).clamp(min=1.0)).to(features.dtype)[:, None]  # w, (C, 1)
        shift = self.mean - batch_mean
        if self.kind == "diag":
            spread = per_row.T @ centered.square() + (1.0 - weight) * shift.square()
            self.covariance.lerp_(spread, weight)
        else:
            self._update_full(per_row, centered, shift, weight[:, :, None])
        self.mean.lerp_(batch_mean, weight)
        self.count += new

    def _update_full(self, per_row: Tensor, centered: Tensor, shift: Tensor, weight: Tensor) -> None:
        step = max(1, CHUNK // max(1, centered.numel()))
        for start in range(0, len(self.count), step):
            part = slice(start, start + step)
            weighted = per_row.T[part, :, None] * centered  # (K, B, F): zero but for the class's own rows
            spread = weighted.transpose(1, 2) @ centered  # V, (K, F, F)
            spread += (1.0 - weight[part]) * shift[part, :, None] * shift[part, None, :]
            self.covariance[part].lerp_(spread, weight[part])


def class_covariance(features: Tensor, targets: Tensor, num_classes: int, kind: str = "diag") -> Tensor:
    """Biased covariance of each class in one go: features (N, F), targets (N,) -> (C, F) or (C, F, F).

    Zero for classes with fewer than two rows. Waits for the device; for use outside of training steps.
    """
    result = features.new_zeros(covariance_shape(kind, num_classes, features.shape[1]))
    for index in torch.unique(targets).tolist():
        own = features[targets == index]
        centered = own - own.mean(dim=0)
        if kind == "diag":
            result[index] = centered.square().mean(dim=0)
        else:
            result[index] = centered.T @ centered / len(own)
    return result


def semantic_table(weight: Tensor, covariance: Tensor) -> Tensor:
    """Q[k, j] = (w_j - w_k)ᵀ Σ_k (w_j - w_k): (C, C), never negative, zero on the diagonal.

    weight (C, F) of the last layer; covariance (C, F) or (C, F, F). Differentiable in the weight. Depends on no
    sample, so that a batch or a whole pool costs one gather (ISDA, equation 7; DAST-AL, equation 7).
    """
    centered = weight - weight.mean(dim=0)  # Q sees differences only; smaller numbers cancel less
    table = _quadratic_diag(centered, covariance) if covariance.dim() == 2 else _quadratic_full(centered, covariance)
    off_diagonal = 1.0 - torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    return table.clamp(min=0.0) * off_diagonal


class ClassSpread(NamedTuple):
    """How the features of each class spread, and the last layer that looks at them, in float64.

    weight (C, F); covariance (C, F) or (C, F, F); rare: how many classes have too few labels for a covariance.
    """

    weight: Tensor
    covariance: Tensor
    rare: int

    def table(self) -> Tensor:
        """Q (C, C) float32 of `semantic_table`."""
        return semantic_table(self.weight, self.covariance).float()

    def logit_factors(self) -> Tensor:
        """A[k] (C, C) float32 with A[k] A[k]ᵀ = W Σ_k Wᵀ, the covariance of the logits of class k: (C, C, C). Logits
        z + A[k] e with e ~ N(0, I) are those of features drawn from N(a, Σ_k)."""
        rows = []
        for covariance in self.covariance:
            spread = (self.weight * covariance) if covariance.dim() == 1 else self.weight @ covariance
            values, vectors = torch.linalg.eigh(spread @ self.weight.T)  # Cholesky's needs full rank, which few have
            rows.append(vectors * values.clamp(min=0.0).sqrt())
        return torch.stack(rows).float()


def _quadratic_diag(weight: Tensor, variance: Tensor) -> Tensor:
    """w_jᵀ Σ_k w_j - 2 w_jᵀ Σ_k w_k + w_kᵀ Σ_k w_k as matrix products: O(C² F), no (C, C, F) tensor."""
    scaled = variance * weight  # Σ_k w_k, (C, F)
    own = (scaled * weight).sum(dim=1, keepdim=True)
    return variance @ weight.square().T - 2.0 * scaled @ weight.T + own


def _quadratic_full(weight: Tensor, covariance: Tensor) -> Tensor:
    """The same with full Σ_k: O(C² F²), a few classes at a time."""
    step = max(1, CHUNK // weight.numel())
    rows = []
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        difference = weight - weight[part, None, :]  # (K, C, F)
        rows.append(((difference @ covariance[part]) * difference).sum(dim=2))
    return torch.cat(rows)


def isda_loss(logits: Tensor, targets: Tensor, table: Tensor, strength: float) -> Tensor:
    """Mean over the batch of -log softmax_y( z_j + λ/2 Q[y, j] ), scalar (ISDA, equation 6: the bound of L_∞).

    logits (B, C), targets (B,), table (C, C) of `semantic_table`; strength λ >= 0. At λ = 0 plain cross entropy.
    """
    return functional.cross_entropy(logits + (0.5 * strength) * table[targets], targets)


class ISDA(Objective):
    """Cross entropy under implicit augmentation; its strength grows as λ = λ0 * epoch / epochs.

    Features get gradient through the logits only; the last layer's weight also through Q; Σ is a constant. The
    estimate starts from nothing with each training.
    """

    def __init__(self, strength: float, covariance: str = "diag") -> None:
        """strength: λ0 >= 0; covariance: "diag" or "full". Raises ValueError."""
        if not strength >= 0.0:
            raise ValueError(f"the strength of ISDA must be 0 or more, got {strength}")
        covariance_shape(covariance, 1, 1)
        self.strength = strength
        self.kind = covariance
        self.estimator: CovarianceEstimator | None = None

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        self.estimator = CovarianceEstimator(net.num_classes, net.feature_channels, self.kind, net.head.weight.device)

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """The bound of equation 6, scalar in nats, at λ = strength * progress; takes the features into the estimate.

        targets (B,) int64. Raises RuntimeError before `begin`.
        """
        if self.estimator is None:
            raise RuntimeError("ISDA.begin must be called before the first loss")
        features = net.features(images)
        logits = net.head(features)
        self.estimator.update(features.detach(), targets)
        if progress == 0.0 or self.strength == 0.0:
            return functional.cross_entropy(logits, targets)
        table = semantic_table(net.head.weight, self.estimator.covariance)
        return isda_loss(logits, targets, table, self.strength * progress)

    def on_features(self, net: TaskNet, features: Tensor, targets: Tensor) -> HeadLoss:
        """The bound at the whole strength, with the covariances of all labeled rows: the features stay, and so do they.
        A log-sum-exp of convex functions of the head, so convex.
        """
        covariance = class_covariance(features, targets, net.num_classes, self.kind)

        def loss(weight: Tensor, bias: Tensor) -> Tensor:
            logits = functional.linear(features, weight, bias)
            return len(features) * isda_loss(logits, targets, semantic_table(weight, covariance), self.strength)

        return loss
