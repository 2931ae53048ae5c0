"""The middle of a set of Gaussians, kept with the networks that made them.

Axis letter: Z latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Centroid(nn.Module):
    """A Gaussian with diagonal covariance: mean (Z,) and standard deviation (Z,). The prior's until it is set."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("deviation", torch.ones(latent))
