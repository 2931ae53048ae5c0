"""VAAL without a discriminator: the third ablation of the extended abstract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers.adversarial_base import AdversarialSampler
from samplers.adversarial_options import ElboOptions, LatentOptions, VaeStepsOptions
from samplers.base import Scored
from samplers.deferred import models, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet
    from models.networks.vae import Encoder, VAEConfig
    from models.training.adversarial import AdversarialRecipe, AdversarialTrainer

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


@dataclass(frozen=True)
class WassersteinOptions(LatentOptions, VaeStepsOptions, ElboOptions):
    """Those of an autoencoder that is trained."""


class VaalWassersteinSampler(AdversarialSampler[WassersteinOptions]):
    """An autoencoder, and the distance of an image's posterior from the centroid of the labeled images' (Sinha,
    Ebrahimi & Darrell, extended abstract, section 3, "eliminating D").

    The centroid is the Gaussian with the mean of their means and the mean of their standard deviations: the one with
    the least sum of squared 2-Wasserstein distances to them (Agueh & Carlier 2011, section 6.2, for variances that
    commute). It is computed after each training, with the encoder as it will score.
    """

    name: ClassVar[str] = "vaal-wasserstein"
    summary: ClassVar[str] = "an ablation of `vaal`: distance to the labeled images' codes instead of a discriminator"
    why: ClassVar[str] = "its code is far from those of the labeled images"
    source: ClassVar[str] = "extended abstract of VAAL"
    trains: ClassVar[str] = "autoencoder"
    Options = WassersteinOptions

    def config(self, width: int) -> VAEConfig:
        return models.networks.vae.VAEConfig(self.working_size(), width, self.options.vaal_latent)

    def build(self, config: VAEConfig, generator: torch.Generator) -> Mapping[str, nn.Module]:
        vae = models.networks.vae.build_vae(config, generator)
        return {"vae": vae, "centroid": models.networks.centroid.Centroid(config.latent)}

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        vae, noise = self.part(models.networks.vae.VAE), runtime.generator("vaal noise")
        return models.training.adversarial_trainers.AutoencoderTrainer(vae, recipe, noise)

    def finish(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        encoder = self.scoring_part(models.networks.vae.VAE, runtime).encoder
        centroid = self.part(models.networks.centroid.Centroid)
        means, deviations = self.measure(net, data.pixels, data.labeled, runtime, partial(posterior, encoder), "fit")
        centroid.mean.copy_(torch.from_numpy(means.mean(axis=0, dtype=np.float64)))
        centroid.deviation.copy_(torch.from_numpy(deviations.mean(axis=0, dtype=np.float64)))
        return {}

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        encoder = self.scoring_part(models.networks.vae.VAE, runtime).encoder
        centroid = self.part(models.networks.centroid.Centroid)

        def distance(images: Tensor) -> Tensor:
            squared = wasserstein_squared(*posterior(encoder, images), centroid.mean, centroid.deviation)
            return squared.clamp(min=SMALLEST).log()

        return self.order(net, pixels, rows, runtime, distance, phase)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """log W₂²( N(μ(x), σ²(x)), centroid of the labeled ), (N,): higher = farther away. Published is
        1 / (1 + W₂²).
        """
        return self.score_rows(net, pixels, rows, runtime, "score")
