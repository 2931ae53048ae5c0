"""VAAL: ask for the image that looks least like those labeled already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers.adversarial_options import AdversaryOptions, LatentOptions, VaeStepsOptions
from samplers.base import Scored
from samplers.code_base import CodeSampler
from samplers.deferred import models

if TYPE_CHECKING:
    from models.data import Runtime
    from models.networks.base import TaskNet
    from models.networks.vae import VAEConfig


@dataclass(frozen=True)
class VaalOptions(LatentOptions, VaeStepsOptions, AdversaryOptions):
    """All of VAAL's."""


class VaalSampler(CodeSampler[VaalOptions]):
    """Variational adversarial active learning (Sinha, Ebrahimi & Darrell, ICCV 2019).

    An autoencoder and a discriminator of its own, trained on all images and never on a class; the task network is
    not looked at. Both go on from the last cycle where their architecture is the same.
    """

    name: ClassVar[str] = "vaal"
    summary: ClassVar[str] = "what a discriminator takes for unlabeled, judging by an autoencoder's latent codes"
    why: ClassVar[str] = "a discriminator takes it for unlabeled: it looks unlike the labeled images"
    source: ClassVar[str] = "Sinha et al. 2019"
    trains: ClassVar[str] = "autoencoder, discriminator"
    Options = VaalOptions

    def config(self, width: int) -> VAEConfig:
        return models.networks.vae.VAEConfig(self.working_size(), width, self.options.vaal_latent)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(μ(x)), (N,): higher = less like the labeled images (section 2 of the extended abstract: the
        closer D is to zero, the more likely the image is unlabeled). 1 / (1 + exp(a)) is D itself.
        """
        return self.score_rows(net, pixels, rows, runtime, "score")
