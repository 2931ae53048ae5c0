"""VAAL: ask for the image that looks least like those labelled already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from models.data import CycleData, Runtime
from models.networks.base import TaskNet
from models.networks.discriminator import Discriminator
from models.networks.vae import VAE, VAEConfig
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer
from models.training.adversarial_trainers import VaalTrainer
from samplers.adversarial_base import AdversarialSampler, GameOptions
from samplers.base import Scored


@dataclass(frozen=True)
class VaalOptions(GameOptions):
    """vaal_latent: size of the latent space (64 for ImageNet)."""

    vaal_latent: int = 32
    vaal_vae_steps: int = 2


class VaalSampler(AdversarialSampler):
    """Variational adversarial active learning (Sinha, Ebrahimi & Darrell, ICCV 2019).

    An autoencoder and a discriminator of its own, trained on all images and never on a class; the task network is
    not looked at. Both go on from the last cycle where their architecture is the same.
    """

    name: ClassVar[str] = "vaal"
    summary: ClassVar[str] = "least like the labelled images, as a discriminator on an autoencoder's codes sees it"
    Options: ClassVar[type[Any]] = VaalOptions

    def config(self, width: int) -> VAEConfig:
        return VAEConfig(self.working_size(), width, self.options.vaal_latent)

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        return VaalTrainer(self.part(VAE), self.part(Discriminator), recipe, runtime.generator("vaal noise"))

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        encoder, discriminator = self.part(VAE).encoder, self.part(Discriminator)
        return self.order(pixels, rows, runtime, lambda images: -discriminator(encoder.means(images)), phase)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(μ(x)), (N,): higher = less like the labelled images (section 2 of the extended abstract: the
        closer D is to zero, the more likely the image is unlabelled). 1 / (1 + exp(a)) is D itself.
        """
        return self.score_rows(net, pixels, rows, runtime, "score")
