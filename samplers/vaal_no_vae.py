"""VAAL with a discriminator on images and nothing else: the first ablation of the extended abstract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers.adversarial_base import AdversarialSampler
from samplers.adversarial_options import DiscriminatorOptions
from samplers.base import Scored
from samplers.deferred import models, torch

if TYPE_CHECKING:
    from torch import nn

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet
    from models.networks.vae import VAEConfig
    from models.training.adversarial import AdversarialRecipe, AdversarialTrainer


class VaalNoVaeSampler(AdversarialSampler[DiscriminatorOptions]):
    """A discriminator trained in the image space (Sinha, Ebrahimi & Darrell, extended abstract, section 3, "eliminating
    VAE"). It has the encoder's convolutions and one linear layer; the abstract does not say what theirs has.
    """

    name: ClassVar[str] = "vaal-no-vae"
    summary: ClassVar[str] = "an ablation of `vaal`: the discriminator sees the images themselves"
    why: ClassVar[str] = "a discriminator takes it for unlabeled: it looks unlike the labeled images"
    source: ClassVar[str] = "extended abstract of VAAL"
    trains: ClassVar[str] = "discriminator"
    Options = DiscriminatorOptions

    def config(self, width: int) -> VAEConfig:
        return models.networks.vae.VAEConfig(self.working_size(), width, latent=1)  # there are no codes

    def build(self, config: VAEConfig, generator: torch.Generator) -> Mapping[str, nn.Module]:
        return {"discriminator": models.networks.discriminator.build_image_discriminator(config, generator)}

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        discriminator = self.part(models.networks.discriminator.ImageDiscriminator)
        return models.training.adversarial_trainers.ImageTrainer(discriminator, recipe, runtime.device)

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        discriminator = self.scoring_part(models.networks.discriminator.ImageDiscriminator, runtime)
        return self.order(net, pixels, rows, runtime, lambda images: -discriminator(images), phase)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(x), (N,), of the image itself: higher = less like the labeled images."""
        return self.score_rows(net, pixels, rows, runtime, "score")
