"""What samplers that generate images have in common: a GAN of the pool's images, trained once and further as the pool
grows, and what is known of how well it learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers import families
from samplers.base import NotFitted, Preparation, Sampler, Scored
from samplers.deferred import models, torch
from samplers.entropy import predictive_entropy
from samplers.gan_preparation import Wanted, prepare_gan
from samplers.options import SamplerOptions, above, between, one_of, option, zero_or

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import Runtime
    from models.inference.synthesis import Synthesized
    from models.networks.base import TaskNet
    from models.networks.gan import Critic, GANConfig, Generator

KIND, CPU_KIND = "wgan-gp", "dcgan"
WIDTH, CPU_WIDTH = 64, 16
ITERATIONS, CPU_ITERATIONS = 20_000, 2_000
LEAST_DISTINCT, LEAST_PRECISION = 0.2, 0.3
"""Gates of a generator, as shares of what real images reach by the same measures: it makes a few images over and over
below the first, and hardly any that is like the pool's below the second."""
MISSING = "gan_missing"
"""The figure of a cycle that found no generator yet."""
AUTO = "auto"


@dataclass(frozen=True)
class GanOptions(SamplerOptions):
    """A generator of the pool's images, and the latents that are searched for with it."""

    gan: str = option(
        "auto",
        "GAN: which kind is trained; auto: wgan-gp on CUDA, dcgan on a CPU.",
        one_of("auto", "wgan-gp", "dcgan"),
    )
    gan_iterations: int = option(
        0, "GAN: iterations of its training; 0: 20,000 on CUDA, 2,000 on a CPU.", zero_or(1, 10_000_000)
    )
    gan_seconds: int = option(
        900,
        "GAN: its training ends after so many seconds, those not counted in which it gave way to other work.",
        between(1, 1_000_000),
    )
    gan_width: int = option(0, "GAN: channels next to the image; 0: 64 on CUDA, 16 on a CPU.", zero_or(1, 1024))
    gan_latent: int = option(128, "GAN: size of the latent space.", between(1, 4096))
    gan_growth: float = option(
        0.2, "GAN: train it further once the images have grown in number by this share.", above(0, 100)
    )
    synthetic_steps: int = option(100, "GAN: steps by which each latent is moved.", between(1, 10_000))
    synthetic_seconds: int = option(
        30,
        "GAN: the latents are moved for at most so many seconds in a cycle; where these are short, in fewer and larger "
        "steps.",
        between(1, 100_000),
    )
    synthetic_restarts: int = option(2, "GAN: starts for each generated image; the best one is kept.", between(1, 100))


GanT = TypeVar("GanT", bound=GanOptions)


class GanSampler(Sampler[GanT]):
    """A sampler with a generator and a critic. Both are trained apart from any cycle (`prepare`); without a worker
    that sees to it, in `fit` (`ready_gan`). Subclasses generate images with them (`synthesize`), and add what they make
    of those to the state.
    """

    trains: ClassVar[str] = "generator, critic"
    family: ClassVar[str] = families.SYNTHESIS
    prepares: ClassVar[bool] = True
    standin: ClassVar[str] = "entropy"
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "it generates whole images, and a network can be unsure of their pixels in any number of ways"
    }
    knows_classes: ClassVar[bool] = False

    _generator: Generator | None = None
    _critic: Critic | None = None
    _learned_from = 0
    """How many images the GAN was trained on."""
    _health: Mapping[str, float] = MappingProxyType({})
    """Of the GAN as it was trained last."""
    _waits = False
    """Its GAN is still being trained: until it is there, real images are ordered by entropy."""

    @property
    def trainings(self) -> int:
        return 2

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """A generator whose images all look alike, or like none of the pool's; or none yet."""
        if metrics.get(MISSING):
            return "its generator is still being trained on the images"
        distinct, of_real = metrics.get("gan_distinct_neighbors", 1.0), metrics.get("gan_distinct_of_real", 1.0)
        if distinct < LEAST_DISTINCT * of_real:
            return (
                f"only {distinct:.0%} of its generated images have a nearest real one of their own, where real ones "
                f"reach {of_real:.0%}"
            )
        precision, of_real = metrics.get("gan_precision", 1.0), metrics.get("gan_precision_of_real", 1.0)
        if precision < LEAST_PRECISION * of_real:
            return f"only {precision:.0%} of its generated images lie among the real ones, where {of_real:.0%} can"
        return ""

    def ready_gan(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> dict[str, float]:
        """Take over the GAN that was prepared, or train it on these rows (N,) where nobody prepares one and it is due,
        phase "gan", and measure it. Returns its figures; `MISSING` alone where there is none yet.

        Raises:
            DataError: there are not two images.
        """
        if len(rows) < 2:
            raise models.data.DataError(f"sampler {self.name}: it takes two images, labeled or not, to learn from")
        if runtime.prepared is None:
            metrics = self._train(pixels, rows, runtime)
        else:
            metrics = self._take_over(runtime.prepared)
        self._waits = self._generator is None
        if self._waits:
            return {MISSING: 1.0}
        if metrics or not self._health:
            generator, critic = self.gan()
            copied = models.inference.fused.scoring_copy(net, runtime)
            self._health = models.training.gan_health.generator_health(
                generator, critic, pixels, rows, lambda images: self.in_backbone(copied, images), runtime
            )
        return {**metrics, **self._health}

    def synthesize(self, net: TaskNet, start: Tensor, runtime: Runtime) -> Synthesized:
        """Generated images that `net`, as it is scored with, is least sure of, as many as there are starts (R G, Z) for
        R = `synthetic_restarts` of each: phase "synthesis", for `synthetic_seconds`."""
        deadline = models.deadline.Deadline.after(float(self.options.synthetic_seconds))
        if runtime.deadline is not None and runtime.deadline.left() < deadline.left():
            deadline = runtime.deadline
        measure = models.inference.synthesis.near_boundary if self.num_classes == 2 else predictive_entropy
        return models.inference.synthesis.synthesize(
            self.gan()[0],
            net,
            lambda logits: net.task.per_image(measure, logits),
            self.image_size,
            start,
            self.options.synthetic_restarts,
            self.options.synthetic_steps,
            lambda done, total: runtime.progress("synthesis", done, total),
            deadline,
        )

    def by_entropy(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Of real images: H = -sum_c p_c log p_c in nats, (N,); see `samplers.entropy.EntropySampler`."""

        def of_batch(_: Tensor, logits: Tensor) -> Tensor:
            return net.task.per_image(predictive_entropy, logits)

        predictions, values = models.inference.predictions.predict_and_measure(net, pixels, rows, runtime, of_batch)
        return Scored(values, predictions)

    def in_backbone(self, net: TaskNet, images: Tensor) -> Tensor:
        """Generated images (B, 3, S, S), or real ones of that form, -> the task network's features (B, F)."""
        x = models.inference.synthesis.network_input(images, self.image_size)
        return net.task.image_features(net.features(x))

    def side(self) -> int:
        """S of generated images."""
        return models.networks.gan.gan_size(self.image_size)

    def gan(self) -> tuple[Generator, Critic]:
        """Raises NotFitted."""
        if self._generator is None or self._critic is None:
            raise NotFitted(f"sampler {self.name}: its GAN was neither trained nor loaded yet")
        return self._generator, self._critic

    # --- training: in `fit`, or in pieces apart from it ---

    @property
    def preparation_key(self) -> str:
        options = self.options
        parts = (options.gan, options.gan_width, options.gan_latent, options.gan_iterations, options.gan_seconds)
        return "-".join(map(str, (*parts, options.gan_growth, self.device.type)))

    def prepare(
        self,
        before: Mapping[str, Any],
        pixels: np.ndarray,
        rows: np.ndarray,
        runtime: Runtime,
        enough: Callable[[], bool],
    ) -> Preparation:
        """As the base class says, phase "gan"."""
        options, before_channels = self.options, int(before["gan"]["config"]["channels"]) if before else 1
        config = self._config(self._channels(pixels, rows, runtime, before_channels))
        wanted = Wanted(config, self.image_size, self._iterations, options.gan_seconds, options.gan_growth)
        return prepare_gan(before, wanted, pixels, rows, runtime, enough)

    @property
    def _iterations(self) -> int:
        return self.options.gan_iterations or (ITERATIONS if self.device.type == "cuda" else CPU_ITERATIONS)

    def _config(self, channels: int) -> GANConfig:
        on_cuda = self.device.type == "cuda"
        kind, width = (KIND, WIDTH) if on_cuda else (CPU_KIND, CPU_WIDTH)
        chosen = kind if self.options.gan == AUTO else self.options.gan
        return models.networks.gan.GANConfig(
            chosen, self.side(), channels, self.options.gan_width or width, self.options.gan_latent
        )

    def _train(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> dict[str, float]:
        channels = self._channels(pixels, rows, runtime, self._generator.config.channels if self._generator else 1)
        config = self._config(channels)
        if self._generator is None or self._generator.config != config:
            self._place(config, runtime.generator("gan weights", "cpu"))
            self._learned_from = 0
        if len(rows) <= (1.0 + self.options.gan_growth) * self._learned_from:
            return {}
        training = models.training.gan.GanTraining(*self.gan(), int(runtime.rng("gan training").integers(2**62)))
        training.run(pixels, rows, self._iterations, runtime)
        self._generator, self._critic, self._learned_from = training.average, training.critic, len(rows)
        critic_loss = float(training.losses[0])
        return {
            "gan_iterations": float(training.taken),
            "gan_seconds": training.seconds,
            "gan_critic_loss": critic_loss,
        }

    def _take_over(self, prepared: Mapping[str, Any]) -> dict[str, float]:
        """The GAN that was prepared, if it is of the kind and size wanted. Returns how many images it learned from
        where it is another than before."""
        before = self._generator
        if not self._wants(prepared):
            return {}
        self.load_gan(prepared)
        generator, _ = self.gan()
        if before is not None and _are_alike(before, generator):
            return {}
        self._health = {}
        return {"gan_images": float(self._learned_from)}

    def _channels(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, before: int) -> int:
        """1 where some of the images, taken at random, are all gray. A GAN that learned colors goes on with them:
        before says of how many channels it is."""
        if before == 3:
            return 3
        some = pixels[np.sort(runtime.rng("gan channels").choice(rows, min(256, len(rows)), replace=False))]
        return 1 if (some == some[..., :1]).all() else 3

    def _place(self, config: GANConfig, generator: torch.Generator) -> None:
        maker, critic = models.networks.gan.build_gan(config, generator)
        self._generator, self._critic = maker.to(self.device).eval(), critic.to(self.device).eval()

    # --- from cycle to cycle ---

    def gan_state(self) -> dict[str, Any]:
        generator, critic = self.gan()
        return {
            "config": generator.config.to_dict(),
            "generator": generator.state_dict(),
            "critic": critic.state_dict(),
            "learned_from": self._learned_from,
            "health": dict(self._health),
            "images": self.image_size,
        }

    def _wants(self, state: Mapping[str, Any]) -> bool:
        if state.get("images") != self.image_size:
            return False
        return bool(state["config"]["kind"] == self._config(1).kind)

    def load_gan(self, state: Mapping[str, Any]) -> bool:
        """Take over the GAN of an earlier cycle, if it is of the kind and size wanted. Returns whether it is. A cycle
        that waited for its GAN left none, and its order goes on."""
        self._waits = bool(state.get("waits"))
        if not self._wants(state):
            return False
        self._place(models.networks.gan.GANConfig.from_dict(state["config"]), torch.Generator())
        generator, critic = self.gan()
        generator.load_state_dict(state["generator"])
        critic.load_state_dict(state["critic"])
        self._learned_from = int(state["learned_from"])
        self._health = dict(state.get("health", {}))  # older states have none
        return True


def _are_alike(one: Generator, other: Generator) -> bool:
    """Whether both make the same images of the same latents."""
    first, second = one.state_dict(), other.state_dict()
    return one.config == other.config and all(torch.equal(first[name], second[name]) for name in first)
