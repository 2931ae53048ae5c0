"""VAAL without a discriminator: the third ablation of the extended abstract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from models.data import CycleData, Runtime
from models.networks.base import TaskNet
from models.networks.vae import VAE, Encoder, VAEConfig, build_vae
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer
from models.training.adversarial_trainers import AutoencoderTrainer
from samplers.adversarial_base import AdversarialOptions, AdversarialSampler
from samplers.base import Scored

SMALLEST = 1e-12  # squared distance; the centroid itself has a logarithm too


def wasserstein_squared(mean: Tensor, deviation: Tensor, other_mean: Tensor, other_deviation: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of Gaussians with diagonal covariances, ||μ - μ'||² + ||σ - σ'||².

    mean, deviation (B, Z), other_mean, other_deviation (Z,) -> (B,). The closed form of Givens & Shortt (1984,
    proposition 7) where the covariances commute.
    """
    return (mean - other_mean).square().sum(dim=1) + (deviation - other_deviation).square().sum(dim=1)


def posterior(encoder: Encoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the codes: (B, 3, S, S) -> (B, Z), (B, Z)."""
    mean, log_variance = encoder(images)
    return mean, torch.exp(0.5 * log_variance)


class Centroid(nn.Module):
    """A Gaussian with diagonal covariance: mean (Z,) and standard deviation (Z,). The prior's until it is set."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("deviation", torch.ones(latent))


@dataclass(frozen=True)
class WassersteinOptions(AdversarialOptions):
    """As VAAL's, of the autoencoder."""

    vaal_latent: int = 32
    vaal_beta: float = 1.0
    vaal_vae_steps: int = 2
    vaal_kl_reduction: str = "mean"


class VaalWassersteinSampler(AdversarialSampler):
    """An autoencoder, and the distance of an image's posterior from the centroid of the labelled images' (Sinha,
    Ebrahimi & Darrell, extended abstract, section 3, "eliminating D").

    The centroid is the Gaussian with the mean of their means and the mean of their standard deviations: the one with
    the least sum of squared 2-Wasserstein distances to them (Agueh & Carlier 2011, section 6.2, for variances that
    commute). It is computed after each training, with the encoder as it will score.
    """

    name: ClassVar[str] = "vaal-wasserstein"
    summary: ClassVar[str] = "VAAL without its discriminator, farthest from the labelled images' codes: for comparison"
    Options: ClassVar[type[Any]] = WassersteinOptions

    def config(self, width: int) -> VAEConfig:
        return VAEConfig(self.working_size(), width, self.options.vaal_latent)

    def build(self, config: VAEConfig, generator: torch.Generator) -> dict[str, nn.Module]:
        return {"vae": build_vae(config, generator), "centroid": Centroid(config.latent)}

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), discriminator_steps=0)

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        return AutoencoderTrainer(self.part(VAE), recipe, runtime.generator("vaal noise"))

    def finish(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        encoder, centroid = self.part(VAE).encoder, self.part(Centroid)
        means, deviations = self.measure(data.pixels, data.labeled, runtime, partial(posterior, encoder), "fit")
        centroid.mean.copy_(torch.from_numpy(means.mean(axis=0, dtype=np.float64)))
        centroid.deviation.copy_(torch.from_numpy(deviations.mean(axis=0, dtype=np.float64)))
        return {}

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        encoder, centroid = self.part(VAE).encoder, self.part(Centroid)

        def distance(images: Tensor) -> Tensor:
            squared = wasserstein_squared(*posterior(encoder, images), centroid.mean, centroid.deviation)
            return squared.clamp(min=SMALLEST).log()

        return self.order(pixels, rows, runtime, distance, phase)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log W₂²( N(μ(x), σ²(x)), centroid of the labelled ), (N,): higher = farther away. Published is
        1 / (1 + W₂²).
        """
        return self.score_rows(net, pixels, rows, runtime, "score")
