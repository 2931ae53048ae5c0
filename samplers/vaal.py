"""VAAL: ask for the image that looks least like those labelled already."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from models.adversarial import AdversarialRecipe, Game, plan, state_logits, train_adversarially
from models.classifier import Classifier
from models.data import CycleData, DataError, Runtime
from models.discriminator import Discriminator, build_discriminator
from models.vae import VAE, VAEConfig, build_vae, working_size
from samplers.base import NotFitted, Sampler, Scored

log = logging.getLogger(__name__)

PAPER_WIDTH = 128
CPU_WIDTH = 32


@dataclass(frozen=True)
class VaalOptions:
    """Defaults are the paper's for CIFAR.

    vaal_width                channels of the autoencoder; 0: 128 on CUDA, 32 on a CPU.
    vaal_latent               size of the latent space (64 for ImageNet).
    vaal_beta, vaal_lambda    weights of the KL and of the adversarial term (10 for ImageNet).
    vaal_iterations, _epochs  length of the training; 0: see `models.adversarial.plan`.
    vaal_batch_size           of each of the two streams.
    vaal_kl_reduction         "mean", or "sum" as in the authors' code: see `models.vae.negative_elbo`.
    """

    vaal_width: int = 0
    vaal_latent: int = 32
    vaal_beta: float = 1.0
    vaal_lambda: float = 1.0
    vaal_iterations: int = 0
    vaal_epochs: int = 0
    vaal_vae_steps: int = 2
    vaal_discriminator_steps: int = 1
    vaal_batch_size: int = 128
    vaal_learning_rate: float = 5e-4
    vaal_kl_reduction: str = "mean"


class VaalSampler(Sampler):
    """Variational adversarial active learning (Sinha, Ebrahimi & Darrell, ICCV 2019).

    An autoencoder and a discriminator of its own, trained on all images and never on a class; the task network is
    not looked at. Both go on from the last cycle where their architecture is the same.
    """

    name: ClassVar[str] = "vaal"
    summary: ClassVar[str] = "least like the labelled images, as a discriminator on an autoencoder's codes sees it"
    Options: ClassVar[type[Any]] = VaalOptions

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        # Made in `fit` from the cycle's seed, or in `load_state_dict`.
        self.vae: VAE | None = None
        self.discriminator: Discriminator | None = None
        self._optimisers: dict[str, Any] = {}

    def fit(self, net: Classifier, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train on the labelled and unlabelled rows. Without unlabelled rows there is nothing to tell apart: the
        networks stay as they are, fresh ones where there are none. Raises DataError without labelled rows.
        """
        if len(data.labelled) == 0:
            raise DataError("sampler vaal: there is no labelled row, so nothing to tell unlabelled ones from")
        vae, discriminator = self._networks(runtime)
        if len(data.unlabelled) == 0:
            log.info("VAAL: every image is labelled, its networks stay as they are")
            return {"iterations": 0}
        recipe = self._recipe()
        iterations, batch_size = plan(
            recipe, len(data.labelled), len(data.unlabelled), vae.config.image_size, runtime.device
        )
        log.info(
            "VAAL: %d iterations of %d labelled and %d unlabelled images (vaal_iterations, vaal_epochs)",
            iterations,
            batch_size,
            batch_size,
        )
        game = Game(vae, discriminator, recipe, runtime.generator("vaal noise"))
        if self._optimisers:
            game.load_state_dict(self._optimisers)
        figures = train_adversarially(game, data, iterations, batch_size, runtime)
        self._optimisers = game.state_dict()
        return figures

    def _score(self, net: Classifier, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(μ(x)), (N,): higher = less like the labelled images (section 2 of the extended abstract: the
        closer D is to zero, the more likely the image is unlabelled). 1 / (1 + exp(a)) is D itself.
        """
        if self.vae is None or self.discriminator is None:
            raise NotFitted("sampler vaal: its networks were neither trained nor loaded yet")
        logits = state_logits(self.vae, self.discriminator, pixels, rows, runtime)
        return Scored(-logits.astype(np.float64))

    def state_dict(self) -> dict[str, Any]:
        if self.vae is None or self.discriminator is None:
            return {}
        return {
            "config": self.vae.config.to_dict(),
            "vae": self.vae.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimisers": self._optimisers,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. Where the width is left to the device (0), a saved one is taken over whatever it
        is, so that a CPU can score with what a GPU trained; a `fit` there begins anew at its own width.
        """
        if not state:
            return
        config = VAEConfig.from_dict(state["config"])
        if config != self._config(self.options.vaal_width or config.width):
            log.info("VAAL: the earlier networks have another architecture, they are not used")
            return
        vae, discriminator = self._place(config, torch.Generator())
        vae.load_state_dict(state["vae"])
        discriminator.load_state_dict(state["discriminator"])
        self._optimisers = copy.deepcopy(state["optimisers"])

    def _networks(self, runtime: Runtime) -> tuple[VAE, Discriminator]:
        """Those of the last cycle when they are of the width wanted here, else fresh ones."""
        on_cuda = self.device.type == "cuda"
        width = self.options.vaal_width or (PAPER_WIDTH if on_cuda else CPU_WIDTH)
        config = self._config(width)
        if self.vae is not None and self.discriminator is not None and self.vae.config == config:
            return self.vae, self.discriminator
        if width != PAPER_WIDTH and not self.options.vaal_width:
            log.info("No GPU: VAAL's autoencoder has width %d instead of %d (vaal_width)", width, PAPER_WIDTH)
        if self.vae is not None:
            log.info("VAAL: width %d instead of %d, training begins anew", width, self.vae.config.width)
        self._optimisers = {}
        return self._place(config, runtime.generator("vaal weights", "cpu"))

    def _place(self, config: VAEConfig, generator: torch.Generator) -> tuple[VAE, Discriminator]:
        vae = build_vae(config, generator).to(self.device).to(memory_format=torch.channels_last)
        discriminator = build_discriminator(config.latent, generator).to(self.device)
        self.vae, self.discriminator = vae.eval(), discriminator.eval()
        return self.vae, self.discriminator

    def _config(self, width: int) -> VAEConfig:
        return VAEConfig(working_size(self.image_size), width, self.options.vaal_latent)

    def _recipe(self) -> AdversarialRecipe:
        options = self.options
        return AdversarialRecipe(
            iterations=options.vaal_iterations,
            epochs=options.vaal_epochs,
            batch_size=options.vaal_batch_size,
            learning_rate=options.vaal_learning_rate,
            beta=options.vaal_beta,
            strength=options.vaal_lambda,
            vae_steps=options.vaal_vae_steps,
            discriminator_steps=options.vaal_discriminator_steps,
            kl_reduction=options.vaal_kl_reduction,
        )
