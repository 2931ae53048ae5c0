"""Trains a generator of the pool's images, in one go or in pieces.

Axis letters: N rows, B batch, Z latent, S side of the working size.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from models.data import DataError, Runtime
from models.networks.gan import (
    Critic,
    GANConfig,
    Generator,
    build_gan,
    critic_loss,
    generator_loss,
    gradient_penalty,
)
from models.networks.vae import prepare
from models.training.budget import Pace
from models.training.rows import TrainingRows
from models.training.task_network import TrainingDiverged
from models.training.working_copy import working_copy

PENALTY = 10.0  # λ of the gradient penalty


@dataclass(frozen=True)
class GanRecipe:
    """batch: images of a step. rate, betas: of Adam, for both networks. critic_steps: of the critic, for each step of
    the generator."""

    batch: int
    rate: float
    betas: tuple[float, float]
    critic_steps: int


PAPERS = {"wgan-gp": GanRecipe(64, 1e-4, (0.5, 0.9), 5), "dcgan": GanRecipe(64, 2e-4, (0.5, 0.999), 1)}
QUICK = {"wgan-gp": GanRecipe(32, 1e-3, (0.0, 0.9), 1), "dcgan": GanRecipe(32, 1e-3, (0.5, 0.999), 1)}
"""For the few thousand iterations that a CPU can do in minutes: five times the papers' rates, half of their batches.
After as many iterations, those make shapeless images still."""
AVERAGE = 0.999  # share of the averaged generator that a step keeps
REPORTS = 200


class GanTraining:
    """The training of a generator and its critic, which can be left at any iteration, stored, and gone on with.

    generator, critic  as of the last iteration. average: the moving average of the generators of all iterations,
                       whose images are better than the last one's.
    taken, seconds     iterations so far, and how long they took.
    losses             of critic and generator, (2,), in the last iteration.
    """

    def __init__(self, generator: Generator, critic: Critic, seed: int) -> None:
        """Trains both in place, on the device that they are on, by the recipe for it. seed: what the batches and
        latents of every iteration are drawn by."""
        # the layout that convolutions are fastest in
        self.generator = generator.to(memory_format=torch.channels_last)
        self.critic = critic.to(memory_format=torch.channels_last)
        self.seed = seed
        self.average = copy.deepcopy(generator).eval()
        self.taken, self.seconds = 0, 0.0
        self.losses = torch.zeros(2)
        on_cpu = next(generator.parameters()).device.type == "cpu"
        self.recipe = recipe = (QUICK if on_cpu else PAPERS)[self.config.kind]
        self._generator_steps = torch.optim.Adam(generator.parameters(), lr=recipe.rate, betas=recipe.betas)
        self._critic_steps = torch.optim.Adam(critic.parameters(), lr=recipe.rate, betas=recipe.betas)

    @property
    def config(self) -> GANConfig:
        return self.generator.config

    def run(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        iterations: int,
        runtime: Runtime,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Go on, on rows (N,) of pixels (M, H, W, 3) uint8, until `iterations` are taken in all, `runtime.deadline` has
        come, or `enough()`, which is asked after each iteration. Calls runtime.progress("gan", iteration, iterations).

        An iteration is one step of the generator after `recipe.critic_steps` of the critic, each on a batch of its
        own. What an iteration draws depends on the seed and its number alone: a training in pieces is the same
        as one in one go. Both networks are in eval mode afterwards.

        Raises models.data.DataError for fewer than two rows, TrainingDiverged when a loss is not finite.
        """
        if len(rows) < 2:
            raise DataError("a generator needs two images or more to learn from")
        if self.taken >= iterations:
            return
        size, before, started = self.config.image_size, self.seconds, time.perf_counter()
        pace = Pace(iterations - self.taken, runtime.deadline, runtime.device)
        every = max(1, iterations // REPORTS)
        self.generator.train()
        self.critic.train()
        with working_copy(pixels, rows, size, runtime, "gan") as (copied, places):
            images = TrainingRows(copied, places, runtime)
            plan = self._positions(len(rows), images.device)
            with closing(images.batches(plan)) as stream:
                real = (prepare(found, size) for _, found in stream)
                while not pace.over:
                    self.losses = self._iterate(real, runtime.device)
                    pace.step()
                    if self.taken % every == 0 or pace.over:
                        _check_finite(self.losses)
                        runtime.progress("gan", self.taken, iterations)
                    if enough():
                        break
        _check_finite(self.losses)
        self.seconds = before + time.perf_counter() - started
        self.generator.eval()
        self.critic.eval()

    # --- one iteration ---

    def _positions(self, count: int, device: torch.device) -> Iterator[Tensor]:
        """The places (B,) of each batch from the next iteration on, drawn with replacement."""
        iteration, batch = self.taken, min(self.recipe.batch, count)
        while True:
            drawn = self._drawing(iteration, 1, device)
            for _ in range(self.recipe.critic_steps):
                yield torch.randint(count, (batch,), generator=drawn, device=device)
            iteration += 1

    def _drawing(self, iteration: int, stream: int, device: torch.device) -> torch.Generator:
        words = np.random.SeedSequence([self.seed % 2**64, iteration, stream]).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(words[0] >> np.uint64(2)))

    def _iterate(self, real: Iterator[Tensor], device: torch.device) -> Tensor:
        """Returns the last losses of critic and generator, (2,) on the device."""
        noise = self._drawing(self.taken, 0, device)
        for step in range(self.recipe.critic_steps):
            images = next(real)
            latent = torch.randn((len(images), self.config.latent), generator=noise, device=device)
            last = step + 1 == self.recipe.critic_steps
            with torch.set_grad_enabled(last):  # the generator's own step goes on with the images of the last one
                fake = self.generator(latent)
            of_critic = self._critic_step(images, fake.detach(), noise)
        self.critic.requires_grad_(False)
        of_generator = generator_loss(self.config, self.critic(fake))
        self._generator_steps.zero_grad(set_to_none=True)
        of_generator.backward()
        self._generator_steps.step()
        self.critic.requires_grad_(True)
        self.taken += 1
        self._follow()
        return torch.stack([of_critic.detach(), of_generator.detach()])

    def _critic_step(self, images: Tensor, fake: Tensor, noise: torch.Generator) -> Tensor:
        loss = critic_loss(self.config, self.critic(images), self.critic(fake))
        if self.config.kind == "wgan-gp":
            loss = loss + PENALTY * gradient_penalty(self.critic, images, fake, noise)
        self._critic_steps.zero_grad(set_to_none=True)
        loss.backward()
        self._critic_steps.step()
        return loss

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged generator; in the first steps it follows faster, so that it forgets its first weights."""
        keep = min(AVERAGE, self.taken / (self.taken + 10.0))
        for mean, now in zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1.0 - keep)
            else:
                mean.copy_(now)

    # --- left and gone on with ---

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training needs, as tensors and plain Python only."""
        nets = {"generator": self.generator, "critic": self.critic, "average": self.average}
        steps = {"generator_steps": self._generator_steps, "critic_steps": self._critic_steps}
        plain = {"config": self.config.to_dict(), "seed": self.seed, "taken": self.taken, "seconds": self.seconds}
        return plain | {name: part.state_dict() for name, part in (nets | steps).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: torch.device) -> Self:
        """What `state_dict` gave, on `device`."""
        generator, critic = build_gan(GANConfig.from_dict(state["config"]), torch.Generator())
        training = cls(generator.to(device).eval(), critic.to(device).eval(), state["seed"])
        for name in ("generator", "critic", "average"):
            getattr(training, name).load_state_dict(state[name])
        training._generator_steps.load_state_dict(state["generator_steps"])
        training._critic_steps.load_state_dict(state["critic_steps"])
        training.taken, training.seconds = state["taken"], state["seconds"]
        return training


def _check_finite(losses: Tensor) -> None:
    if not bool(torch.isfinite(losses).all()):
        raise TrainingDiverged("the generator's training diverged: choose the other kind of GAN, or fewer iterations")
