"""VAAL's variational autoencoder, at any width, for images of 8 px and more.

Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019); layers as in the authors' code. At
width 128, latent 32 and 32 px it has 22,835,139 parameters, as theirs.

Axis letters: B batch, Z latent, H W pixels, S side of the working size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.pixels import normalise

WORKING_SIZES = (32, 64)
ENCODED_SIDE = 2  # side of the encoder's last feature map
DECODED_SIDE = 4  # side of the decoder's first one
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of the authors' normalisation: pixels in [-1, 1]


def working_size(image_size: int) -> int:
    """Side at which images are encoded: 32 for images up to 32 px, else 64.

    The papers' own sizes. Larger images are averaged down: the autoencoder has to tell kinds of images apart, not
    to draw their details, and at 224 px one step would cost twelve times as much.
    """
    return next((size for size in WORKING_SIZES if image_size <= size), WORKING_SIZES[-1])


@dataclass(frozen=True)
class VAEConfig:
    """All that is needed to build the networks again.

    image_size: the working size, 32 or 64; width: channels after the first convolution (paper: 128); latent: Z.
    """

    image_size: int
    width: int
    latent: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VAEConfig:
        return cls(**values)


class Encoder(nn.Module):
    """Convolutions of stride 2 down to 2 x 2: w, 2w, 4w, 8w channels, and once more 8w at 64 px.

    forward(x): (B, 3, S, S) -> means (B, Z) and logarithms of variances (B, Z), float32. `means` gives only those.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.trunk = nn.Sequential()
        channels_in = 3
        for stage in range(round(math.log2(config.image_size / ENCODED_SIDE))):
            channels = config.width << min(stage, 3)
            self.trunk.extend(_halving(channels_in, channels))
            channels_in = channels
        flat = channels_in * ENCODED_SIDE**2
        self.mean = nn.Linear(flat, config.latent)
        self.log_variance = nn.Linear(flat, config.latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = self.trunk(x).flatten(1).float()
        with torch.autocast(x.device.type, enabled=False):  # the discriminator sees all digits
            return self.mean(flat), self.log_variance(flat)

    def means(self, x: Tensor) -> Tensor:
        flat = self.trunk(x).flatten(1).float()
        with torch.autocast(x.device.type, enabled=False):
            means: Tensor = self.mean(flat)
        return means


class Decoder(nn.Module):
    """The way back, (B, Z) -> (B, 3, S, S) float32, with nothing after the last convolution."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        stages = round(math.log2(config.image_size / DECODED_SIDE))
        channels_in = 8 * config.width
        self.first = nn.Linear(config.latent, channels_in * DECODED_SIDE**2)
        self.layers = nn.Sequential()
        for stage in reversed(range(stages)):
            channels = config.width << min(stage, 3)
            self.layers.extend(_doubling(channels_in, channels))
            channels_in = channels
        self.layers.append(nn.ConvTranspose2d(channels_in, 3, 1))

    def forward(self, latent: Tensor) -> Tensor:
        maps = self.first(latent).unflatten(1, (-1, DECODED_SIDE, DECODED_SIDE))
        maps = maps.contiguous(memory_format=torch.channels_last)
        images: Tensor = self.layers(maps).float()
        return images


def _halving(channels_in: int, channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _doubling(channels_in: int, channels: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(channels_in, channels, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class VAE(nn.Module):
    """Encoder and decoder. forward(x, generator) -> reconstruction, means, log variances."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x)
        return self.decoder(draw_latent(mean, log_variance, generator)), mean, log_variance


def build_vae(config: VAEConfig, generator: torch.Generator) -> VAE:
    """On the CPU, initialised from `generator` (a CPU one) alone.

    As in the authors' code: Kaiming-normal for the encoder's convolutions and the decoder's linear layer, PyTorch's
    defaults for the rest. Raises ValueError for a size, width or latent that does not exist.
    """
    if config.image_size not in WORKING_SIZES or config.width < 1 or config.latent < 1:
        raise ValueError(f"image_size must be one of {WORKING_SIZES}, width and latent at least 1, got {config}")
    with torch.device("meta"):  # no weight is drawn twice, none from a global generator
        vae = VAE(config)
    vae.to_empty(device="cpu")
    for module in vae.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.ConvTranspose2d | nn.Linear):
            # PyTorch's default: uniform within 1 / sqrt(fan in), which is dimension 1 times the kernel's area.
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    nn.init.kaiming_normal_(vae.decoder.first.weight, generator=generator)
    nn.init.zeros_(vae.decoder.first.bias)
    return vae


def prepare(images: Tensor, size: int) -> Tensor:
    """(B, H, H, 3) uint8 to (B, 3, S, S) float32 in [-1, 1] with S = size, channels_last.

    Larger images are averaged over areas, smaller ones interpolated.
    """
    x = normalise(images, HALF, HALF)
    if x.shape[2] > size:
        x = functional.interpolate(x, size=(size, size), mode="area")
    elif x.shape[2] < size:
        x = functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


def draw_latent(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """z = μ + σ ε with ε ~ N(0, 1) from `generator`, which lives on the tensors' device: (B, Z)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + torch.exp(0.5 * log_variance) * noise


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """D_KL( N(μ, σ²) || N(0, 1) ) in nats, summed over the latent: (B, Z), (B, Z) -> (B,) (in equation 1)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def reconstruction_error(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Squared error per pixel value, averaged within each image: (B, 3, S, S) twice -> (B,)."""
    return (reconstruction - images).square().flatten(1).mean(dim=1)


def negative_elbo(reconstruction: Tensor, kl: Tensor, pixel_values: int, beta: float, reduction: str) -> Tensor:
    """-ELBO of one stream, scalar (equation 1, whose sign it turns).

    reconstruction (B,) mean squared errors and kl (B,); pixel_values = 3 S S.

    reduction "mean": squared error summed over the pixels plus β times the KL summed over the latent, both averaged
    over the batch: an ELBO. Beside it the adversarial term is a gentle push.
    "sum": mean squared error plus β times the KL summed over latent and batch, the authors' code to the letter. The KL
    weighs batch * pixel_values as much there, so that the latent may soon carry nothing (posterior collapse), and the
    adversarial term weighs pixel_values as much.

    Raises ValueError for another reduction.
    """
    if reduction == "mean":
        return pixel_values * reconstruction.mean() + beta * kl.mean()
    if reduction == "sum":
        return reconstruction.mean() + beta * kl.sum()
    raise ValueError(f"unknown KL reduction {reduction!r}: choose mean or sum")
