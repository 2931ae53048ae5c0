"""What VAAL, its ablations, TA-VAAL and SRAAL have in common: networks of their own, trained against the question which
images are labeled, at a width that fits the device, and going on from cycle to cycle.
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers import families
from samplers.adversarial_options import AdversarialOptions
from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet
    from models.networks.vae import VAE, VAEConfig
    from models.training.adversarial import AdversarialRecipe, AdversarialTrainer

log = logging.getLogger(__name__)

VAE_WIDTH, VAE_CPU_WIDTH = 128, 32  # channels after the first convolution: the paper's, and what a CPU can do

AdversarialT = TypeVar("AdversarialT", bound=AdversarialOptions)
NetT = TypeVar("NetT", bound="torch.nn.Module")


class AdversarialSampler(Sampler[AdversarialT]):
    """A sampler whose networks `models.training.adversarial.train_adversarially` trains.

    Subclasses say what trains them (`trainer`) and how rows are scored (`score_rows`); they override `config` and
    `build` where theirs differ. The networks go on from the last cycle where their architecture is the same.

    networks: built in `fit` from the cycle's seed, or in `load_state_dict`.
    """

    family: ClassVar[str] = families.VAAL
    hidden_layers: ClassVar[int] = 2
    """Of the discriminator."""

    networks: nn.ModuleDict | None = None
    _config: VAEConfig | None = None
    _optimizers: Mapping[str, Any] | None = None

    # --- what a subclass says ---

    @abstractmethod
    def config(self, width: int) -> VAEConfig:
        """The architecture wanted, at this width."""

    @abstractmethod
    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        """What trains `self.networks`; both sets have rows."""

    @abstractmethod
    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        """What `_score` returns, reported to runtime.progress as `phase`."""

    def build(self, config: VAEConfig, generator: torch.Generator) -> Mapping[str, nn.Module]:
        """Fresh networks by name, on the CPU."""
        vae = models.networks.vae.build_vae(config, generator)
        discriminator = models.networks.discriminator.build_discriminator(
            config.latent, generator, config.condition, self.hidden_layers
        )
        return {"vae": vae, "discriminator": discriminator}

    def begin(self, data: CycleData, runtime: Runtime) -> None:
        """Called in `fit` when its networks are fresh ones."""

    def finish(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Called at the end of every `fit`: what scoring needs besides the networks. Returns metrics to log."""
        return {}

    # --- a cycle ---

    @property
    def trainings(self) -> int:
        """The task network's, and the one of `networks`."""
        return 2

    @property
    def vae(self) -> VAE | None:
        """None before the first `fit`."""
        return None if self.networks is None else self.part(models.networks.vae.VAE)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train on the labeled and unlabeled rows. Without unlabeled rows there is nothing to tell apart: the networks
        stay as they are, fresh ones where there are none. Raises models.data.DataError without labeled rows.
        """
        if len(data.labeled) == 0:
            raise models.data.DataError(
                f"sampler {self.name}: there is no labeled row, so nothing to tell unlabeled ones from"
            )
        config = self._make_networks(data, runtime)
        metrics: dict[str, float] = {"iterations": 0}
        if len(data.unlabeled) == 0:
            log.info("sampler %s: every image is labeled, its networks stay as they are", self.name)
        else:
            metrics = self._train(net, data, config.image_size, runtime)
        return metrics | self.finish(net, data, runtime)

    def _train(self, net: TaskNet, data: CycleData, size: int, runtime: Runtime) -> dict[str, float]:
        recipe = self.options.recipe()
        adversarial = models.training.adversarial
        iterations, batch_size = adversarial.plan(recipe, len(data.labeled), len(data.unlabeled), size, runtime.device)
        log.info(
            "sampler %s: %d iterations of %d labeled and %d unlabeled images (vaal_iterations, vaal_epochs)",
            self.name,
            iterations,
            batch_size,
            batch_size,
        )
        trainer = self.trainer(net, data, recipe, runtime)
        if self._optimizers:
            trainer.load_state_dict(dict(self._optimizers))
        diverged = models.training.task_network.TrainingDiverged
        try:
            metrics = adversarial.train_adversarially(trainer, data, iterations, batch_size, runtime, size)
        except diverged as error:
            raise diverged(f"sampler {self.name}: {error}") from error
        self._optimizers = trainer.state_dict()
        if recipe.discriminator_steps > 0:
            metrics["discriminator_accuracy"] = adversarial.state_accuracy(
                lambda rows: -self.score_rows(net, data.pixels, rows, runtime, "fit").acquisition, data, runtime
            )
        return metrics

    def measure(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        compute: Callable[[Tensor], tuple[Tensor, ...]],
        phase: str,
    ) -> tuple[np.ndarray, ...]:
        """`compute` on every row in one pass: images (B, 3, S, S) at the working size -> tensors (B, ...), as (N, ...).

        What it runs of the networks is to be of `scoring_part`.
        """

        def of_batch(images: Tensor) -> tuple[Tensor, ...]:
            return compute(models.networks.vae.prepare(images, self.working_size()))

        return models.inference.streaming.map_rows(pixels, rows, runtime, of_batch, phase)

    def order(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        acquisition: Callable[[Tensor], Tensor],
        phase: str,
    ) -> Scored:
        """Scores from one number a row: images as in `measure` -> (B,)."""
        values = self.measure(pixels, rows, runtime, lambda images: (acquisition(images),), phase)[0]
        return Scored(values.astype(np.float64))

    def part(self, kind: type[NetT]) -> NetT:
        """The network of this kind. Raises NotFitted before there are any."""
        for net in () if self.networks is None else self.networks.values():
            if isinstance(net, kind):
                return net
        raise NotFitted(f"sampler {self.name}: its networks were neither trained nor loaded yet")

    def scoring_part(self, kind: type[NetT], runtime: Runtime) -> NetT:
        """The same as it scores, for one pass: see `models.inference.fused.scoring_copy`."""
        return models.inference.fused.scoring_copy(self.part(kind), runtime)

    # --- from cycle to cycle ---

    def state_dict(self) -> dict[str, Any]:
        if self.networks is None or self._config is None:
            return {}
        of_networks = {name: net.state_dict() for name, net in self.networks.items()}
        return {"config": self._config.to_dict(), **of_networks, "optimisers": self._optimizers or {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. Where the width is left to the device (0), a saved one is taken over whatever it
        is, so that a CPU can score with what a GPU trained; a `fit` there begins again at its own width.
        """
        if not state:
            return
        config = models.networks.vae.VAEConfig.from_dict(state["config"])
        if config != self.config(self.options.vaal_width or config.width):
            log.info("sampler %s: the earlier networks have another architecture, they are not used", self.name)
            return
        for name, net in self._place(config, torch.Generator()).items():
            net.load_state_dict(state[name])
        self._optimizers = copy.deepcopy(state["optimisers"])

    def _make_networks(self, data: CycleData, runtime: Runtime) -> VAEConfig:
        """Those of the last cycle when they are of the width wanted here, else fresh ones."""
        width = self.options.vaal_width or (VAE_WIDTH if self.device.type == "cuda" else VAE_CPU_WIDTH)
        config = self.config(width)
        if self._config == config:
            return config
        if width != VAE_WIDTH and not self.options.vaal_width:
            log.info("No GPU: the networks of %s have width %d instead of %d (vaal_width)", self.name, width, VAE_WIDTH)
        if self._config is not None:
            log.info("sampler %s: width %d instead of %d, training begins again", self.name, width, self._config.width)
        self._optimizers = None
        self._place(config, runtime.generator("vaal weights", "cpu"))
        self.begin(data, runtime)
        return config

    def _place(self, config: VAEConfig, generator: torch.Generator) -> nn.ModuleDict:
        networks = torch.nn.ModuleDict(self.build(config, generator)).to(self.device)
        self.networks = networks.to(memory_format=torch.channels_last).eval()
        self._config = config
        return self.networks

    def working_size(self) -> int:
        """Side at which this sampler's networks see the images."""
        return models.networks.vae.working_size(self.image_size)


class CodeSampler(AdversarialSampler[AdversarialT]):
    """Those that ask a discriminator about the means of an encoder's codes, and no other network."""

    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        vae, discriminator = self.part(models.networks.vae.VAE), self.part(models.networks.discriminator.Discriminator)
        noise = runtime.generator("vaal noise")
        return models.training.adversarial_trainers.VaalTrainer(vae, discriminator, recipe, noise)

    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        encoder = self.scoring_part(models.networks.vae.VAE, runtime).encoder
        discriminator = self.scoring_part(models.networks.discriminator.Discriminator, runtime)
        return self.order(pixels, rows, runtime, lambda images: -discriminator(encoder.means(images)), phase)
