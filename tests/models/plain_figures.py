"""Figures of disagreement as their papers write them, of all opinions (K, B, C) at once -> (B,): what
`models.inference.disagreement` gathers in parts is compared with these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.inference.disagreement import entropy


def consensus(log_p: Tensor) -> Tensor:
    """log p̄_c = log (1/K) sum_k p_kc: (K, B, C) -> (B, C)."""
    return log_p.logsumexp(dim=0) - math.log(len(log_p))


def max_entropy(log_p: Tensor) -> Tensor:
    return entropy(consensus(log_p))


def bald(log_p: Tensor) -> Tensor:
    return (max_entropy(log_p) - entropy(log_p).mean(dim=0)).clamp_min(0.0)


def shares(log_p: Tensor) -> Tensor:
    """V_c / K of the votes, (B, C); NaN where an opinion is."""
    votes = torch.nn.functional.one_hot(log_p.argmax(dim=-1), log_p.shape[-1]).double().mean(dim=0)
    return votes + 0.0 * log_p.amax(dim=(0, 2), keepdim=False)[:, None]


def variation_ratio(log_p: Tensor) -> Tensor:
    return 1.0 - shares(log_p).amax(dim=-1)


def vote_entropy(log_p: Tensor) -> Tensor:
    return torch.special.entr(shares(log_p)).sum(dim=-1)


def mean_std(log_p: Tensor) -> Tensor:
    return log_p.exp().std(dim=0, correction=0).mean(dim=-1)
