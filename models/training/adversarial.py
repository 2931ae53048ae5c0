"""The training of VAAL and its relatives, on labeled and unlabeled images: one loop for all of them. What the networks
are and what a step does is the business of an `AdversarialTrainer`: see `models.training.adversarial_trainers`.

Axis letters: B batch of each stream, N rows asked for, H pixels, S side of the working size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.data import CycleData, DataError, Runtime
from models.networks.vae import KL_REDUCTIONS, prepare
from models.training.budget import Pace
from models.training.rows import TrainingRows
from models.training.task_network import TrainingDiverged
from models.training.working_copy import working_copy

PAPER_EPOCHS = 100  # on CUDA: this many passes over all images, whatever their number
CPU_ITERATIONS = {32: 80, 64: 30}  # by working size; about 20 s and half a minute at width 32 on two cores
CPU_BATCH = 32
FEATURE_ITERATIONS = 300  # on a CPU, of features in place of images
REPORTS = 200  # how often progress is reported and the losses are looked at
ACCURACY_ROWS = 1000  # of each kind, to measure the discriminator on


STREAMS = ("joint", "separate")
"""As one batch, or each for itself: what batch normalization takes its statistics over."""


@dataclass(frozen=True)
class AdversarialRecipe:
    """How to train; defaults are VAAL's. 0 for iterations and epochs: see `plan`.

    beta: weight of the KL term; strength: λ2, weight of the adversarial term; vae_steps, discriminator_steps: in an
    iteration, 0 where a trainer has none of them; kl_reduction: see `models.networks.vae.negative_elbo`; streams: one
    of STREAMS, how the labeled and the unlabeled batch go through the autoencoder while it steps.

    Raises ValueError for a KL reduction or streams that do not exist.
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
    streams: str = "joint"

    def __post_init__(self) -> None:
        if self.streams not in STREAMS:
            raise ValueError(f"unknown streams {self.streams!r}: choose one of {', '.join(STREAMS)}")
        if self.kl_reduction not in KL_REDUCTIONS:
            raise ValueError(f"unknown KL reduction {self.kl_reduction!r}: choose one of {', '.join(KL_REDUCTIONS)}")


def plan(recipe: AdversarialRecipe, labeled: int, unlabeled: int, size: int, device: torch.device) -> tuple[int, int]:
    """Iterations of a cycle and batch size of each stream.

    The recipe's iterations; else its epochs over the larger of the two sets; else on CUDA the paper's
    (labeled + unlabeled) * 100 / batch, and on a CPU a fixed small number of batches of at most 32. size: 0 for
    features in place of images, of which a CPU has time for more.
    """
    if recipe.iterations > 0:
        return recipe.iterations, recipe.batch_size
    if recipe.epochs > 0:
        return math.ceil(recipe.epochs * max(labeled, unlabeled) / recipe.batch_size), recipe.batch_size
    if device.type == "cuda":
        return max(1, PAPER_EPOCHS * (labeled + unlabeled) // recipe.batch_size), recipe.batch_size
    if size == 0:
        return FEATURE_ITERATIONS, min(recipe.batch_size, CPU_BATCH)
    return CPU_ITERATIONS[size], min(recipe.batch_size, CPU_BATCH)


class Batch(NamedTuple):
    """Equally many images of both streams, each (B, H, H, 3) uint8, or features (B, P) float16, and their positions,
    each (B,) int64, in `CycleData.labeled` and `CycleData.unlabeled`: what a trainer knows of single rows is looked up
    there.
    """

    labeled: Tensor
    unlabeled: Tensor
    labeled_at: Tensor
    unlabeled_at: Tensor

    def prepared(self, size: int) -> Tensor:
        """(2 B, 3, S, S) with S = size, or (2 B, P) of features, float32; the labeled first."""
        both = torch.cat([self.labeled, self.unlabeled])
        return prepare(both, size) if both.dtype == torch.uint8 else both.float()


class AdversarialTrainer:
    """Networks, an optimizer for each of them, and one step of each kind. Nothing in it waits for a CUDA device.

    vae_losses: names of what `vae_step` returns.
    """

    vae_losses: ClassVar[tuple[str, ...]] = ()

    def __init__(self, networks: Mapping[str, nn.Module], recipe: AdversarialRecipe, device: torch.device) -> None:
        """networks: the networks by name, on `device` already."""
        self.networks = dict(networks)
        self.recipe = recipe
        self._on_cuda = device.type == "cuda"
        self._optimizers = {
            name: torch.optim.Adam(net.parameters(), lr=recipe.learning_rate, fused=self._on_cuda)
            for name, net in self.networks.items()
        }

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of what `iterate` returns."""
        of_vae = self.vae_losses if self.recipe.vae_steps else ()
        return (*of_vae, "discriminator_loss") if self.recipe.discriminator_steps else of_vae

    def iterate(self, batches: Iterator[Batch]) -> Tensor:
        """Steps of the autoencoder, each on a new batch, then of the discriminator, the first on the last of them.

        Returns the `losses` of the last step of each kind: a vector on the device.
        """
        losses = []
        for _ in range(self.recipe.vae_steps):
            batch = next(batches)
            losses = [self.vae_step(batch)]
        loss = None
        for step in range(self.recipe.discriminator_steps):
            if step > 0 or not losses:
                batch = next(batches)
            loss = self.discriminator_step(batch)
        return torch.cat(losses if loss is None else [*losses, loss[None]])

    def vae_step(self, batch: Batch) -> Tensor:
        """One step of the autoencoder; nothing of the discriminator moves. Returns `vae_losses`, on the device."""
        raise NotImplementedError(f"{type(self).__name__} has no autoencoder to train")

    def discriminator_step(self, batch: Batch) -> Tensor:
        """One step of the discriminator; nothing of the autoencoder moves. Returns the loss ()."""
        raise NotImplementedError(f"{type(self).__name__} has no discriminator to train")

    def optimizer_step(self, network: str, loss: Tensor) -> None:
        """One step of this network's optimizer down the gradient of `loss`, a scalar."""
        optimizer = self._optimizers[network]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def reduced_precision(self) -> torch.autocast:
        """bfloat16 for convolutions on CUDA."""
        device = "cuda" if self._on_cuda else "cpu"
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self._on_cuda)

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizers; the networks are the caller's."""
        return {name: optimizer.state_dict()["state"] for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the optimizers of another trainer of this kind, with this one's learning rate. Shares tensors
        with `state`.
        """
        for name, optimizer in self._optimizers.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state[name], "param_groups": groups})


def train_adversarially(
    trainer: AdversarialTrainer,
    data: CycleData,
    iterations: int,
    batch_size: int,
    runtime: Runtime,
    size: int = 0,
    features: np.ndarray | None = None,
) -> dict[str, float]:
    """Train for `iterations` over endless shuffled streams of labeled and of unlabeled rows, each of its own seed, or
    for fewer of them until `runtime.deadline`, give or take one.

    size: S, at which the trainer sees images; much larger ones are shrunk to it beforehand, once; 0: never.
    features: (L + U, P) float16, what it sees of the labeled rows and then of the unlabeled ones in place of images.
    A set smaller than the batch is gone through more than once in it. Leaves all networks in eval mode. Calls
    runtime.progress("fit", iteration, iterations). Returns metrics to log: iterations, batch_size, seconds,
    iterations_per_second, bounded_by_seconds (1 where the deadline came first, else 0) and the trainer's losses (means
    over the last tenth).

    Raises models.data.DataError when either set is empty, TrainingDiverged when a loss is not finite.
    """
    if len(data.labeled) == 0 or len(data.unlabeled) == 0:
        raise DataError("a discriminator tells labeled rows from unlabeled ones: that needs some of both")
    started = time.perf_counter()
    everything = np.concatenate([data.labeled, data.unlabeled])
    often = 2 * iterations * batch_size > len(everything)  # what is seen once at most is not worth a copy
    source, everything = (data.pixels, everything) if features is None else (features, np.arange(len(everything)))
    with working_copy(source, everything, size if often and features is None else 0, runtime) as (pixels, rows):
        labeled, unlabeled = (TrainingRows(pixels, part, runtime) for part in np.split(rows, [len(data.labeled)]))
        pace = Pace(iterations, runtime.deadline, runtime.device)
        losses = _iterate(trainer, labeled, unlabeled, pace, batch_size, runtime).tolist()
    seconds = time.perf_counter() - started
    return {
        "iterations": pace.taken,
        "batch_size": batch_size,
        "seconds": seconds,
        "iterations_per_second": pace.taken / seconds,
        "bounded_by_seconds": float(pace.taken < iterations),
        **dict(zip(trainer.losses, losses, strict=True)),
    }


def _iterate(
    trainer: AdversarialTrainer,
    labeled: TrainingRows,
    unlabeled: TrainingRows,
    pace: Pace,
    batch_size: int,
    runtime: Runtime,
) -> Tensor:
    """The iterations. Returns the mean of the losses over the last tenth, on the device."""
    iterations = pace.steps
    report_every, tail = max(1, iterations // REPORTS), iterations - max(1, iterations // 10)
    totals, counted = torch.zeros(len(trainer.losses), device=runtime.device), 0
    place, over = 0.0, False
    with (
        closing(labeled.endless(batch_size, runtime.generator("vaal labelled", labeled.device))) as left,
        closing(unlabeled.endless(batch_size, runtime.generator("vaal unlabelled", unlabeled.device))) as right,
    ):
        batches = (Batch(a, b, at_a, at_b) for (at_a, a), (at_b, b) in zip(left, right, strict=True))
        while not over:
            totals += trainer.iterate(batches)
            counted += 1
            pace.step()
            before, place, over = place, pace.place, pace.over
            if pace.taken % report_every == 0 or over:
                _check_finite(totals, trainer.recipe)  # the only wait for the device, unless there is a deadline
                runtime.progress("fit", iterations if over else int(place), iterations)
            if before < tail <= place and not over:
                totals, counted = totals.zero_(), 0
    for net in trainer.networks.values():
        net.eval()
    return totals / counted


def _check_finite(totals: Tensor, recipe: AdversarialRecipe) -> None:
    if not bool(torch.isfinite(totals).all()):
        raise TrainingDiverged(
            f"its losses are not finite: set vaal_learning_rate lower (it is {recipe.learning_rate:g}),"
            " or vaal_kl_reduction to mean if it is sum"
        )


def state_accuracy(logits: Callable[[np.ndarray], np.ndarray], data: CycleData, runtime: Runtime) -> float:
    """Mean of the shares of labeled and of unlabeled rows, up to 1,000 each, whose state is found: 0.5 is chance.

    logits: rows (N,) -> logits of "labeled" (N,).
    """
    rng = runtime.rng("vaal accuracy")
    found = []
    for rows, sign in ((data.labeled, 1.0), (data.unlabeled, -1.0)):
        some = rng.choice(rows, min(ACCURACY_ROWS, len(rows)), replace=False)
        found.append(np.mean(sign * logits(some) > 0.0))
    return float(np.mean(found))
