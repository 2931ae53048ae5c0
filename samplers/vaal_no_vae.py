"""VAAL with a discriminator on images and nothing else: the first ablation of the extended abstract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from models.data import CycleData, Runtime
from models.networks.base import TaskNet
from models.networks.discriminator import ImageDiscriminator, build_image_discriminator
from models.networks.vae import VAEConfig
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer
from models.training.adversarial_trainers import ImageTrainer
from samplers.adversarial_base import AdversarialOptions, AdversarialSampler
from samplers.base import Scored


@dataclass(frozen=True)
class NoVaeOptions(AdversarialOptions):
    """vaal_width is that of the discriminator's convolutions, which are those of VAAL's encoder."""

    vaal_discriminator_steps: int = 1


class VaalNoVaeSampler(AdversarialSampler):
    """A discriminator trained in the image space (Sinha, Ebrahimi & Darrell, extended abstract, section 3, "eliminating
    VAE"). It has the encoder's convolutions and one linear layer; the abstract does not say what theirs has.
    """

    name: ClassVar[str] = "vaal-no-vae"
    summary: ClassVar[str] = "VAAL without its autoencoder, a discriminator on images: for comparison"
    Options: ClassVar[type[Any]] = NoVaeOptions

    def config(self, width: int) -> VAEConfig:
        return VAEConfig(self.working_size(), width, latent=1)  # there are no codes

    def build(self, config: VAEConfig, generator: torch.Generator) -> dict[str, nn.Module]:
        return {"discriminator": build_image_discriminator(config, generator)}

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), vae_steps=0)

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        return ImageTrainer(self.part(ImageDiscriminator), recipe, runtime.device)

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        discriminator = self.part(ImageDiscriminator)
        return self.order(pixels, rows, runtime, lambda images: -discriminator(images), phase)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(x), (N,), of the image itself: higher = less like the labelled images."""
        return self.score_rows(net, pixels, rows, runtime, "score")
