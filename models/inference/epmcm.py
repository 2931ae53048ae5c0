"""Expected partial model change: how much a sample, with all its implicit augmentations, would move the classifier.

Chen et al., When Active Learning Meets Implicit Semantic Data Augmentation (ECCV 2022), section 3.2.

Axis letters: B batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
