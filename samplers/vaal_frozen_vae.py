"""VAAL with an autoencoder that is never trained: the second ablation of the extended abstract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from models.data import CycleData, Runtime
from models.networks.base import TaskNet
from models.networks.vae import VAE, settle_statistics
from models.training.adversarial import AdversarialRecipe
from samplers.adversarial_base import AdversarialOptions
from samplers.base import Scored
from samplers.vaal import VaalSampler

SETTLING_ROWS = 1000


@dataclass(frozen=True)
class FrozenOptions(AdversarialOptions):
    """vaal_latent: size of the latent space."""

    vaal_latent: int = 32
    vaal_discriminator_steps: int = 1


class VaalFrozenVaeSampler(VaalSampler):
    """VAAL's discriminator on the codes of an autoencoder as it was initialised (Sinha, Ebrahimi & Darrell, extended
    abstract, section 3, "Frozen VAE with D").

    What is never trained has no batch statistics either. They are set once, when the autoencoder is made: means and
    variances over up to 1,000 images drawn from both sets; from then on they stand still like the weights, from cycle
    to cycle. Without them the codes would lie on a scale that the initialisation alone decides.
    """

    name: ClassVar[str] = "vaal-frozen-vae"
    summary: ClassVar[str] = "VAAL without its training of the autoencoder: for comparison"
    Options: ClassVar[type[Any]] = FrozenOptions

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), vae_steps=0)

    def begin(self, data: CycleData, runtime: Runtime) -> None:
        everything = np.concatenate([data.labeled, data.unlabeled])
        rng = runtime.rng("vaal batch statistics")
        some = rng.choice(everything, min(SETTLING_ROWS, len(everything)), replace=False)
        settle_statistics(self.part(VAE), data.pixels, np.sort(some), runtime)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(μ(x)), (N,), as VAAL's; μ of the encoder as initialised."""
        return super()._score(net, pixels, rows, runtime)
