"""VAAL's game: an autoencoder that hides which images are labelled, a discriminator that finds out.

Sinha, Ebrahimi & Darrell, Variational Adversarial Active Learning (ICCV 2019); equation numbers are the extended
abstract's. The task network takes no part (as in TA-VAAL's code): only which images are labelled matters.

What differs from the authors' code, and why:
- The labelled and the unlabelled batch go through the autoencoder as one, so that batch normalisation sees the mixture
  that it will see in scoring. Apart, each would be centred on its own statistics, and the difference between them,
  the thing to be learnt, would vanish in training and be back in scoring.
- While the discriminator steps, the autoencoder is in eval mode: it learns on the very codes that it will score, and
  the running statistics do not move.
- While the autoencoder steps, the discriminator is frozen and gathers no gradient.

Axis letters: B batch of each stream, N rows asked for, H pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, DataError, Runtime
from models.discriminator import Discriminator, adversarial_loss, discriminator_loss
from models.streaming import evaluating, map_rows
from models.training import TrainingDiverged
from models.training_rows import TrainingRows
from models.vae import VAE, kl_divergence, negative_elbo, prepare, reconstruction_error

PAPER_EPOCHS = 100  # on CUDA: this many passes over all images, whatever their number
CPU_ITERATIONS = {32: 80, 64: 30}  # by working size; about 20 s and half a minute at width 32 on two cores
CPU_BATCH = 32
REPORTS = 200  # progress is told, and the losses looked at, this often
ACCURACY_ROWS = 1000  # of each kind, to measure the discriminator on

Batch = tuple[Tensor, Tensor]  # labelled and unlabelled images, each (B, H, H, 3) uint8


@dataclass(frozen=True)
class AdversarialRecipe:
    """How to train; defaults are the papers'. 0 for iterations and epochs: see `plan`.

    beta: weight of the KL term; strength: λ2, weight of the adversarial term; kl_reduction: "mean" or "sum", see
    `models.vae.negative_elbo`.
    """

    iterations: int = 0
    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 5e-4
    beta: float = 1.0
    strength: float = 1.0
    vae_steps: int = 2
    discriminator_steps: int = 1
    kl_reduction: str = "mean"


def plan(recipe: AdversarialRecipe, labelled: int, unlabelled: int, size: int, device: torch.device) -> tuple[int, int]:
    """Iterations of a cycle and batch size of each stream.

    The recipe's iterations; else its epochs over the larger of the two sets; else on CUDA the paper's
    (labelled + unlabelled) * 100 / batch, and on a CPU a fixed small number of batches of at most 32.
    """
    if recipe.iterations > 0:
        return recipe.iterations, recipe.batch_size
    if recipe.epochs > 0:
        return math.ceil(recipe.epochs * max(labelled, unlabelled) / recipe.batch_size), recipe.batch_size
    if device.type == "cuda":
        return max(1, PAPER_EPOCHS * (labelled + unlabelled) // recipe.batch_size), recipe.batch_size
    return CPU_ITERATIONS[size], min(recipe.batch_size, CPU_BATCH)


class Game:
    """The two networks, their optimisers, and one step of each. Nothing here waits for a CUDA device.

    Raises ValueError for a KL reduction that does not exist.
    """

    def __init__(
        self, vae: VAE, discriminator: Discriminator, recipe: AdversarialRecipe, noise: torch.Generator
    ) -> None:
        """The networks are on their device already; `noise` lives there too."""
        if recipe.kl_reduction not in ("mean", "sum"):
            raise ValueError(f"unknown KL reduction {recipe.kl_reduction!r}: choose mean or sum")
        self.vae = vae
        self.discriminator = discriminator
        self.recipe = recipe
        self._noise = noise
        self._on_cuda = noise.device.type == "cuda"
        self._vae_optimiser = self._adam(vae)
        self._discriminator_optimiser = self._adam(discriminator)

    def _adam(self, net: torch.nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(net.parameters(), lr=self.recipe.learning_rate, fused=self._on_cuda)

    def iterate(self, batches: Iterator[Batch]) -> Tensor:
        """Steps of the autoencoder, each on a new batch, then of the discriminator, the first on the last of them.

        Answers (4,) on the device, of the last step of each: reconstruction error per pixel value, KL in nats (both
        averaged over all images), adversarial loss, discriminator loss.
        """
        for _ in range(self.recipe.vae_steps):
            batch = next(batches)
            vae_losses = self.vae_step(*batch)
        for step in range(self.recipe.discriminator_steps):
            if step > 0:
                batch = next(batches)
            loss = self.discriminator_step(*batch)
        return torch.cat([vae_losses, loss[None]])

    def vae_step(self, labelled: Tensor, unlabelled: Tensor) -> Tensor:
        """One step on L_VAE = L_trd + λ2 L_adv (equation 4), images as in `Batch`; nothing of the discriminator moves.

        Answers (3,): reconstruction error, KL, adversarial loss.
        """
        self.vae.train()
        self.discriminator.requires_grad_(False)
        images = self._prepare(labelled, unlabelled)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._on_cuda):
            reconstruction, mean, log_variance = self.vae(images, self._noise)
        errors, kl = reconstruction_error(reconstruction, images), kl_divergence(mean, log_variance)
        states = self.discriminator(mean)  # of the mean, not of the draw, as the authors'

        count, values = len(labelled), images[0].numel()
        beta, reduction = self.recipe.beta, self.recipe.kl_reduction
        adversarial = adversarial_loss(states[:count], states[count:])
        loss = (
            negative_elbo(errors[:count], kl[:count], values, beta, reduction)
            + negative_elbo(errors[count:], kl[count:], values, beta, reduction)
            + self.recipe.strength * adversarial
        )
        self._vae_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._vae_optimiser.step()
        self.discriminator.requires_grad_(True)
        return torch.stack([errors.mean(), kl.mean(), adversarial]).detach()

    def discriminator_step(self, labelled: Tensor, unlabelled: Tensor) -> Tensor:
        """One step on L_D (equation 3), images as in `Batch`; nothing of the autoencoder moves. Answers the loss ()."""
        self.vae.eval()
        images = self._prepare(labelled, unlabelled)
        with torch.no_grad(), torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._on_cuda):
            means = self.vae.encoder.means(images)
        states = self.discriminator(means)
        loss = discriminator_loss(states[: len(labelled)], states[len(labelled) :])
        self._discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._discriminator_optimiser.step()
        return loss.detach()

    def _prepare(self, labelled: Tensor, unlabelled: Tensor) -> Tensor:
        return prepare(torch.cat([labelled, unlabelled]), self.vae.config.image_size)

    def state_dict(self) -> dict[str, Any]:
        """State of the two optimisers; the networks are the caller's."""
        return {
            "vae": self._vae_optimiser.state_dict()["state"],
            "discriminator": self._discriminator_optimiser.state_dict()["state"],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from another game's optimisers, with this one's learning rate. Shares tensors with `state`."""
        for name, optimiser in (("vae", self._vae_optimiser), ("discriminator", self._discriminator_optimiser)):
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state[name], "param_groups": groups})


def train_adversarially(
    game: Game, data: CycleData, iterations: int, batch_size: int, runtime: Runtime
) -> dict[str, float]:
    """Play for `iterations` over endless shuffled streams of labelled and of unlabelled rows, each of its own seed.

    A set smaller than the batch is gone through more than once in it. Leaves both networks in eval mode. Calls
    runtime.progress("fit", iteration, iterations). Answers figures to record: iterations, batch_size, seconds,
    iterations_per_second, the losses (means over the last tenth) and discriminator_accuracy (see there).

    Raises models.data.DataError when either set is empty, TrainingDiverged when a loss is not finite.
    """
    if len(data.labelled) == 0 or len(data.unlabelled) == 0:
        raise DataError("VAAL learns to tell labelled from unlabelled rows and needs some of both")
    started = time.perf_counter()
    report_every, tail = max(1, iterations // REPORTS), iterations - max(1, iterations // 10)
    totals = torch.zeros(4, device=runtime.device)
    labelled = TrainingRows(data.pixels, data.labelled, runtime)
    unlabelled = TrainingRows(data.pixels, data.unlabelled, runtime)
    with (
        closing(labelled.endless(batch_size, runtime.generator("vaal labelled", labelled.device))) as left,
        closing(unlabelled.endless(batch_size, runtime.generator("vaal unlabelled", unlabelled.device))) as right,
    ):
        batches = ((a, b) for (_, a), (_, b) in zip(left, right, strict=True))
        for iteration in range(1, iterations + 1):
            totals += game.iterate(batches)
            if iteration % report_every == 0 or iteration == iterations:
                _check_finite(totals, game.recipe)  # the only wait for the device
                runtime.progress("fit", iteration, iterations)
            if iteration == tail:
                totals.zero_()
    game.vae.eval()
    game.discriminator.eval()
    seconds = time.perf_counter() - started
    reconstruction, kl, adversarial, discriminator = (totals / (iterations - tail)).tolist()
    return {
        "iterations": iterations,
        "batch_size": batch_size,
        "seconds": seconds,
        "iterations_per_second": iterations / seconds,
        "reconstruction_loss": reconstruction,
        "kl_loss": kl,
        "adversarial_loss": adversarial,
        "discriminator_loss": discriminator,
        "discriminator_accuracy": discriminator_accuracy(game.vae, game.discriminator, data, runtime),
    }


def _check_finite(totals: Tensor, recipe: AdversarialRecipe) -> None:
    if not bool(torch.isfinite(totals).all()):
        raise TrainingDiverged(
            "VAAL's losses are not finite: set vaal_learning_rate lower"
            f" (it is {recipe.learning_rate:g}), or vaal_kl_reduction to mean if it is sum"
        )


def state_logits(
    vae: VAE, discriminator: Discriminator, pixels: np.ndarray, rows: np.ndarray, runtime: Runtime, phase: str = "score"
) -> np.ndarray:
    """Logit of "labelled" of every row, log D(μ) - log(1 - D(μ)): (N,) float32, in one pass of the encoder.

    Both networks in eval mode meanwhile and afterwards as they were. In float32 on every device, because an order of
    the pool needs more digits than bfloat16's eight bits. `rows` must not be empty.
    """
    size = vae.config.image_size

    def compute(images: Tensor) -> tuple[Tensor, ...]:
        return (discriminator(vae.encoder.means(prepare(images, size))),)

    with evaluating(vae, discriminator):
        return map_rows(pixels, rows, runtime, compute, phase)[0]


def discriminator_accuracy(vae: VAE, discriminator: Discriminator, data: CycleData, runtime: Runtime) -> float:
    """Mean of the shares of labelled and of unlabelled rows, up to 1,000 each, whose state is found: 0.5 is chance."""
    rng = runtime.rng("vaal accuracy")
    found = []
    for rows, sign in ((data.labelled, 1.0), (data.unlabelled, -1.0)):
        some = rng.choice(rows, min(ACCURACY_ROWS, len(rows)), replace=False)
        found.append(np.mean(sign * state_logits(vae, discriminator, data.pixels, some, runtime, "fit") > 0.0))
    return float(np.mean(found))
