"""ASAL: generate the images that the network would be least sure of, and ask for the real ones that are nearest."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers import families
from samplers.base import NotFitted, Sampler, Scored
from samplers.deferred import models, torch
from samplers.entropy import predictive_entropy
from samplers.options import SamplerOptions, above, between, one_of, option, zero_or

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.inference.predictions import ForwardPass
    from models.inference.synthesis import Uncertainty
    from models.networks.base import TaskNet
    from models.networks.gan import Critic, GANConfig, Generator

log = logging.getLogger(__name__)

NOTHING = 1e-12  # stands for a distance of 0 under the logarithm
FIRST = 30.0  # above every -log(distance): what was matched comes before the rest
MATCHES = 100.0  # the part of the scale that matches have
WIDTH, CPU_WIDTH = 64, 16
ITERATIONS, CPU_ITERATIONS = 20_000, 150
LEAST_DISTINCT, LEAST_PRECISION = 0.1, 0.05
"""Gates of a generator: it makes one image over and over below the first, and none that is like the pool's below the
second."""
COMPONENTS, FITTED = 64, 2_000  # of the principal components of pixels: how many, and from how many images


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


@dataclass(frozen=True)
class AsalOptions(GanOptions):
    """asal_images: G, how many images are generated and matched in a cycle. asal_space: where nearest is nearest."""

    asal_images: int = option(100, "ASAL: how many images are generated and matched in a cycle.", between(1, 10_000))
    asal_space: str = option(
        "backbone",
        "ASAL: where the nearest real image is looked for; backbone: features of the task network, critic: of the GAN, "
        "pca: principal components of the pixels.",
        one_of("backbone", "critic", "pca"),
    )


class AsalSampler(Sampler[AsalOptions]):
    """Adversarial sampling for active learning (Mayer & Timofte, WACV 2020).

    A GAN is trained on all images, labeled or not, in the first cycle, and further when the pool has grown. In each
    cycle its latents are moved to where the task network is least sure, and each image made there is matched with the
    nearest real one that is not taken yet: only real images are labeled. Matches come first, the least sure at the
    front, the rest by their distance to the nearest generated image.
    """

    name: ClassVar[str] = "asal"
    summary: ClassVar[str] = "the real images nearest to generated ones that the network is least sure of"
    source: ClassVar[str] = "Mayer & Timofte 2020"
    trains: ClassVar[str] = "generator, critic"
    family: ClassVar[str] = families.SYNTHESIS
    diverse: ClassVar[bool] = True
    standin: ClassVar[str] = "entropy"
    refusals: ClassVar[dict[str, str]] = {
        "segmentation": "it generates whole images, and a network can be unsure of their pixels in any number of ways"
    }
    knows_classes: ClassVar[bool] = False
    Options = AsalOptions

    _generator: Generator | None = None
    _critic: Critic | None = None
    _learned_from = 0
    """How many images the GAN was trained on."""
    _space: tuple[Tensor, ...] = ()
    """Of "pca": the mean (3 S S,) and the components (3 S S, P)."""
    _wanted: Tensor | None = None
    """(G, F), the generated images in the space."""
    _health: Mapping[str, float] = MappingProxyType({})
    """Of the GAN as it was trained last."""
    _matches: Tensor | None = None
    """(K,) int64, their rows, the first to be labeled first."""

    @property
    def trainings(self) -> int:
        return 2

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Train the GAN where that is due, generate images, and match them: phases "gan", "synthesis" and "match"."""
        everything = np.concatenate([data.labeled, data.unlabeled])
        if len(everything) < 2:
            raise models.data.DataError(f"sampler {self.name}: it takes two images, labeled or not, to learn from")
        metrics = self._train(data.pixels, everything, runtime)
        generator, critic = self._networks()
        if metrics or not self._health:
            copied = models.inference.fused.scoring_copy(net, runtime)
            self._health = models.training.gan.generator_health(
                generator, critic, data.pixels, everything, lambda images: self._in_backbone(copied, images), runtime
            )
        if self.options.asal_space == "pca":
            self._space = self._components(data.pixels, everything, runtime)
        return {**metrics, **self._health, **self._synthesize(net, data, runtime)}

    def doubts(self, metrics: Mapping[str, float]) -> str:
        """A generator whose images all look alike, or like none of the pool's."""
        distinct, precision = metrics.get("gan_distinct_neighbors", 1.0), metrics.get("gan_precision", 1.0)
        if distinct < LEAST_DISTINCT:
            return f"only {distinct:.0%} of its generated images have a nearest real one of their own"
        if precision < LEAST_PRECISION:
            return f"only {precision:.0%} of its generated images lie among the real ones"
        return ""

    def _train(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> dict[str, float]:
        on_cuda = self.device.type == "cuda"
        config = models.networks.gan.GANConfig(
            self.options.gan,
            models.networks.gan.gan_size(self.image_size),
            self._channels(pixels, rows, runtime),
            self.options.gan_width or (WIDTH if on_cuda else CPU_WIDTH),
            self.options.gan_latent,
        )
        if self._generator is None or self._generator.config != config:
            self._place(config, runtime.generator("gan weights", "cpu"))
            self._learned_from = 0
        if len(rows) <= (1.0 + self.options.gan_growth) * self._learned_from:
            return {}
        generator, critic = self._networks()
        iterations = self.options.gan_iterations or (ITERATIONS if on_cuda else CPU_ITERATIONS)
        trained = models.training.gan.train_gan(generator, critic, pixels, rows, iterations, runtime)
        self._generator, self._critic, self._learned_from = trained.generator, trained.critic, len(rows)
        return dict(trained.metrics)

    def _synthesize(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        generator, _ = self._networks()
        copied = models.inference.fused.scoring_copy(net, runtime)
        made = models.inference.synthesis.synthesize(
            generator,
            copied,
            self._uncertainty(net),
            self.image_size,
            self.options.asal_images,
            self.options.synthetic_restarts,
            self.options.synthetic_steps,
            runtime.generator("asal latents"),
            lambda done, total: runtime.progress("synthesis", done, total),
        )
        with torch.inference_mode():
            self._wanted = self._embed(copied, made.images).clone()
        self._match(copied, data, runtime)
        return {
            "uncertainty_before": float(made.before.mean()),
            "uncertainty_after": float(made.after.mean()),
            "matches": float(0 if self._matches is None else len(self._matches)),
        }

    def _match(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        assert self._wanted is not None
        nearest = models.geometry.matching.NearestRows(self._wanted)
        rows, streaming, done = data.unlabeled, models.inference.streaming, 0
        parts = streaming.batches_of(rows, runtime, data.pixels)
        stream = streaming.stream_batches(data.pixels, (rows[part] for part in parts), runtime.device)
        with torch.inference_mode(), closing(stream) as batches:
            for part, images in zip(parts, batches, strict=True):
                numbers = torch.from_numpy(rows[part].astype(np.int64)).to(runtime.device)
                nearest.add(self._embed_real(net, images), numbers)
                done += len(part)
                runtime.progress("match", done, len(rows))
        self._matches, _ = nearest.unique()

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """Of the j-th of K matches 30 + 100 (K - j) / K, of the others -log of the distance to the nearest generated
        image: (N,). 1 / (1 + exp(a)) = distance / (1 + distance).
        """
        if self._wanted is None or self._matches is None:
            raise NotFitted("sampler asal: its images were neither generated nor loaded yet")
        wanted = self._wanted.double()

        def distance(forward: ForwardPass) -> Tensor:
            assert forward.images is not None
            images = models.networks.vae.prepare(forward.images, self._size())
            if self.options.asal_space == "backbone":
                found = net.task.image_features(forward.features)
            else:
                found = self._project(images)
            return torch.cdist(found.double(), wanted).amin(dim=1)

        predictions, away = models.inference.predictions.predict_and_measure_forward(
            net, pixels, rows, runtime, distance, with_images=True
        )
        acquisition = -np.log(np.maximum(away, NOTHING))
        matches = self._matches.cpu().numpy()
        order = np.argsort(matches)
        place = np.searchsorted(matches, rows, sorter=order).clip(max=max(0, len(matches) - 1))
        if len(matches):
            place = order[place]
            matched = matches[place] == rows
            acquisition[matched] = FIRST + MATCHES * (len(matches) - place[matched]) / len(matches)
        return Scored(acquisition, predictions)

    # --- images in the space ---

    def _embed(self, net: TaskNet, images: Tensor) -> Tensor:
        """Generated images (B, 3, S, S) -> (B, F)."""
        return self._in_backbone(net, images) if self.options.asal_space == "backbone" else self._project(images)

    def _in_backbone(self, net: TaskNet, images: Tensor) -> Tensor:
        """Generated images (B, 3, S, S), or real ones of that form, -> the task network's features (B, F)."""
        x = models.inference.synthesis.network_input(images, self.image_size)
        return net.task.image_features(net.features(x))

    def _embed_real(self, net: TaskNet, images: Tensor) -> Tensor:
        """Images of the pool (B, H, W, 3) uint8 -> (B, F)."""
        if self.options.asal_space == "backbone":
            return net.task.image_features(net.features(models.pixels.normalize(images)))
        return self._project(models.networks.vae.prepare(images, self._size()))

    def _project(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [-1, 1] -> (B, F), by the critic or the principal components."""
        if self.options.asal_space == "critic":
            return self._networks()[1].features(images)
        mean, components = self._space
        return (images.flatten(1) - mean) @ components

    def _components(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> tuple[Tensor, Tensor]:
        """The mean and the first principal components of some of the images."""
        some = np.sort(runtime.rng("asal components").choice(rows, min(FITTED, len(rows)), replace=False))
        images = torch.from_numpy(pixels[some]).to(runtime.device)
        flat = models.networks.vae.prepare(images, self._size()).flatten(1)
        mean = flat.mean(dim=0)
        _, _, components = torch.linalg.svd(flat - mean, full_matrices=False)
        return mean, components[:COMPONENTS].T.contiguous()

    def _uncertainty(self, net: TaskNet) -> Uncertainty:
        measure = models.inference.synthesis.near_boundary if self.num_classes == 2 else predictive_entropy
        return lambda logits: net.task.per_image(measure, logits)

    def _size(self) -> int:
        return models.networks.gan.gan_size(self.image_size)

    def _channels(self, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> int:
        """1 where some of the images, taken at random, are all gray. A GAN that learned colors goes on with them."""
        if self._generator is not None and self._generator.config.channels == 3:
            return 3
        some = pixels[np.sort(runtime.rng("gan channels").choice(rows, min(256, len(rows)), replace=False))]
        return 1 if (some == some[..., :1]).all() else 3

    def _networks(self) -> tuple[Generator, Critic]:
        if self._generator is None or self._critic is None:
            raise NotFitted(f"sampler {self.name}: its GAN was neither trained nor loaded yet")
        return self._generator, self._critic

    def _place(self, config: GANConfig, generator: torch.Generator) -> None:
        maker, critic = models.networks.gan.build_gan(config, generator)
        self._generator, self._critic = maker.to(self.device).eval(), critic.to(self.device).eval()

    # --- from cycle to cycle ---

    def state_dict(self) -> dict[str, Any]:
        if self._wanted is None or self._matches is None:
            return {}
        generator, critic = self._networks()
        return {
            "config": generator.config.to_dict(),
            "generator": generator.state_dict(),
            "critic": critic.state_dict(),
            "learned_from": self._learned_from,
            "health": dict(self._health),
            "images": self.image_size,
            "space": {"name": self.options.asal_space, "tensors": list(self._space)},
            "wanted": self._wanted,
            "matches": self._matches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. The GAN is taken over where it is of the kind and size wanted; what was generated,
        where it is in the space wanted."""
        if not state or state["images"] != self.image_size or state["config"]["kind"] != self.options.gan:
            return
        self._place(models.networks.gan.GANConfig.from_dict(state["config"]), torch.Generator())
        generator, critic = self._networks()
        generator.load_state_dict(state["generator"])
        critic.load_state_dict(state["critic"])
        self._learned_from = int(state["learned_from"])
        self._health = dict(state.get("health", {}))  # older states have none
        if state["space"]["name"] == self.options.asal_space:
            self._space = tuple(tensor.to(self.device, copy=True) for tensor in state["space"]["tensors"])
            self._wanted = state["wanted"].to(self.device, copy=True)
            self._matches = state["matches"].to(self.device, copy=True)
