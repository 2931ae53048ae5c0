"""The options of VAAL and its relatives, by what a sampler has: an autoencoder, a discriminator, or both. Defaults are
VAAL's for CIFAR. Each class adds its part to `recipe`, so that no sampler is told of steps that it does not take.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from samplers.deferred import models
from samplers.options import SamplerOptions, above, between, one_of, option, zero_or

if TYPE_CHECKING:
    from models.training.adversarial import AdversarialRecipe

REDUCTIONS = ("mean", "sum", "elements")
"""As `models.networks.vae.KL_REDUCTIONS` has them."""
STREAMS = ("joint", "separate")
"""As `models.training.adversarial.STREAMS` has them."""


@dataclass(frozen=True)
class AdversarialOptions(SamplerOptions):
    """What all of them read. vaal_width: channels after the first convolution, of an autoencoder's encoder or of a
    discriminator on images. Without iterations and epochs `models.training.adversarial.plan` chooses the length.
    """

    vaal_width: int = option(
        0,
        "VAAL: channels of the autoencoder; 0: 128 (the paper's) on CUDA, 32 on a CPU, and 256 of features.",
        zero_or(4, 1024),
    )
    vaal_space: str = option(
        "auto",
        "VAAL: what its networks see; pixels: the images, as in the papers; features: those of the task network, in "
        "128 directions; auto: features where only a head is trained, on a CPU, else pixels.",
        one_of("auto", "pixels", "features"),
    )
    vaal_iterations: int = option(
        0, "VAAL: iterations in a cycle; 0: scaled to pool and device.", zero_or(1, 10_000_000)
    )
    vaal_epochs: int = option(
        0, "VAAL: passes over the pool when `vaal_iterations` is 0; 0: scaled to device.", zero_or(1, 100_000)
    )
    vaal_batch_size: int = option(128, "VAAL: batch of each stream.", between(2, 4096))
    vaal_learning_rate: float = option(5e-4, "VAAL: learning rate of both Adam optimizers.", above(0, 1))

    def recipe(self) -> AdversarialRecipe:
        """How `models.training.adversarial` trains; here without a step of either network."""
        return models.training.adversarial.AdversarialRecipe(
            iterations=self.vaal_iterations,
            epochs=self.vaal_epochs,
            batch_size=self.vaal_batch_size,
            learning_rate=self.vaal_learning_rate,
            vae_steps=0,
            discriminator_steps=0,
        )


@dataclass(frozen=True)
class LatentOptions(AdversarialOptions):
    """An autoencoder, trained or not. vaal_latent: 64 for ImageNet."""

    vaal_latent: int = option(32, "VAAL: size of the latent space.", between(1, 4096))


@dataclass(frozen=True)
class DiscriminatorOptions(AdversarialOptions):
    """A discriminator that is trained."""

    vaal_discriminator_steps: int = option(1, "VAAL: discriminator steps in an iteration.", between(1, 100))

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), discriminator_steps=self.vaal_discriminator_steps)


@dataclass(frozen=True)
class ElboOptions(AdversarialOptions):
    """An autoencoder's loss. vaal_kl_reduction: see `models.networks.vae.negative_elbo`."""

    vaal_beta: float = option(1.0, "VAAL: weight β of the KL term.", between(0, 1000))
    vaal_kl_reduction: str = option(
        "mean",
        "VAAL: how the KL term is reduced; sum: as VAAL's code, elements: as TA-VAAL's.",
        one_of(*REDUCTIONS),
    )
    vaal_streams: str = option(
        "joint",
        "VAAL: how labeled and unlabeled images go through the autoencoder in training; joint: in one batch, which its "
        "batch normalization sees as scoring will; separate: each in its own, as in the authors' code.",
        one_of(*STREAMS),
    )

    def recipe(self) -> AdversarialRecipe:
        return replace(
            super().recipe(),
            beta=self.vaal_beta,
            kl_reduction=self.vaal_kl_reduction,
            streams=self.vaal_streams,
        )


@dataclass(frozen=True)
class VaeStepsOptions(AdversarialOptions):
    """An autoencoder that is trained, with VAAL's number of steps."""

    vaal_vae_steps: int = option(2, "VAAL: autoencoder steps in an iteration.", between(1, 100))

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), vae_steps=self.vaal_vae_steps)


@dataclass(frozen=True)
class AdversaryOptions(ElboOptions, DiscriminatorOptions):
    """Both networks, one against the other. vaal_lambda: λ2 of VAAL's equation 4 (10 for ImageNet)."""

    vaal_lambda: float = option(1.0, "VAAL: weight λ of the adversarial term.", between(0, 1000))

    def recipe(self) -> AdversarialRecipe:
        return replace(super().recipe(), strength=self.vaal_lambda)
