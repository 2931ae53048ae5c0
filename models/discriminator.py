"""VAAL's discriminator: does a latent code come from the labelled or from the unlabelled images?

Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019); equation numbers are the extended
abstract's. State: labelled = 1, unlabelled = 0. Everything is in logits, which neither saturate nor tie.

Axis letters: B batch, Z latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 512


class Discriminator(nn.Module):
    """Three linear layers: latent means (B, Z) -> logits (B,) of "labelled"."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
        )

    def forward(self, latent: Tensor) -> Tensor:
        logits: Tensor = self.layers(latent)
        return logits.squeeze(1)


def build_discriminator(latent: int, generator: torch.Generator) -> Discriminator:
    """On the CPU, Kaiming-normal weights and zero biases, drawn from `generator` (a CPU one) alone."""
    with torch.device("meta"):
        discriminator = Discriminator(latent)
    discriminator.to_empty(device="cpu")
    for module in discriminator.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return discriminator


def discriminator_loss(labelled: Tensor, unlabelled: Tensor) -> Tensor:
    """-E log D(z_L) - E log(1 - D(z_U)) from logits (B,) and (B,): scalar (equation 3)."""
    return functional.softplus(-labelled).mean() + functional.softplus(unlabelled).mean()


def adversarial_loss(labelled: Tensor, unlabelled: Tensor) -> Tensor:
    """-E log D(z_L) - E log D(z_U), what the encoder minimises: scalar (equation 2)."""
    return functional.softplus(-labelled).mean() + functional.softplus(-unlabelled).mean()
