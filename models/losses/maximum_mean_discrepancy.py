"""How far codes are from a standard normal distribution, by their maximum mean discrepancy: what a Wasserstein
autoencoder has in place of a KL term.

Tolstikhin, Bousquet, Gelly & Schoelkopf, Wasserstein Auto-Encoders (ICLR 2018), "WAE" below, algorithm 2.

Axis letters: B batch, Z latent.
"""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_multiquadratics(one: Tensor, other: Tensor) -> Tensor:
    """k(x, y) = c / (c + ||x - y||²) with c = 2 Z, the expected squared distance of two draws from a standard normal
    distribution (WAE, section 4): (A, Z), (B, Z) -> (A, B)."""
    scale = 2.0 * one.shape[1]
    squared = (one[:, None] - other[None]).square().sum(dim=2)
    return scale / (scale + squared)


def maximum_mean_discrepancy(codes: Tensor, draws: Tensor) -> Tensor:
    """The unbiased estimate from codes (B, Z) and as many draws (B, Z) from the prior, scalar; it may be negative
    (WAE, algorithm 2). Raises ValueError for fewer than two of them, or unequal numbers.
    """
    count = len(codes)
    if count < 2 or codes.shape != draws.shape:
        raise ValueError(f"two or more codes and as many draws are needed, got {codes.shape} and {draws.shape}")
    apart = 1.0 - torch.eye(count, device=codes.device, dtype=codes.dtype)  # no code is compared with itself
    within = (inverse_multiquadratics(codes, codes) + inverse_multiquadratics(draws, draws)) * apart
    return within.sum() / (count * (count - 1)) - 2.0 * inverse_multiquadratics(codes, draws).mean()
