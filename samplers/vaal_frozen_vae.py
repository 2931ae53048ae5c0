"""VAAL with an autoencoder that is never trained: the second ablation of the extended abstract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from samplers.adversarial_options import DiscriminatorOptions, LatentOptions
from samplers.base import Scored
from samplers.code_base import CodeSampler
from samplers.deferred import models

if TYPE_CHECKING:
    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet
    from models.networks.vae import VAEConfig

SETTLING_ROWS = 1000


@dataclass(frozen=True)
class FrozenOptions(LatentOptions, DiscriminatorOptions):
    """Those of an autoencoder without training, and of a discriminator."""


class VaalFrozenVaeSampler(CodeSampler[FrozenOptions]):
    """VAAL's discriminator on the codes of an autoencoder as it was initialized (Sinha, Ebrahimi & Darrell, extended
    abstract, section 3, "Frozen VAE with D").

    What is never trained has no batch statistics either. They are set once, when the autoencoder is built: means and
    variances over up to 1,000 images drawn from both sets; from then on they stand still like the weights, from cycle
    to cycle. Without them the codes would lie on a scale that the initialization alone decides.
    """

    name: ClassVar[str] = "vaal-frozen-vae"
    summary: ClassVar[str] = "an ablation of `vaal`: the autoencoder stays untrained"
    why: ClassVar[str] = "a discriminator takes it for unlabeled: it looks unlike the labeled images"
    source: ClassVar[str] = "extended abstract of VAAL"
    trains: ClassVar[str] = "discriminator"
    Options = FrozenOptions

    def config(self, width: int) -> VAEConfig:
        return models.networks.vae.VAEConfig(self.working_size(), width, self.options.vaal_latent)

    def begin(self, data: CycleData, runtime: Runtime) -> None:
        everything = np.concatenate([data.labeled, data.unlabeled])
        rng = runtime.rng("vaal batch statistics")
        some = rng.choice(everything, min(SETTLING_ROWS, len(everything)), replace=False)
        vae = self.part(models.networks.vae.VAE)
        models.networks.batch_statistics.settle_statistics(vae, data.pixels, np.sort(some), runtime)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """-logit D(μ(x)), (N,), as VAAL's; μ of the encoder as initialized."""
        return self.score_rows(net, pixels, rows, runtime, "score")
