"""What VAAL, its ablations, TA-VAAL and SRAAL have in common: networks of their own, trained against the question which
images are labelled, at a width that fits the device, and going on from cycle to cycle.
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from models.data import CycleData, DataError, Runtime
from models.inference.streaming import evaluating, map_rows
from models.networks.base import TaskNet
from models.networks.discriminator import build_discriminator
from models.networks.vae import VAE, VAEConfig, build_vae, prepare, working_size
from models.training.adversarial import AdversarialRecipe, AdversarialTrainer, plan, state_accuracy, train_adversarially
from models.training.task_network import TrainingDiverged
from samplers.base import NotFitted, Sampler, Scored

log = logging.getLogger(__name__)

PAPER_WIDTH = 128
CPU_WIDTH = 32

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class AdversarialOptions:
    """What all of them read. Defaults are VAAL's for CIFAR.

    vaal_width                channels after the first convolution; 0: 128 on CUDA, 32 on a CPU.
    vaal_iterations, _epochs  length of the training; 0: see `models.training.adversarial.plan`.
    vaal_batch_size           of each of the two streams.
    """

    vaal_width: int = 0
    vaal_iterations: int = 0
    vaal_epochs: int = 0
    vaal_batch_size: int = 128
    vaal_learning_rate: float = 5e-4


@dataclass(frozen=True)
class GameOptions(AdversarialOptions):
    """What those read that train both an autoencoder and a discriminator.

    vaal_beta, vaal_lambda    weights of the KL and of the adversarial term (VAAL: 10 for ImageNet).
    vaal_kl_reduction         "mean"; "sum" as in VAAL's, "elements" as in TA-VAAL's code: see
                              `models.networks.vae.negative_elbo`.
    """

    vaal_beta: float = 1.0
    vaal_lambda: float = 1.0
    vaal_discriminator_steps: int = 1
    vaal_kl_reduction: str = "mean"


# Which setting, where a sampler has it, fills which field of the recipe.
_RECIPE = {
    "iterations": "vaal_iterations",
    "epochs": "vaal_epochs",
    "batch_size": "vaal_batch_size",
    "learning_rate": "vaal_learning_rate",
    "beta": "vaal_beta",
    "strength": "vaal_lambda",
    "vae_steps": "vaal_vae_steps",
    "discriminator_steps": "vaal_discriminator_steps",
    "kl_reduction": "vaal_kl_reduction",
}


class AdversarialSampler(Sampler):
    """A sampler whose networks `models.training.adversarial.train_adversarially` trains.

    Subclasses say what trains them (`trainer`) and how rows are scored (`score_rows`); they override `config`, `build`
    and `recipe` where theirs differ. The networks go on from the last cycle where their architecture is the same.
    """

    hidden_layers: ClassVar[int] = 2
    """Of the discriminator."""

    def __init__(
        self, options: Any = None, *, num_classes: int, image_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(options, num_classes=num_classes, image_size=image_size, device=device)
        # Made in `fit` from the cycle's seed, or in `load_state_dict`.
        self.networks: nn.ModuleDict | None = None
        self._config: VAEConfig | None = None
        self._optimisers: dict[str, Any] = {}

    # --- what a subclass says ---

    @abstractmethod
    def config(self, width: int) -> VAEConfig:
        """The architecture wanted, at this width."""

    @abstractmethod
    def trainer(self, net: TaskNet, data: CycleData, recipe: AdversarialRecipe, runtime: Runtime) -> AdversarialTrainer:
        """What trains `self.networks`; both sets have rows."""

    @abstractmethod
    def score_rows(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str) -> Scored:
        """What `_score` answers, told to runtime.progress as `phase`."""

    def build(self, config: VAEConfig, generator: torch.Generator) -> dict[str, nn.Module]:
        """Fresh networks by name, on the CPU."""
        vae = build_vae(config, generator)
        return {
            "vae": vae,
            "discriminator": build_discriminator(config.latent, generator, config.condition, self.hidden_layers),
        }

    def recipe(self) -> AdversarialRecipe:
        """From the settings."""
        given = {field: getattr(self.options, name) for field, name in _RECIPE.items() if hasattr(self.options, name)}
        return AdversarialRecipe(**given)

    def begin(self, data: CycleData, runtime: Runtime) -> None:
        """Called in `fit` when its networks are fresh ones."""

    def finish(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Called at the end of every `fit`: what scoring needs beside the networks. Answers figures to record."""
        return {}

    # --- a cycle ---

    @property
    def vae(self) -> VAE | None:
        """None before the first `fit`."""
        return None if self.networks is None else self.part(VAE)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train on the labelled and unlabelled rows. Without unlabelled rows there is nothing to tell apart: the
        networks stay as they are, fresh ones where there are none. Raises DataError without labelled rows.
        """
        if len(data.labeled) == 0:
            raise DataError(f"sampler {self.name}: there is no labelled row, so nothing to tell unlabelled ones from")
        config = self._make_networks(data, runtime)
        figures: dict[str, float] = {"iterations": 0}
        if len(data.unlabeled) == 0:
            log.info("sampler %s: every image is labelled, its networks stay as they are", self.name)
        else:
            figures = self._play(net, data, config.image_size, runtime)
        return figures | self.finish(net, data, runtime)

    def _play(self, net: TaskNet, data: CycleData, size: int, runtime: Runtime) -> dict[str, float]:
        recipe = self.recipe()
        iterations, batch_size = plan(recipe, len(data.labeled), len(data.unlabeled), size, runtime.device)
        log.info(
            "sampler %s: %d iterations of %d labelled and %d unlabelled images (vaal_iterations, vaal_epochs)",
            self.name,
            iterations,
            batch_size,
            batch_size,
        )
        trainer = self.trainer(net, data, recipe, runtime)
        if self._optimisers:
            trainer.load_state_dict(self._optimisers)
        try:
            figures = train_adversarially(trainer, data, iterations, batch_size, runtime, size)
        except TrainingDiverged as error:
            raise TrainingDiverged(f"sampler {self.name}: {error}") from error
        self._optimisers = trainer.state_dict()
        if recipe.discriminator_steps > 0:
            figures["discriminator_accuracy"] = state_accuracy(
                lambda rows: -self.score_rows(net, data.pixels, rows, runtime, "fit").acquisition, data, runtime
            )
        return figures

    def measure(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        compute: Callable[[Tensor], tuple[Tensor, ...]],
        phase: str,
    ) -> tuple[np.ndarray, ...]:
        """`compute` on every row in one pass: images (B, 3, S, S) at the working size -> tensors (B, ...), as (N, ...).

        The networks are in eval mode meanwhile and afterwards as they were. All in float32 on every device: an order
        of the pool needs more digits than the eight bits of bfloat16.
        """
        with evaluating(*(() if self.networks is None else (self.networks,))):
            return map_rows(pixels, rows, runtime, lambda images: compute(prepare(images, self.working_size())), phase)

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

    def part(self, kind: type[Net]) -> Net:
        """The network of this kind. Raises NotFitted before there are any."""
        for net in () if self.networks is None else self.networks.values():
            if isinstance(net, kind):
                return net
        raise NotFitted(f"sampler {self.name}: its networks were neither trained nor loaded yet")

    # --- from cycle to cycle ---

    def state_dict(self) -> dict[str, Any]:
        if self.networks is None or self._config is None:
            return {}
        of_networks = {name: net.state_dict() for name, net in self.networks.items()}
        return {"config": self._config.to_dict(), **of_networks, "optimisers": self._optimisers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. Where the width is left to the device (0), a saved one is taken over whatever it
        is, so that a CPU can score with what a GPU trained; a `fit` there begins anew at its own width.
        """
        if not state:
            return
        config = VAEConfig.from_dict(state["config"])
        if config != self.config(self.options.vaal_width or config.width):
            log.info("sampler %s: the earlier networks have another architecture, they are not used", self.name)
            return
        for name, net in self._place(config, torch.Generator()).items():
            net.load_state_dict(state[name])
        self._optimisers = copy.deepcopy(state["optimisers"])

    def _make_networks(self, data: CycleData, runtime: Runtime) -> VAEConfig:
        """Those of the last cycle when they are of the width wanted here, else fresh ones."""
        width = self.options.vaal_width or (PAPER_WIDTH if self.device.type == "cuda" else CPU_WIDTH)
        config = self.config(width)
        if self._config == config:
            return config
        if width != PAPER_WIDTH and not self.options.vaal_width:
            log.info(
                "No GPU: the networks of %s have width %d instead of %d (vaal_width)", self.name, width, PAPER_WIDTH
            )
        if self._config is not None:
            log.info("sampler %s: width %d instead of %d, training begins anew", self.name, width, self._config.width)
        self._optimisers = {}
        self._place(config, runtime.generator("vaal weights", "cpu"))
        self.begin(data, runtime)
        return config

    def _place(self, config: VAEConfig, generator: torch.Generator) -> nn.ModuleDict:
        networks = nn.ModuleDict(self.build(config, generator)).to(self.device)
        self.networks = networks.to(memory_format=torch.channels_last).eval()
        self._config = config
        return self.networks

    def working_size(self) -> int:
        """Side at which this sampler's networks see the images."""
        return working_size(self.image_size)
