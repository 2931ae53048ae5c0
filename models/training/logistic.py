"""Multinomial logistic regression, or one regression per class, with an L2 penalty, trained to convergence; and the
choice of the penalty by cross-validation on the labels.

The penalty is |W|² / (2 c) beside the loss summed over the labels, as of a normal prior of variance c. W is the weight
of features that are standardized.

Axis letters: L labels, F features, R directions in feature space, C classes, P problems solved at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.threads import threads_for
from models.training.calibration import LeftOut

STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Variances c that cross-validation chooses from, ascending."""
USUAL_STRENGTH = 1e-1
"""Where there is nothing to choose by."""

FOLDS, FEW_FOLDS = 5, 3  # the latter for more than MANY labels
MANY = 100
MOST_COMPARED = 300  # labels that cross-validation looks at
MOST_WORK = 4e9  # multiplications of one step of all problems of cross-validation
MOST_TOLD, TELLING_WORK = 1_000, 4e8  # the same of labels that are told under one variance
COMPARING_STEPS = 60
BIAS_PENALTY = 0.1  # of a bias b: b² / 20. A class without labels gets a small probability and not none.
MOST_STEPS = 400
TOLERANCE = 1e-4  # of the largest derivative, as a share of the labels
ROUGH = 1e-3  # the same on the way from one head to another

Loss = Callable[[Tensor, Tensor], Tensor]
"""Weight (C, F) and bias (C,) of a head -> its loss, summed over the labels, ()."""


@dataclass(frozen=True)
class Scale:
    """mean and spread (F,) by which each feature is standardized."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scale:
        """Of features (N, F), N >= 1. The spread is halfway, by the geometric mean, between that of each feature and a
        common one: what varies more also says more, but by far not in proportion. On average over the features the
        standardized ones vary by 1."""
        own, mean = torch.std_mean(features, dim=0, correction=0)
        common = own.square().mean().sqrt()
        if common == 0:
            return cls(mean, own + 1.0)
        spread = (own.clamp(min=1e-3 * float(common)) * common).sqrt()
        return cls(mean, spread * (own / spread).square().mean().sqrt())

    def standardized(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.spread


def minimum(
    loss: Loss,
    scale: Scale,
    classes: int,
    strength: float,
    labels: int,
    over: Callable[[], bool],
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Weight (C, F) and bias (C,) of the head that minimizes the loss and the penalty of variance `strength`, for
    features as they are, and how many steps that took. L-BFGS (Nocedal & Wright 2006, section 7.2) from 0 to
    convergence, or from another head, `start`, until the derivatives are `ROUGH`; or until `over` says so after a step.
    """
    weight, bias = scale.mean.new_zeros(classes, len(scale.mean)), scale.mean.new_zeros(classes)
    if start is not None:
        weight, bias = start[0] * scale.spread, start[1] + start[0] @ scale.mean
    for one in (weight, bias):
        one.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=20,
        history_size=10,
        tolerance_grad=(TOLERANCE if start is None else ROUGH) * labels,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def plain() -> tuple[Tensor, Tensor]:
        own = weight / scale.spread
        return own, bias - own @ scale.mean

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * strength) + 0.5 * BIAS_PENALTY * bias.square().sum()
        total = loss(*plain()) + penalty
        total.backward()
        return total

    steps = 0
    with threads_for(labels * weight.numel()):
        while True:
            optimizer.step(evaluate)
            taken = int(optimizer.state[weight]["n_iter"])
            ended = taken - steps < 20 or taken >= MOST_STEPS
            steps = taken
            if ended or over():
                break
    with torch.no_grad():
        found_weight, found_bias = plain()
    return found_weight, found_bias, steps


@dataclass(frozen=True)
class CrossValidation:
    """The variance of the penalty that labels which were left out are told best under, and what they are told then;
    None where too few could be asked. folds (L,): which one each of these labels was left out in, where they are all.
    places: of the labels that `left_out` is of, among all.
    """

    strength: float
    left_out: LeftOut | None
    folds: np.ndarray | None = None
    places: np.ndarray | None = None


def cross_validated(features: Tensor, targets: Tensor, exclusive: bool, rng: np.random.Generator) -> CrossValidation:
    """The variance c of `STRENGTHS` under which labels that were left out are told best, by their mean loss.

    features (L, F) standardized; targets (L, C) float, rows of one 1 where classes are `exclusive`. On a random part of
    the labels, where they are many; the penalty for all of them then weighs as much beside the mean loss, not the sum.
    (On Fashion-MNIST the best c falls from 0.1 at 100 labels to 0.01 at 800.) A label whose class is in no other fold
    says nothing and is not asked. Where too little is left to ask, or the classes are so many that it would take long,
    `USUAL_STRENGTH` of that many labels.

    What the labels are told is that of the same heads or, where they learned from a part of many, of others that learn
    from a larger part: under that penalty, and closer to a head that learns from all. There a label whose class is in
    no other fold counts, as one that is told wrong: without it, a few labels of many classes seem to be told well.
    """
    labels = len(features)
    compared = _some(labels, MOST_COMPARED, rng)
    found = _compared(features[compared], targets[compared], exclusive, rng, STRENGTHS)
    strength = (USUAL_STRENGTH if found is None else found.strength) * (len(compared) / labels)
    left_out, folds = (None, None) if found is None else (found.left_out, found.folds)
    places = compared
    told = _some(labels, _most_told(targets.shape[1]), rng)
    if len(told) > len(compared) or (left_out is None and len(told) >= 2 * FOLDS):
        own = strength * (labels / len(told))
        again = _compared(features[told], targets[told], exclusive, rng, (own,))
        left_out, folds = (None, None) if again is None else (again.left_out, again.folds)
        places = told
    of_all = folds if folds is not None and len(folds) == labels else None
    return CrossValidation(strength, left_out, of_all, None if left_out is None else places.numpy())


def _some(labels: int, most: int, rng: np.random.Generator) -> Tensor:
    """Places of all labels or, where there are more, of `most` of them, ascending."""
    if labels <= most:
        return torch.arange(labels)
    return torch.from_numpy(np.sort(rng.choice(labels, most, replace=False)))


def _most_told(classes: int) -> int:
    """How many labels at most can be told by heads of one variance within `TELLING_WORK`."""
    return min(MOST_TOLD, math.isqrt(int(TELLING_WORK / (4.0 * FEW_FOLDS * classes))))


def _compared(
    features: Tensor, targets: Tensor, exclusive: bool, rng: np.random.Generator, strengths: Sequence[float]
) -> CrossValidation | None:
    """The best of the variances, and what the labels (L,) are told under it. None: it cannot be said, or would take
    long."""
    count, classes = targets.shape
    parts = FOLDS if count <= MANY else FEW_FOLDS
    folds = fold_of(targets.cpu().numpy(), parts, rng, exclusive)
    if count < 2 * parts or 4.0 * parts * len(strengths) * count * min(features.shape) * classes > MOST_WORK:
        return None
    rows, directions = in_own_directions(features)
    left_out = torch.from_numpy(folds[None, :] == np.arange(parts)[:, None]).to(features.device)  # (folds, L)
    problems = left_out.repeat_interleave(len(strengths), dim=0)  # (P, L)
    variances = torch.tensor(strengths, device=features.device).repeat(parts)
    logits = solved(rows, directions, targets, ~problems, variances, exclusive)  # (P, L, C)
    asked = left_out & can_be_told(left_out, targets)
    if int(asked.sum()) < parts:
        return None
    losses = _row_losses(logits, targets, exclusive).unflatten(0, (parts, len(strengths)))
    mean = (losses * asked[:, None, :]).sum(dim=(0, 2)) / asked.sum()
    best = int(mean.argmin())
    own_fold = torch.from_numpy(folds).to(features.device)
    told = logits.unflatten(0, (parts, len(strengths)))[own_fold, best, torch.arange(count, device=features.device)]
    return CrossValidation(strengths[best], LeftOut(told, targets, exclusive), folds)


def usual_strength(labels: int) -> float:
    """The variance c of a penalty on so many labels, where there is nothing to choose by."""
    return USUAL_STRENGTH * min(1.0, MOST_COMPARED / labels)


def can_be_told(left_out: Tensor, targets: Tensor) -> Tensor:
    """Whether all classes of each label are in the folds that are learned from, (K, L), where these labels are
    `left_out` (K, L); targets (L, C)."""
    known = (~left_out).float() @ targets > 0  # (K, C)
    return (targets @ known.T.float() >= targets.sum(dim=1, keepdim=True)).T


def fold_of(targets: np.ndarray, folds: int, rng: np.random.Generator, exclusive: bool) -> np.ndarray:
    """Which fold each label (L,) is left out in: about equally many in each and, where classes are `exclusive`, of
    each class too. targets (L, C).
    """
    order = rng.permutation(len(targets))
    if exclusive:
        order = order[np.argsort(targets[order].argmax(axis=1), kind="stable")]
    fold = np.empty(len(targets), dtype=np.int64)
    fold[order] = np.arange(len(targets)) % folds
    return fold


def row_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each label, (L,): of one class each, targets (L,) int64, or summed over the classes' own
    questions, targets (L, C) float.
    """
    if not targets.is_floating_point():
        return functional.cross_entropy(logits, targets, reduction="none")
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)


def _row_losses(logits: Tensor, targets: Tensor, exclusive: bool) -> Tensor:
    """The same (P, L) of logits (P, L, C) and targets (L, C)."""
    if exclusive:
        return -(targets * logits.log_softmax(dim=2)).sum(dim=2)
    return (functional.softplus(logits) - targets * logits).sum(dim=2)


def in_own_directions(features: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (L, R) that are the features (L, F) rotated into the directions in which they vary, R <= L, F; and the sum
    of squares (R,) along each. A head of rotated features says the same under the same penalty.
    """
    if features.shape[0] <= features.shape[1]:
        squares, left = torch.linalg.eigh(features @ features.T)
        kept = squares > 1e-6 * squares[-1].clamp(min=1e-12)
        squares = squares[kept]
        return left[:, kept] * squares.sqrt(), squares
    squares, right = torch.linalg.eigh(features.T @ features)
    return features @ right, squares.clamp(min=0.0)


@torch.no_grad()
def solved(
    rows: Tensor, squares: Tensor, targets: Tensor, learned: Tensor, variances: Tensor, exclusive: bool
) -> Tensor:
    """Logits (P, L, C) of P heads, each trained on the labels (P, L) that are `learned` by it, under its own variance.

    Gradient descent with Nesterov's momentum and restarts (O'Donoghue & Candès 2015), preconditioned by Böhning's bound
    of the second derivatives (1992), ½ XᵀX + 1/c or ¼ XᵀX + 1/c for a regression per class: it is diagonal in the
    directions of `rows` (L, R), so that a step of length 1 is never too long.
    """
    count, classes = targets.shape
    problems, bound = len(variances), 0.5 if exclusive else 0.25
    variances = variances[:, None]
    step = 1.0 / (bound * squares[:, None, None] + 1.0 / variances)  # (R, P, 1)
    step_bias = 1.0 / (bound * count + BIAS_PENALTY)
    # The problems lie side by side, (…, P, C), so that all of them are one product with the rows.
    weight = torch.zeros(rows.shape[1], problems, classes, device=rows.device)
    bias = torch.zeros(1, problems, classes, device=rows.device)
    ahead, ahead_bias, momentum = weight, bias, torch.ones(problems, 1, device=rows.device)
    mask, wanted = learned.T[:, :, None].to(rows.dtype), targets[:, None, :]
    with threads_for(rows.numel() * problems * classes):
        for _ in range(COMPARING_STEPS):
            logits = (rows @ ahead.flatten(1)).view(count, problems, classes) + ahead_bias
            said = logits.softmax(dim=2) if exclusive else logits.sigmoid()
            wrong = (said - wanted) * mask  # (L, P, C)
            slope = (rows.T @ wrong.flatten(1)).view_as(weight) + ahead / variances
            slope_bias = wrong.sum(dim=0, keepdim=True) + BIAS_PENALTY * ahead_bias
            new, new_bias = ahead - step * slope, ahead_bias - step_bias * slope_bias
            uphill = (slope * (new - weight)).sum(dim=(0, 2)) + (slope_bias * (new_bias - bias)).sum(dim=(0, 2))
            momentum = torch.where(uphill[:, None] > 0, 1.0, momentum)
            following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
            share = (momentum - 1) / following
            ahead, ahead_bias = new + share * (new - weight), new_bias + share * (new_bias - bias)
            weight, bias, momentum = new, new_bias, following
    assert math.isfinite(float(weight.sum()))
    return ((rows @ weight.flatten(1)).view(count, problems, classes) + bias).transpose(0, 1)
