"""Trains a generator of the pool's images, in one go or in pieces.

Axis letters: B batch, Z latent, S side of the working size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from models.networks.gan import (
    Critic,
    GANConfig,
    Generator,
    build_gan,
    critic_loss,
    generator_loss,
    gradient_penalty,
)
from models.training.in_pieces import InPieces

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
"""For the few thousand iterations that a CPU can do in minutes: higher rates and smaller batches. After 850 iterations
of the paper's DCGAN, images were shapeless still; after 800 of this one, they had the shapes of clothes."""
AVERAGE = 0.999  # share of the averaged generator that a step keeps


class GanTraining(InPieces):
    """The training of a generator and its critic.

    generator, critic  as of the last iteration. average: the moving average of the generators of all iterations,
                       whose images are better than the last one's.
    losses             of critic and generator, (2,), in the last iteration.
    """

    phase = "gan"

    def __init__(self, generator: Generator, critic: Critic, seed: int) -> None:
        """Trains both in place, on the device that they are on, by the recipe for it. seed: what the batches and
        latents of every iteration are drawn by."""
        super().__init__(seed)
        # the layout that convolutions are fastest in
        self.generator = generator.to(memory_format=torch.channels_last)
        self.critic = critic.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(generator).eval()
        on_cpu = next(generator.parameters()).device.type == "cpu"
        recipe = (QUICK if on_cpu else PAPERS)[self.config.kind]
        self.batch, self.batches = recipe.batch, recipe.critic_steps
        self._generator_steps = torch.optim.Adam(generator.parameters(), lr=recipe.rate, betas=recipe.betas)
        self._critic_steps = torch.optim.Adam(critic.parameters(), lr=recipe.rate, betas=recipe.betas)

    @property
    def config(self) -> GANConfig:
        return self.generator.config

    @property
    def size(self) -> int:
        return self.config.image_size

    def networks(self) -> tuple[nn.Module, ...]:
        return self.generator, self.critic

    def iterate(self, real: Iterator[Tensor], noise: torch.Generator) -> Tensor:
        """One step of the generator after `recipe.critic_steps` of the critic, each on a batch of its own. Returns the
        last losses of critic and generator, (2,) on the device."""
        for step in range(self.batches):
            images = next(real)
            latent = torch.randn((len(images), self.config.latent), generator=noise, device=noise.device)
            last = step + 1 == self.batches
            with torch.set_grad_enabled(last):  # the generator's own step goes on with the images of the last one
                fake = self.generator(latent)
            of_critic = self._critic_step(images, fake.detach(), noise)
        self.critic.requires_grad_(False)
        of_generator = generator_loss(self.config, self.critic(fake))
        self._generator_steps.zero_grad(set_to_none=True)
        of_generator.backward()
        self._generator_steps.step()
        self.critic.requires_grad_(True)
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
        taken = self.taken + 1
        keep = min(AVERAGE, taken / (taken + 10.0))
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
