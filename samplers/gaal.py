"""GAAL: generate the images that the network would be least sure of, and ask for these themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from samplers.base import Answered, Generated, Scored
from samplers.deferred import models, torch
from samplers.entropy import entropy_in_words
from samplers.gan_base import GanOptions, GanSampler

if TYPE_CHECKING:
    from torch import Tensor

    from models.data import CycleData, Runtime
    from models.networks.base import TaskNet

SPARE = 2  # times as many images are generated as are wanted, where some are to be left out
EMBEDDED = 128  # images at a time
COMPARED = 2_000  # recognized images at most that generated ones are compared with
SEEDS = 2**31


class GaalSampler(GanSampler[GanOptions]):
    """Generative adversarial active learning (Zhu & Bento 2017).

    A GAN is trained on all images, labeled or not, apart from any cycle, and further when the pool has grown. In each
    cycle its latents are moved to where the task network is least sure, z* = argmin ‖Wᵀφ(G(z)) + b‖ between two
    classes and argmax H(p(c | G(z))) among several, and annotators are asked for the images made there. Real images
    are ordered by the entropy of the network's predictions, because the paper has no order of them.

    Where annotators recognized nothing in an image, the pool is taken to be thin: what is generated nearer to such an
    image than to any that was recognized is left out.
    """

    name: ClassVar[str] = "gaal"
    summary: ClassVar[str] = "generated images that the network is least sure of; real ones like `entropy`"
    why: ClassVar[str] = "the network is unsure of it"
    source: ClassVar[str] = "Zhu & Bento 2017"
    generates: ClassVar[bool] = True
    Options = GanOptions

    @classmethod
    def reason(cls, acquisition: float | None) -> str:
        return cls.why if acquisition is None else entropy_in_words(acquisition)

    def fit(self, net: TaskNet, data: CycleData, runtime: Runtime) -> dict[str, float]:
        """Take over the GAN that was prepared, or train it where that is due, phase "gan"."""
        return self.ready_gan(net, data.pixels, np.concatenate([data.labeled, data.unlabeled]), runtime)

    def _score(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime) -> Scored:
        """H = -sum_c p_c log p_c in nats, (N,), of real images: see `samplers.entropy.EntropySampler`."""
        return self.by_entropy(net, pixels, rows, runtime)

    def generate(
        self, net: TaskNet, pixels: np.ndarray, count: int, answered: Answered, runtime: Runtime
    ) -> Generated | None:
        """Phase "synthesis". Each of the starts is drawn by a seed of its own, so that where an image began can be
        drawn again. None while the GAN is still being trained. Raises NotFitted."""
        if self._waits:
            return None
        latent = self.gan()[0].config.latent
        wanted = count * (SPARE if len(answered.unrecognized) else 1)
        rng = runtime.rng("gaal seeds")
        seeds = rng.choice(SEEDS, wanted * self.options.synthetic_restarts, replace=False).astype(np.int64)
        copied = models.inference.fused.scoring_copy(net, runtime)
        start = torch.stack([_start(int(seed), latent) for seed in seeds]).to(self.device)
        made = self.synthesize(copied, start, runtime)
        kept = self._dense(copied, made.images, pixels, answered, runtime)[:count]
        images = models.networks.gan.as_pixels(made.images[kept])
        return Generated(
            images.cpu().numpy(),
            seeds[made.began[kept].cpu().numpy()],
            *(values[kept].double().cpu().numpy() for values in (made.before, made.after)),
        )

    def _dense(self, net: TaskNet, images: Tensor, pixels: np.ndarray, answered: Answered, runtime: Runtime) -> Tensor:
        """The places (K,) of those of the generated images (G, 3, S, S) that are not like unrecognized ones."""
        if not len(answered.unrecognized):
            return torch.arange(len(images), device=images.device)
        recognized = answered.recognized
        if len(recognized) > COMPARED:
            recognized = runtime.rng("gaal recognized").choice(recognized, COMPARED, replace=False)
        with torch.inference_mode():
            made = torch.cat([self.in_backbone(net, part) for part in images.split(EMBEDDED)])
            known, unknown = (self._features(net, pixels, rows) for rows in (recognized, answered.unrecognized))
            return torch.nonzero(nearer_to_first(made, known, unknown)).squeeze(1)

    def _features(self, net: TaskNet, pixels: np.ndarray, rows: np.ndarray) -> Tensor:
        """The task network's features (N, F) of rows (N,) of pixels, at the size of generated images."""
        parts = [rows[start : start + EMBEDDED] for start in range(0, len(rows), EMBEDDED)]
        images = (torch.from_numpy(pixels[part]).to(self.device) for part in parts)
        prepare = models.networks.vae.prepare
        return torch.cat([self.in_backbone(net, prepare(some, self.side())) for some in images])

    def state_dict(self) -> dict[str, Any]:
        if self._waits:
            return {"waits": True}
        return {} if self._generator is None else self.gan_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As the base class says. The GAN is taken over where it is of the kind and size wanted."""
        self.load_gan(state)


def nearer_to_first(points: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whether each of the points (N, F) is nearer to one of the first (A, F), A >= 1, than to all of the second
    (B, F), B >= 1: (N,) bool."""
    to_first, to_second = (torch.cdist(points.double(), others.double()).amin(dim=1) for others in (first, second))
    return to_first < to_second


def _start(seed: int, latent: int) -> Tensor:
    """A latent (Z,) of N(0, 1), the same on every device."""
    return torch.randn(latent, generator=torch.Generator().manual_seed(seed))
