"""Trainings that go on for minutes and can be left at any iteration, stored, and gone on with.

Axis letters: N rows, B batch, S side of the working size.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import torch
from torch import Tensor, nn

from models.data import DataError, Runtime
from models.networks.vae import prepare
from models.training.budget import Pace
from models.training.rows import TrainingRows
from models.training.task_network import TrainingDiverged
from models.training.working_copy import working_copy

REPORTS = 200


class InPieces(ABC):
    """taken, seconds: iterations so far, and how long they took. losses: of the last one.

    What an iteration draws depends on the seed and its number alone: a training in pieces is the same as one in one go.
    """

    phase: str
    """What it is called where progress is reported."""
    batch: int
    batches: int
    """Images of a batch, and batches of an iteration."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.taken, self.seconds = 0, 0.0
        self.losses = torch.zeros(1)

    @property
    @abstractmethod
    def size(self) -> int:
        """S of the images that it is given."""

    @abstractmethod
    def networks(self) -> tuple[nn.Module, ...]:
        """Those that are trained; in eval mode but while it runs."""

    @abstractmethod
    def iterate(self, real: Iterator[Tensor], noise: torch.Generator) -> Tensor:
        """One iteration, on so many `batches` of `real`, (B, 3, S, S) in [-1, 1]. Returns the losses, on the device."""

    def run(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        iterations: int,
        runtime: Runtime,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Go on, on rows (N,) of pixels (M, H, W, 3) uint8, until `iterations` are taken in all, `runtime.deadline` has
        come, or `enough()`, which is asked after each iteration. Calls runtime.progress(phase, iteration, iterations).

        Raises models.data.DataError for fewer than two rows, TrainingDiverged when a loss is not finite.
        """
        if len(rows) < 2:
            raise DataError(f"what is trained in the phase {self.phase} needs two images or more to learn from")
        if self.taken >= iterations:
            return
        before, started = self.seconds, time.perf_counter()
        pace = Pace(iterations - self.taken, runtime.deadline, runtime.device)
        every = max(1, iterations // REPORTS)
        for net in self.networks():
            net.train()
        with working_copy(pixels, rows, self.size, runtime, self.phase) as (copied, places):
            images = TrainingRows(copied, places, runtime)
            with closing(images.batches(self._positions(len(rows), images.device))) as stream:
                real = (prepare(found, self.size) for _, found in stream)
                while not pace.over:
                    self.losses = self.iterate(real, self._drawing(self.taken, 0, runtime.device))
                    self.taken += 1
                    pace.step()
                    if self.taken % every == 0 or pace.over:
                        self._check_finite()
                        runtime.progress(self.phase, self.taken, iterations)
                    if enough():
                        break
        self._check_finite()
        self.seconds = before + time.perf_counter() - started
        for net in self.networks():
            net.eval()

    def _positions(self, count: int, device: torch.device) -> Iterator[Tensor]:
        """The places (B,) of each batch from the next iteration on, drawn with replacement."""
        iteration, size = self.taken, min(self.batch, count)
        while True:
            drawn = self._drawing(iteration, 1, device)
            for _ in range(self.batches):
                yield torch.randint(count, (size,), generator=drawn, device=device)
            iteration += 1

    def _drawing(self, iteration: int, stream: int, device: torch.device) -> torch.Generator:
        words = np.random.SeedSequence([self.seed % 2**64, iteration, stream]).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(words[0] >> np.uint64(2)))

    def _check_finite(self) -> None:
        if not bool(torch.isfinite(self.losses).all()):
            raise TrainingDiverged(f"the training of the phase {self.phase} diverged: see its sampler's settings")
