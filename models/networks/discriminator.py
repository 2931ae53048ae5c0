"""VAAL's discriminator: does a latent code come from the labeled or from the unlabeled images? And its relatives:
TA-VAAL's, which sees a number alongside the code, SRAAL's, which is deeper, and one that looks at the image itself.

Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019); equation numbers are the extended
abstract's. State: labeled = 1, unlabeled = 0. Everything is in logits, which neither saturate nor tie.

Axis letters: B batch, Z latent, K numbers alongside the latent, S side of the working size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.precision import ReducedScoring
from models.networks.vae import VAEConfig, encoder_trunk, flat_size, with_condition

HIDDEN = 512

Net = TypeVar("Net", bound=nn.Module)


class Discriminator(nn.Module):
    """Linear layers of 512: latent means (B, Z) and, where K > 0, a condition (B, K) -> logits (B,) of "labeled"."""

    def __init__(self, latent: int, condition: int = 0, hidden: int = 2) -> None:
        """hidden: how many layers before the last; VAAL and TA-VAAL have 2, SRAAL 4."""
        super().__init__()
        widths = [latent + condition, *[HIDDEN] * hidden]
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers.extend([nn.Linear(before, after), nn.ReLU()])
        self.layers.append(nn.Linear(HIDDEN, 1))

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B,) of "labeled" from codes (B, Z) and a condition (B, K)."""
        logits: Tensor = self.layers(with_condition(latent, condition))
        return logits.squeeze(1)


class ImageDiscriminator(ReducedScoring):
    """The convolutions of VAAL's encoder, or the hidden layers of one of features, and one linear layer: (B, 3, S, S)
    or (B, P) -> logits (B,) float32 of "labeled"."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk, channels = encoder_trunk(config)
        self.last = nn.Linear(flat_size(config, channels), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) float32 of "labeled" from images (B, 3, S, S)."""
        flat = self.flat_maps(self.trunk, x)
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.last(flat)
        return logits.squeeze(1)


def build_discriminator(latent: int, generator: torch.Generator, condition: int = 0, hidden: int = 2) -> Discriminator:
    """On the CPU, Kaiming-normal weights and zero biases, drawn from `generator` (a CPU one) alone."""
    with torch.device("meta"):
        discriminator = Discriminator(latent, condition, hidden)
    return _initialized(discriminator, generator)


def build_image_discriminator(config: VAEConfig, generator: torch.Generator) -> ImageDiscriminator:
    """On the CPU, initialized as the other; of the configuration, size and width count."""
    with torch.device("meta"):
        discriminator = ImageDiscriminator(config)
    return _initialized(discriminator, generator)


def _initialized(net: Net, generator: torch.Generator) -> Net:
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def discriminator_loss(labeled: Tensor, unlabeled: Tensor) -> Tensor:
    """-E log D(z_L) - E log(1 - D(z_U)) from logits (B,) and (B,): scalar (equation 3)."""
    return functional.softplus(-labeled).mean() + functional.softplus(unlabeled).mean()


def adversarial_loss(labeled: Tensor, unlabeled: Tensor) -> Tensor:
    """-E log D(z_L) - E log D(z_U), what the encoder minimizes, from logits (B,) and (B,): scalar (equation 2)."""
    return functional.softplus(-labeled).mean() + functional.softplus(-unlabeled).mean()


def relabeled_loss(labeled: Tensor, unlabeled: Tensor, uncertainty: Tensor) -> Tensor:
    """SRAAL's L_D from logits (B,) and (B,) and the uncertainty u (B,) of the unlabeled: scalar.

    Binary cross entropy with the state 1 for the labeled and 1 - u for the unlabeled, so that the certain ones count
    as nearly labeled. (The paper has the states the other way round, 0 and u; D is then 1 - D.) u = 1 is VAAL's.
    """
    of_unlabeled = functional.softplus(unlabeled) - (1 - uncertainty) * unlabeled
    return functional.softplus(-labeled).mean() + of_unlabeled.mean()
