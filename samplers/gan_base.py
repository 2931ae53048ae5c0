"""What samplers that generate images have in common: a GAN of the pool's images, trained once and further as the pool
grows, and what is known of how well it learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from samplers import families
from samplers.base import NotFitted, Sampler
from samplers.deferred import models, torch
from samplers.entropy import predictive_entropy
from samplers.options import SamplerOptions, above, between, one_of, option, zero_or

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import Runtime
    from models.inference.synthesis import Synthesized
    from models.networks.base import TaskNet
    from models.networks.gan import Critic, GANConfig, Generator

WIDTH, CPU_WIDTH = 64, 16
ITERATIONS, CPU_ITERATIONS = 20_000, 150
LEAST_DISTINCT, LEAST_PRECISION = 0.1, 0.05
"""Gates of a generator: it makes one image over and over below the first, and none that is like the pool's below the
second."""


@dataclass(frozen=True)
class GanOptions(SamplerOptions):
    """A generator of the pool's images, and the latents that are searched for with it."""

    gan: str = option("wgan-gp", "GAN: which kind is trained.", one_of("wgan-gp", "dcgan"))
    gan_iterations: int = option(
        0, "GAN: iterations of its training; 0: 20,000 on CUDA, 150 on a CPU.", zero_or(1, 10_000_000)
    )
    gan_width: int = option(0, "GAN: channels next to the image; 0: 64 on CUDA, 16 on a CPU.", zero_or(1, 1024))
    gan_latent: int = option(128, "GAN: size of the latent space.", between(1, 4096))
    gan_growth: float = option(
        0.2, "GAN: train it further once the images have grown in number by this share.", above(0, 100)
    )
    synthetic_steps: int = option(100, "GAN: steps by which each latent is moved.", between(1, 10_000))
    synthetic_restarts: int = option(2, "GAN: starts for each generated image; the best one is kept.", between(1, 100))


GanT = TypeVar("GanT", bound=GanOptions)


class GanSampler(Sampler[GanT]):
    """A sampler with a generator and a critic. Subclasses train them (`train_gan`) and generate images (`synthesize`)
    in their `fit`, and add what they make of those to the state.
    """

    trains: ClassVar[str] = "generator, critic"
    family: ClassVar[str] = families.SYNTHESIS
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

    @property
    def trainings(self) -> int:
        return 2

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """A generator whose images all look alike, or like none of the pool's."""
        distinct, precision = metrics.get("gan_distinct_neighbors", 1.0), metrics.get("gan_precision", 1.0)
        if distinct < LEAST_DISTINCT:
            return f"only {distinct:.0%} of its generated images have a nearest real one of their own"
        if precision < LEAST_PRECISION:
            return f"only {precision:.0%} of its generated images lie among the real ones"
        return ""

    def train_gan(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> dict[str, float]:
        """Train the GAN on these rows (N,) where that is due, phase "gan", and measure it. Returns its figures.

        Raises:
            DataError: there are not two images.
        """
        if len(rows) < 2:
            raise models.data.DataError(f"sampler {self.name}: it takes two images, labeled or not, to learn from")
        metrics = self._train(pixels, rows, runtime)
        if metrics or not self._health:
            generator, critic = self.gan()
            copied = models.inference.fused.scoring_copy(net, runtime)
            self._health = models.training.gan.generator_health(
                generator, critic, pixels, rows, lambda images: self.in_backbone(copied, images), runtime
            )
        return {**metrics, **self._health}

    def synthesize(self, net: TaskNet, start: Tensor, runtime: Runtime) -> Synthesized:
        """Generated images that `net`, as it is scored with, is least sure of, as many as there are starts (R G, Z) for
        R = `synthetic_restarts` of each: phase "synthesis"."""
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
        )

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

    def _train(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> dict[str, float]:
        on_cuda = self.device.type == "cuda"
        config = models.networks.gan.GANConfig(
            self.options.gan,
            self.side(),
            self._channels(pixels, rows, runtime),
            self.options.gan_width or (WIDTH if on_cuda else CPU_WIDTH),
            self.options.gan_latent,
        )
        if self._generator is None or self._generator.config != config:
            self._place(config, runtime.generator("gan weights", "cpu"))
            self._learned_from = 0
        if len(rows) <= (1.0 + self.options.gan_growth) * self._learned_from:
            return {}
        generator, critic = self.gan()
        iterations = self.options.gan_iterations or (ITERATIONS if on_cuda else CPU_ITERATIONS)
        trained = models.training.gan.train_gan(generator, critic, pixels, rows, iterations, runtime)
        self._generator, self._critic, self._learned_from = trained.generator, trained.critic, len(rows)
        return dict(trained.metrics)

    def _channels(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> int:
        """1 where some of the images, taken at random, are all gray. A GAN that learned colors goes on with them."""
        if self._generator is not None and self._generator.config.channels == 3:
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

    def load_gan(self, state: Mapping[str, Any]) -> bool:
        """Take over the GAN of an earlier cycle, if it is of the kind and size wanted. Returns whether it is."""
        if not state or state["images"] != self.image_size or state["config"]["kind"] != self.options.gan:
            return False
        self._place(models.networks.gan.GANConfig.from_dict(state["config"]), torch.Generator())
        generator, critic = self.gan()
        generator.load_state_dict(state["generator"])
        critic.load_state_dict(state["critic"])
        self._learned_from = int(state["learned_from"])
        self._health = dict(state.get("health", {}))  # older states have none
        return True
