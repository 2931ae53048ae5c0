"""What VAAL, its ablations, TA-VAAL and SRAAL have in common: networks of their own, trained against the question which
images are labeled, at a width that fits the device, and going on from cycle to cycle.
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
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

SETTLING_ROWS = 2_000  # unlabeled ones, by chance, that the directions of features are taken from
LEAST_ACCURACY = 0.6
"""Of a discriminator that learned something: chance is 0.5, and of 50 labeled images it strays by 0.04."""
MOST_POINTS = 20_000  # of the unlabeled rows, by chance, that networks of features learn from
VAE_WIDTH, VAE_CPU_WIDTH = 128, 32  # channels after the first convolution: the paper's, and what a CPU can do
FEATURE_WIDTH = 256  # of the hidden layers of networks of features

AdversarialT = TypeVar("AdversarialT", bound=AdversarialOptions)
NetT = TypeVar("NetT", bound="torch.nn.Module")


class AdversarialSampler(Sampler[AdversarialT]):
    """A sampler whose networks `models.training.adversarial.train_adversarially` trains.

    Subclasses say what trains them (`trainer`) and how rows are scored (`score_rows`); they override `config` and
    `build` where theirs differ. The networks go on from the last cycle where their architecture is the same.

    networks: built in `fit` from the cycle's seed, or in `load_state_dict`.
    """

    family: ClassVar[str] = families.VAAL
    networks: nn.ModuleDict | None = None
    _config: VAEConfig | None = None
    _sees = ""
    """Names the features that the networks see: see `models.networks.base.TaskConfig.feature_key`."""
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

    @property
    def hidden_layers(self) -> int:
        """Of the discriminator, before its last."""
        return 2

    def begin(self, data: CycleData, runtime: Runtime) -> None:
        """Called in `fit` when its networks are fresh ones, of images."""

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
        config = self._make_networks(net, data, runtime)
        metrics: dict[str, float] = {"iterations": 0}
        if len(data.unlabeled) == 0:
            log.info("sampler %s: every image is labeled, its networks stay as they are", self.name)
        else:
            metrics = self._train(net, data, config, runtime)
        return metrics | self.finish(net, data, runtime)

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """A discriminator that is hardly better than chance, with the very images that it was trained on."""
        accuracy = metrics.get("discriminator_accuracy", 1.0)
        if accuracy >= LEAST_ACCURACY:
            return ""
        return f"its discriminator tells whether an image is labeled in {accuracy:.0%} of cases, where chance is 50%"

    def _train(self, net: TaskNet, data: CycleData, config: VAEConfig, runtime: Runtime) -> dict[str, float]:
        recipe, size, features = self.options.recipe(), config.image_size, None
        if config.features:
            some = runtime.rng("vaal features").permutation(data.unlabeled)[:MOST_POINTS]
            data = replace(data, unlabeled=np.sort(some))
            features = self._projected(net, data, runtime)
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
            metrics = adversarial.train_adversarially(trainer, data, iterations, batch_size, runtime, size, features)
        except diverged as error:
            raise diverged(f"sampler {self.name}: {error}") from error
        self._optimizers = trainer.state_dict()
        if recipe.discriminator_steps > 0:
            metrics["discriminator_accuracy"] = adversarial.state_accuracy(
                lambda rows: -self.score_rows(net, data.pixels, rows, runtime, "fit").acquisition, data, runtime
            )
        return metrics

    def _projected(self, net: TaskNet, data: CycleData, runtime: Runtime) -> np.ndarray:
        """What the networks see of the labeled and then of the unlabeled rows: (L + U, P) float16."""
        rows, see = np.concatenate([data.labeled, data.unlabeled]), lambda seen: (seen.half(),)
        return self.measure(net, data.pixels, rows, runtime, see, "fit")[0]

    def measure(
        self,
        net: TaskNet,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        compute: Callable[[Tensor], tuple[Tensor, ...]],
        phase: str,
    ) -> tuple[np.ndarray, ...]:
        """`compute` on every row in one pass: images (B, 3, S, S) at the working size -> tensors (B, ...), as (N, ...);
        for networks of features, those of `net`, (B, P).

        What it runs of the networks is to be of `scoring_part`.
        """
        if self._config is not None and self._config.features:
            see = self.sight(net)
            return models.inference.predictions.measure(
                net, pixels, rows, runtime, lambda features, _: compute(see(features)), phase
            )

        def of_batch(images: Tensor) -> tuple[Tensor, ...]:
            return compute(models.networks.vae.prepare(images, self.working_size()))

        return models.inference.streaming.map_rows(pixels, rows, runtime, of_batch, phase)

    def sight(self, net: TaskNet) -> Callable[[Tensor], Tensor]:
        """For networks of features: the task network's (B, F, ...) -> what they see, (B, P)."""
        projection = self.part(models.networks.projection.Projection)
        if len(projection.mean) != net.feature_channels:
            raise NotFitted(f"sampler {self.name}: its networks were neither trained nor loaded for these features yet")

        def see(features: Tensor) -> Tensor:
            seen: Tensor = projection(net.task.image_features(features))
            return seen

        return see

    def order(
        self,
        net: TaskNet,
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        acquisition: Callable[[Tensor], Tensor],
        phase: str,
    ) -> Scored:
        """Scores from one number a row: images as in `measure` -> (B,). Networks of features share their pass with the
        task network, which has those features in hand."""
        if self._config is not None and self._config.features:
            see = self.sight(net)
            predictions, of_rows = models.inference.predictions.predict_and_measure(
                net, pixels, rows, runtime, lambda features, _: acquisition(see(features)), phase
            )
            return Scored(of_rows, predictions)
        values = self.measure(net, pixels, rows, runtime, lambda images: (acquisition(images),), phase)[0]
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
        kept = {"config": self._config.to_dict(), **of_networks, "optimisers": self._optimizers or {}}
        return kept | ({"sees": self._sees} if self._sees else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. Where the width is left to the device (0), a saved one is taken over whatever it
        is, so that a CPU can score with what a GPU trained; a `fit` there begins again at its own width.
        """
        if not state:
            return
        config = models.networks.vae.VAEConfig.from_dict(state["config"])
        other_space = self.options.vaal_space == ("pixels" if config.features else "features")
        if other_space or config != self._wanted(self.options.vaal_width or config.width, config.features):
            log.info("sampler %s: the earlier networks have another architecture, they are not used", self.name)
            return
        for name, net in self._place(config, torch.Generator()).items():
            net.load_state_dict(state[name])
        self._optimizers, self._sees = copy.deepcopy(state["optimisers"]), state.get("sees", "")

    def _wanted(self, width: int, features: int) -> VAEConfig:
        """The architecture at this width, of images or of so many features."""
        config = self.config(width)
        return replace(config, image_size=0, features=features) if features else config

    def _make_networks(self, net: TaskNet, data: CycleData, runtime: Runtime) -> VAEConfig:
        """Those of the last cycle when they are of the width and space wanted here, else fresh ones: also where they
        see features that training has changed."""
        on_cuda, space = self.device.type == "cuda", self.options.vaal_space
        in_features = space == "features" or (space == "auto" and net.frozen and not on_cuda)
        of_images = VAE_WIDTH if on_cuda else VAE_CPU_WIDTH
        width = self.options.vaal_width or (FEATURE_WIDTH if in_features else of_images)
        config = self._wanted(width, net.feature_channels if in_features else 0)
        sees = net.config.feature_key if in_features else ""
        if self._config == config and self._sees == sees and (sees or not in_features):
            return config
        if not in_features and width != VAE_WIDTH and not self.options.vaal_width:
            log.info("No GPU: the networks of %s have width %d instead of %d (vaal_width)", self.name, width, VAE_WIDTH)
        if self._config is not None:
            log.info("sampler %s: its networks are to be other ones now, training begins again", self.name)
        self._optimizers, self._sees = None, sees
        self._place(config, runtime.generator("vaal weights", "cpu"))
        if in_features:
            some = np.concatenate([data.labeled, runtime.rng("directions").permutation(data.unlabeled)[:SETTLING_ROWS]])
            features = torch.from_numpy(models.inference.predictions.embed(net, data.pixels, some, runtime, "fit"))
            projection = self.part(models.networks.projection.Projection)
            projection.settle(features.to(self.device), runtime.generator("directions", "cpu"))
        else:
            self.begin(data, runtime)
        return config

    def _place(self, config: VAEConfig, generator: torch.Generator) -> nn.ModuleDict:
        built = dict(self.build(config, generator))
        if config.features:
            built["projection"] = models.networks.projection.Projection(config.features, config.directions)
        networks = torch.nn.ModuleDict(built).to(self.device)
        self.networks = networks.to(memory_format=torch.channels_last).eval()
        self._config = config
        return self.networks

    def working_size(self) -> int:
        """Side at which this sampler's networks see the images."""
        return models.networks.vae.working_size(self.image_size)
