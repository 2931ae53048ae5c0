"""Expected partial model change: how much a sample, with all its implicit augmentations, would move the classifier.

Chen et al., When Active Learning Meets Implicit Semantic Data Augmentation (ECCV 2022), section 3.2.

Axis letters: B batch, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

DRAWN_AT_A_TIME = 1 << 22
"""Logits that are drawn at a time: 16 MiB of them."""


def log_bound(logits: Tensor, table: Tensor) -> Tensor:
    """Logarithm of the upper bound of the expected partial model change, (B,).

    logits (B, C) with C >= 2; table (C, C) of `models.losses.isda.semantic_table`. With ŷ = argmax z, equation 7 reads

        UB = sum_j exp( z_j - z_ŷ + ½ Q[ŷ, j] ) - 1

    (the "- 1" belongs outside of the exponent, where the paper prints it). The term of j = ŷ is exactly 1, so that
    UB is the sum over the others, and its logarithm needs no subtraction: neither very uncertain rows overflow nor
    do very confident ones, with UB below the spacing of floats at 1, come out equal.

    Without covariance UB = 1 / p_ŷ - 1. Raises ValueError for fewer than two classes: nothing could change then.
    """
    if logits.shape[1] < 2:
        raise ValueError("the partial model change needs two classes or more")
    top, predicted = logits.max(dim=1, keepdim=True)
    exponents = logits - top + 0.5 * table[predicted.squeeze(1)]
    return exponents.scatter(1, predicted, -torch.inf).logsumexp(dim=1)


def log_drawn(logits: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
    """Logarithm of the expected partial model change itself, by drawing, (B,).

    logits (B, C) with C >= 2; factors (C, C, C) of `models.losses.isda.ClassSpread.logit_factors`; noise (M, C), M
    draws from N(0, I), the same for all rows. With ŷ = argmax z and z~ = z + factors[ŷ] e, equation 5 reads

        E = (1 / M) sum_m [ 1 - softmax_ŷ( z~_m ) ],

    of which `log_bound` is a bound, since 1 - p <= 1 / p - 1. Raises ValueError for fewer than two classes.
    """
    if logits.shape[1] < 2:
        raise ValueError("the partial model change needs two classes or more")
    rows = []
    for part in logits.split(max(1, DRAWN_AT_A_TIME // noise.numel())):
        predicted = part.argmax(dim=1)
        drawn = part[:, None] + torch.einsum("mc,bkc->bmk", noise, factors[predicted])  # (B, M, C)
        # log(1 - p), which neither 1 - p = 0 nor p = 0 makes infinite in the mean
        others = drawn.scatter(2, predicted[:, None, None].expand(-1, len(noise), 1), -torch.inf).logsumexp(dim=2)
        own = drawn.gather(2, predicted[:, None, None].expand(-1, len(noise), 1)).squeeze(2)
        rows.append(functional.logsigmoid(others - own).logsumexp(dim=1))
    return torch.cat(rows) - math.log(len(noise))
