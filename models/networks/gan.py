"""Generative adversarial networks of the pool: a generator of images, and a critic that tells them from real ones.

Two kinds. "dcgan" (Radford, Metz & Chintala, ICLR 2016): batch normalization in both networks, binary cross entropy.
"wgan-gp" (Gulrajani et al., NeurIPS 2017): a critic without normalization, because its gradient is penalized image by
image, and the Wasserstein distance. Convolutions are of 4 px with stride 2 throughout.

Axis letters: B batch, Z latent, S side of the working size, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("wgan-gp", "dcgan")
SIZES = {28: 7, 32: 4, 64: 4}
"""Working sizes, and the side of the first and last maps of the networks at each of them."""
SLOPE = 0.2  # of LeakyReLU


def gan_size(image_size: int) -> int:
    """Side at which images are generated: the smallest working size that is not below theirs, at most 64."""
    return next((size for size in SIZES if image_size <= size), max(SIZES))


@dataclass(frozen=True)
class GANConfig:
    """All that is needed to build both networks again.

    kind: one of KINDS; image_size: S, one of SIZES; channels: 1 where all images are gray, else 3; width: channels of
    the layer next to the image; latent: Z.

    Raises ValueError for a kind, size, number of channels, width or latent that does not exist.
    """

    kind: str
    image_size: int
    channels: int
    width: int
    latent: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.image_size not in SIZES or self.channels not in (1, 3):
            raise ValueError(f"kind must be one of {KINDS}, image_size of {tuple(SIZES)}, channels 1 or 3, got {self}")
        if self.width < 1 or self.latent < 1:
            raise ValueError(f"width and latent must be at least 1, got {self}")

    @property
    def doublings(self) -> int:
        """How many times the side doubles on the way to the image."""
        return (self.image_size // SIZES[self.image_size]).bit_length() - 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GANConfig:
        return cls(**values)


class Generator(nn.Module):
    """Latents (B, Z), of N(0, 1), -> images (B, 3, S, S) float32 in [-1, 1]. Gray ones are repeated."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self._side = SIZES[config.image_size]
        channels = config.width << (config.doublings - 1)
        self.first = nn.Linear(config.latent, channels * self._side**2)
        self.layers = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        for _ in range(config.doublings - 1):
            up = nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False)
            self.layers.extend([up, nn.BatchNorm2d(channels // 2), nn.ReLU()])
            channels //= 2
        self.layers.append(nn.ConvTranspose2d(channels, config.channels, 4, stride=2, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        """Images (B, 3, S, S) float32 in [-1, 1] of latents (B, Z)."""
        maps = self.first(latent).unflatten(1, (-1, self._side, self._side))
        return torch.tanh(self.layers(maps)).expand(-1, 3, -1, -1)


class Critic(nn.Module):
    """Images (B, 3, S, S) in [-1, 1] -> how real they look (B,): a logit for "dcgan", a score for "wgan-gp"."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = nn.Sequential()
        before = config.channels
        for stage in range(config.doublings):
            channels = config.width << stage
            normalized = config.kind == "dcgan" and stage > 0
            self.trunk.append(nn.Conv2d(before, channels, 4, stride=2, padding=1, bias=not normalized))
            if normalized:
                self.trunk.append(nn.BatchNorm2d(channels))
            self.trunk.append(nn.LeakyReLU(SLOPE))
            before = channels
        self.last = nn.Linear(before * SIZES[config.image_size] ** 2, 1)

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees of images (B, 3, S, S): (B, F)."""
        features: Tensor = self.trunk(images[:, : self.config.channels]).flatten(1)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """How real images (B, 3, S, S) look: (B,)."""
        realness: Tensor = self.last(self.features(images))
        return realness.squeeze(1)


def build_gan(config: GANConfig, generator: torch.Generator) -> tuple[Generator, Critic]:
    """Both networks, on the CPU, weights of N(0, 0.02) as in the DCGAN paper, drawn from `generator` (a CPU one)."""
    with torch.device("meta"):
        networks = Generator(config), Critic(config)
    for net in networks:
        net.to_empty(device="cpu")
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return networks


def as_pixels(images: Tensor) -> Tensor:
    """Generated images (B, 3, S, S) in [-1, 1] as (B, S, S, 3) uint8."""
    return images.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def critic_loss(config: GANConfig, real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimizes, from how real (B,) real and (B,) generated images look to it: scalar.

    "wgan-gp": E D(fake) - E D(real), without the penalty. "dcgan": binary cross entropy, with 0.9 for real images
    (one-sided label smoothing, Salimans et al., NeurIPS 2016).
    """
    if config.kind == "wgan-gp":
        return fake.mean() - real.mean()
    smooth = torch.full_like(real, 0.9)
    return functional.binary_cross_entropy_with_logits(real, smooth) + functional.softplus(fake).mean()


def generator_loss(config: GANConfig, fake: Tensor) -> Tensor:
    """What the generator minimizes: -E D(fake), or -E log sigmoid D(fake) for "dcgan": scalar."""
    return -fake.mean() if config.kind == "wgan-gp" else functional.softplus(-fake).mean()


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """E (‖∇D(x)‖ - 1)² at x = real + α (fake - real), one α of [0, 1] an image, the norm over all its values: scalar
    (Gulrajani et al., equation 3). real and fake (B, 3, S, S)."""
    share = torch.rand((len(real), 1, 1, 1), generator=generator, device=real.device)
    between = (real + share * (fake - real)).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square().mean()
