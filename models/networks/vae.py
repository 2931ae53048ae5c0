"""VAAL's variational autoencoder, at any width, for images of 8 px and more, and what TA-VAAL and SRAAL add to it.

Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019); layers as in the authors' code. At
width 128, latent 32 and 32 px it has 22,835,139 parameters, as theirs. TA-VAAL (Kim et al., CVPR 2021) gives the
decoder one number more than the latent, SRAAL (Zhang et al., CVPR 2020) gives half of the latent to a classifier.

Axis letters: B batch, Z latent, K numbers alongside the latent, C classes, H W pixels, S side of the working size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.precision import ReducedScoring
from models.pixels import normalize

WORKING_SIZES = (32, 64)
ENCODED_SIDE = 2  # side of the encoder's last feature map
DIRECTIONS = 128  # of features, that an autoencoder of features codes
DECODED_SIDE = 4  # side of the decoder's first one
CLASSIFIER_WIDTHS = (1024, 256)  # of SRAAL's classifier of latent halves
KL_REDUCTIONS = ("mean", "sum", "elements")
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of the authors' normalization: pixels in [-1, 1]


def working_size(image_size: int) -> int:
    """Side at which images are encoded: 32 for images up to 32 px, else 64.

    The papers' own sizes. Larger images are averaged down: the autoencoder has to tell kinds of images apart, not
    to draw their details, and at 224 px one step would cost twelve times as much.
    """
    return next((size for size in WORKING_SIZES if image_size <= size), WORKING_SIZES[-1])


@dataclass(frozen=True)
class VAEConfig:
    """All that is needed to build the networks again.

    image_size: the working size, 32 or 64; width: channels after the first convolution (paper: 128); latent: Z;
    condition: K, how many numbers the decoder is given alongside the latent; classes: C where the second half of the
    latent is a classifier's and only the first the decoder's, 0 where all of it is the decoder's; features: F of the
    task network where those are coded in place of images, in P directions (`models.networks.projection`); then
    image_size is 0, width that of two hidden layers, and where an image (B, 3, S, S) is spoken of, it is (B, P).
    """

    image_size: int
    width: int
    latent: int
    condition: int = 0
    classes: int = 0
    features: int = 0

    @property
    def directions(self) -> int:
        """P, 0 for images."""
        return min(DIRECTIONS, self.features)

    @property
    def decoded(self) -> int:
        """How many values of the latent are the decoder's, counted from the first."""
        return self.latent - self.latent // 2 if self.classes else self.latent

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VAEConfig:
        return cls(**values)


class Encoder(ReducedScoring):
    """Convolutions of stride 2 down to 2 x 2: w, 2w, 4w, 8w channels, and once more 8w at 64 px.

    forward(x): (B, 3, S, S) -> means (B, Z) and logarithms of variances (B, Z), float32. `means` gives only those.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.trunk, channels = encoder_trunk(config)
        flat = flat_size(config, channels)
        self.mean = nn.Linear(flat, config.latent)
        self.log_variance = nn.Linear(flat, config.latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) -> means and logarithms of variances of their codes, (B, Z) each, float32."""
        flat = self.flat_maps(self.trunk, x)
        with torch.autocast(x.device.type, enabled=False):  # the discriminator sees all digits
            return self.mean(flat), self.log_variance(flat)

    def means(self, x: Tensor) -> Tensor:
        """The means alone."""
        flat = self.flat_maps(self.trunk, x)
        with torch.autocast(x.device.type, enabled=False):
            means: Tensor = self.mean(flat)
        return means


class Decoder(nn.Module):
    """The way back, (B, Z + K) -> (B, 3, S, S) float32, with nothing after the last convolution."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        if config.features:
            self.first = nn.Linear(config.decoded + config.condition, config.width)
            hidden = nn.Linear(config.width, config.width)
            self.layers = nn.Sequential(nn.ReLU(), hidden, nn.ReLU(), nn.Linear(config.width, config.directions))
            self.maps = False
            return
        self.maps = True
        stages = round(math.log2(config.image_size / DECODED_SIDE))
        channels_in = 8 * config.width
        self.first = nn.Linear(config.decoded + config.condition, channels_in * DECODED_SIDE**2)
        self.layers = nn.Sequential()
        for stage in reversed(range(stages)):
            channels = config.width << min(stage, 3)
            self.layers.extend(_doubling(channels_in, channels))
            channels_in = channels
        self.layers.append(nn.ConvTranspose2d(channels_in, 3, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """Codes with their condition (B, Z + K) -> images (B, 3, S, S) float32."""
        maps = self.first(latent)
        if self.maps:
            maps = maps.unflatten(1, (-1, DECODED_SIDE, DECODED_SIDE))
            maps = maps.contiguous(memory_format=torch.channels_last)
        images: Tensor = self.layers(maps).float()
        return images


def encoder_trunk(config: VAEConfig) -> tuple[nn.Sequential, int]:
    """The encoder's convolutions, (B, 3, S, S) -> (B, channels, 2, 2), and their channels; of features its hidden
    layers, (B, P) -> (B, channels)."""
    if config.features:
        first, second = nn.Linear(config.directions, config.width), nn.Linear(config.width, config.width)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU()), config.width
    trunk, channels_in = nn.Sequential(), 3
    for stage in range(round(math.log2(config.image_size / ENCODED_SIDE))):
        channels = config.width << min(stage, 3)
        trunk.extend(_halving(channels_in, channels))
        channels_in = channels
    return trunk, channels_in


def flat_size(config: VAEConfig, channels: int) -> int:
    """How many numbers of an image leave a trunk of so many channels."""
    return channels if config.features else channels * ENCODED_SIDE**2


def _halving(channels_in: int, channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _doubling(channels_in: int, channels: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(channels_in, channels, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class Coded(NamedTuple):
    """Images that went through the autoencoder: reconstruction (B, 3, S, S), the others (B, Z); all float32."""

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor
    latent: Tensor


class VAE(nn.Module):
    """Encoder, decoder and, where the configuration has classes, a classifier of the latent's second half.

    forward(x, generator, condition) -> `Coded`; x (B, 3, S, S), condition (B, K) where K > 0. The encoder never sees
    the condition. classify(latent): (B, Z) -> logits (B, C), of the second half alone.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.classifier = _classifier(config) if config.classes else None

    def forward(self, x: Tensor, generator: torch.Generator, condition: Tensor | None = None) -> Coded:
        """Encode, draw and decode images (B, 3, S, S); condition (B, K) where K > 0."""
        mean, log_variance = self.encoder(x)
        latent = draw_latent(mean, log_variance, generator)
        decoded = with_condition(latent[:, : self.config.decoded], condition)
        return Coded(self.decoder(decoded), mean, log_variance, latent)

    def classify(self, latent: Tensor) -> Tensor:
        """Logits (B, C) from the second half of latents (B, Z). Raises ValueError without a classifier."""
        if self.classifier is None:
            raise ValueError("this autoencoder was built without classes")
        logits: Tensor = self.classifier(latent[:, self.config.decoded :])
        return logits


def _classifier(config: VAEConfig) -> nn.Sequential:
    """SRAAL's: Z / 2 -> 1024 -> 256 -> C, as in the authors' code."""
    first, second = CLASSIFIER_WIDTHS
    layers = [nn.Linear(config.latent - config.decoded, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(second, config.classes))


def with_condition(codes: Tensor, condition: Tensor | None) -> Tensor:
    """What a network is given of codes (B, Z) and a condition (B, K): (B, Z + K), or the codes alone without one."""
    return codes if condition is None else torch.cat([codes, condition], dim=1)


def build_vae(config: VAEConfig, generator: torch.Generator) -> VAE:
    """On the CPU, initialized from `generator` (a CPU one) alone.

    As in the authors' code: Kaiming-normal for the encoder's convolutions and the decoder's linear layer, PyTorch's
    defaults for the rest. Raises ValueError for a size, width or latent that does not exist.
    """
    if (not config.features and config.image_size not in WORKING_SIZES) or config.width < 1 or config.latent < 1:
        raise ValueError(f"image_size must be one of {WORKING_SIZES}, width and latent at least 1, got {config}")
    if config.classes and config.latent < 2:
        raise ValueError(f"a latent in two halves needs two values or more, got {config}")
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
    """(B, H, W, 3) uint8 to (B, 3, S, S) float32 in [-1, 1] with S = size, channels_last.

    Images that are larger in one direction are averaged over areas, smaller ones interpolated. Those that are not
    square are compressed to one.
    """
    x = normalize(images, HALF, HALF)
    if max(x.shape[2:]) > size:
        x = functional.interpolate(x, size=(size, size), mode="area")
    elif min(x.shape[2:]) < size:
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


def negative_elbo(
    reconstruction: Tensor, kl: Tensor, pixel_values: int, latent: int, beta: float, reduction: str
) -> Tensor:
    """-ELBO of one stream, scalar (equation 1, whose sign it turns).

    reconstruction (B,) mean squared errors and kl (B,); pixel_values = 3 S S; latent = Z.

    reduction "mean": squared error summed over the pixels plus β times the KL summed over the latent, both averaged
    over the batch: an ELBO. Compared with it the adversarial term is a gentle push.
    "sum": mean squared error plus β times the KL summed over latent and batch, the authors' code to the letter. The KL
    weighs batch * pixel_values as much there, so that the latent may soon carry nothing (posterior collapse), and the
    adversarial term weighs pixel_values as much.
    "elements": mean squared error plus β times the KL's mean over batch and latent, TA-VAAL's code to the letter. The
    KL weighs pixel_values / Z and the adversarial term pixel_values as much as under "mean".

    Raises ValueError for another reduction.
    """
    if reduction == "mean":
        return pixel_values * reconstruction.mean() + beta * kl.mean()
    if reduction == "sum":
        return reconstruction.mean() + beta * kl.sum()
    if reduction == "elements":
        return reconstruction.mean() + beta * kl.mean() / latent
    raise ValueError(f"unknown KL reduction {reduction!r}: choose one of {', '.join(KL_REDUCTIONS)}")
