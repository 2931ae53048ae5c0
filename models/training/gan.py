"""Trains a generator of the pool's images, and says how good it is.

Axis letters: N rows, B batch, Z latent, S side of the working size.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data import DataError, Runtime
from models.geometry.manifolds import precision_and_recall
from models.networks.gan import Critic, Generator, critic_loss, generator_loss, gradient_penalty
from models.networks.vae import prepare
from models.training.budget import Pace
from models.training.rows import TrainingRows
from models.training.task_network import TrainingDiverged
from models.training.working_copy import working_copy

BATCH = 64
PENALTY = 10.0  # λ of the gradient penalty
CRITIC_STEPS = {"wgan-gp": 5, "dcgan": 1}
ADAM = {"wgan-gp": (1e-4, (0.5, 0.9)), "dcgan": (2e-4, (0.5, 0.999))}
"""Learning rate and betas of both optimizers, as in the papers."""
AVERAGE = 0.999  # share of the averaged generator that a step keeps
REPORTS = 200
SAMPLES = 256  # images that the health of a generator is measured on


@dataclass(frozen=True)
class TrainedGAN:
    """generator: the moving average over all steps, whose images are better than the last one's; critic: the last one;
    both in eval mode. metrics: to log."""

    generator: Generator
    critic: Critic
    metrics: dict[str, float]


def train_gan(
    generator: Generator, critic: Critic, pixels: np.ndarray, rows: np.ndarray, iterations: int, runtime: Runtime
) -> TrainedGAN:
    """Train both in place on rows (N,) of pixels (M, H, W, 3) uint8, for `iterations` or until `runtime.deadline`.

    An iteration is one step of the generator after one of the critic, or after five for "wgan-gp", each on a batch of
    its own. Calls runtime.progress("gan", iteration, iterations).

    Raises models.data.DataError for fewer than two rows, TrainingDiverged when a loss is not finite.
    """
    if len(rows) < 2:
        raise DataError("a generator needs two images or more to learn from")
    started = time.perf_counter()
    size = generator.config.image_size
    trainer = _Trainer(generator, critic, runtime)
    pace = Pace(iterations, runtime.deadline, runtime.device)
    with working_copy(pixels, rows, size, runtime, "gan") as (copied, places):
        images = TrainingRows(copied, places, runtime)
        batch = min(BATCH, len(rows))
        with closing(images.endless(batch, runtime.generator("gan batches", images.device))) as stream:
            real = (prepare(found, size) for _, found in stream)
            every = max(1, iterations // REPORTS)
            while not pace.over:
                losses = trainer.iterate(real)
                pace.step()
                if pace.taken % every == 0 or pace.over:
                    _check_finite(losses)
                    runtime.progress("gan", iterations if pace.over else int(pace.place), iterations)
    seconds = time.perf_counter() - started
    metrics = {"gan_iterations": float(pace.taken), "gan_seconds": seconds, "gan_critic_loss": float(losses[0])}
    return TrainedGAN(trainer.average.eval(), critic.eval(), metrics)


class _Trainer:
    def __init__(self, generator: Generator, critic: Critic, runtime: Runtime) -> None:
        self.generator, self.critic = generator.train(), critic.train()
        self.average = copy.deepcopy(generator)
        self._config = generator.config
        rate, betas = ADAM[self._config.kind]
        self._generator_steps = torch.optim.Adam(generator.parameters(), lr=rate, betas=betas)
        self._critic_steps = torch.optim.Adam(critic.parameters(), lr=rate, betas=betas)
        self._noise = runtime.generator("gan noise")
        self._taken = 0

    def latent(self, count: int) -> Tensor:
        return torch.randn((count, self._config.latent), generator=self._noise, device=self._noise.device)

    def iterate(self, real: Iterator[Tensor]) -> Tensor:
        """Returns the last losses of critic and generator, (2,) on the device."""
        for _ in range(CRITIC_STEPS[self._config.kind]):
            images = next(real)
            of_critic = self._critic_step(images)
        of_generator = generator_loss(self._config, self.critic(self.generator(self.latent(len(images)))))
        self._generator_steps.zero_grad(set_to_none=True)
        of_generator.backward()
        self._generator_steps.step()
        self._taken += 1
        self._average()
        return torch.stack([of_critic.detach(), of_generator.detach()])

    def _critic_step(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.generator(self.latent(len(images)))
        loss = critic_loss(self._config, self.critic(images), self.critic(fake))
        if self._config.kind == "wgan-gp":
            loss = loss + PENALTY * gradient_penalty(self.critic, images, fake, self._noise)
        self._critic_steps.zero_grad(set_to_none=True)
        loss.backward()
        self._critic_steps.step()
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged generator; in the first steps it follows faster, so that it forgets its first weights."""
        keep = min(AVERAGE, self._taken / (self._taken + 10.0))
        for mean, now in zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1.0 - keep)
            else:
                mean.copy_(now)


def _check_finite(losses: Tensor) -> None:
    if not bool(torch.isfinite(losses).all()):
        raise TrainingDiverged("the generator's training diverged: choose the other kind of GAN, or fewer iterations")


@torch.no_grad()
def generator_health(
    generator: Generator,
    critic: Critic,
    pixels: np.ndarray,
    rows: np.ndarray,
    embed: Callable[[Tensor], Tensor],
    runtime: Runtime,
) -> dict[str, float]:
    """How good the generator is, on up to 256 images of each sort.

    critic_gap: E D(real) - E D(generated). distinct_neighbors: the share of different images among the real ones that
    are nearest to each generated one in the critic's features: near 0 where all generated images look alike. precision
    and recall: see `models.geometry.manifolds`, in the features of `embed`, which takes images (B, 3, S, S) in [-1, 1].
    """
    rng = runtime.rng("gan health")
    some = np.sort(rng.choice(rows, min(SAMPLES, len(rows)), replace=False))
    size = generator.config.image_size
    real = prepare(torch.from_numpy(pixels[some]).to(runtime.device), size)
    noise = runtime.generator("gan health")
    latent = torch.randn((len(real), generator.config.latent), generator=noise, device=runtime.device)
    fake = generator(latent)
    nearest = torch.cdist(critic.features(fake), critic.features(real)).argmin(dim=1)
    precision, recall = precision_and_recall(*(torch.cat([embed(b) for b in of.split(BATCH)]) for of in (real, fake)))
    return {
        "gan_critic_gap": float(critic(real).mean() - critic(fake).mean()),
        "gan_distinct_neighbors": len(nearest.unique()) / len(nearest),
        "gan_precision": precision,
        "gan_recall": recall,
    }
