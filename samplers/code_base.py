"""What those of VAAL's relatives have in common that ask a discriminator about codes, and no other network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samplers.adversarial_base import AdversarialSampler, AdversarialT
from samplers.base import Scored
from samplers.deferred import models

if TYPE_CHECKING:
    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet
    from models.training.adversarial import AdversarialRecipe, AdversarialTrainer


class CodeSampler(AdversarialSampler[AdversarialT]):
    """The discriminator is asked about the means of an encoder's codes."""

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        vae, discriminator = self.part(models.networks.vae.VAE), self.part(models.networks.discriminator.Discriminator)
        noise = runtime.generator("vaal noise")
        return models.training.adversarial_trainers.VaalTrainer(vae, discriminator, recipe, noise)

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        encoder = self.scoring_part(models.networks.vae.VAE, runtime).encoder
        discriminator = self.scoring_part(models.networks.discriminator.Discriminator, runtime)
        return self.order(net, pixels, rows, runtime, lambda images: -discriminator(encoder.means(images)), phase)
