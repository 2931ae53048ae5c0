"""Training on the network's own confident predictions alongside the labels: the high-confidence set of CEAL.

Wang, Zhang, Li, Zhang & Lin, Cost-Effective Active Learning for Deep Image Classification (IEEE TCSVT 2017).

Axis letters: U unlabeled rows, L labeled rows, H rows with a pseudo-label, B batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data import CycleData, Runtime
from models.inference.predictions import measure
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.pixels import augmented_inputs
from models.training.rows import TrainingRows

# logits (B, C) -> entropy in nats (B,), and how uncertain a row is (B,) on any scale
ScoreRows = Callable[[Tensor], tuple[Tensor, Tensor]]
NOTHING = torch.empty(0, dtype=torch.int64)


def threshold_at(cycle: int, first: float, decay: float, schedule: str) -> float:
    """δ_t of cycle t = 0, 1, ...: never below 0 and never rising.

    "linear" δ_0 - decay · t; "recursive" δ_t = δ_{t-1} - decay · t, that is δ_0 - decay · t (t + 1) / 2. The paper
    may be read either way, and published code has both.
    """
    if schedule not in ("linear", "recursive"):
        raise ValueError(f"unknown schedule {schedule!r}: choose linear or recursive")
    falls = cycle if schedule == "linear" else cycle * (cycle + 1) / 2
    return max(0.0, first - decay * falls)


def confident_positions(entropy: np.ndarray, uncertainty: np.ndarray, threshold: float, queried: int) -> np.ndarray:
    """Positions (H,) of the rows to believe: entropy (U,) below the threshold, and not among the ``queried`` rows of
    the highest ``uncertainty`` (U,), which a person is about to label: D^H without D^K. Ascending; none for a threshold
    of 0.
    """
    if threshold <= 0:
        return np.empty(0, dtype=np.int64)
    confident = entropy < threshold
    confident[np.argsort(-uncertainty, kind="stable")[:queried]] = False
    return np.flatnonzero(confident)


def extra_rows(batch: int, labeled: int, pseudo: int) -> int:
    """Rows with a pseudo-label that join a batch of B labeled ones: their share of all rows, but at most B."""
    return min(batch, math.ceil(batch * pseudo / labeled))


class PseudoLabels(Objective):
    """Mean cross entropy of each labeled batch joined with rows that the network, as it comes, is confident of.

    Both kinds weigh the same, as in the paper, until there are more pseudo-labels than labels: from there on a batch
    is one half each. (The paper trains on all of them; with a pool of 50,000 and 1,000 labels that would make a cycle
    fifty times as long and leave the annotator two per cent of a say.) Pseudo-labels exist within one training only,
    in this object only, and `finish` erases them. Without any it is plain cross entropy.

    count      how many rows were believed; stays known after `finish`.
    """

    def __init__(self, score_rows: ScoreRows, threshold: float, queried: int) -> None:
        """threshold: entropy in nats; queried: K, the most uncertain rows, which are left to the annotator."""
        self._score_rows = score_rows
        self._threshold = threshold
        self._queried = queried
        self.count = 0
        self._rows: TrainingRows | None = None
        self._targets = NOTHING
        self._batches: Generator[tuple[Tensor, Tensor], None, None] | None = None

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        """One pass over the unlabeled rows (phase "pseudo-label"), none where nothing can be found."""
        self.finish()
        self.count = 0
        if self._threshold <= 0 or data.num_classes == 1 or len(data.unlabeled) == 0:
            return
        found, predicted = believed(net, data, self._score_rows, self._threshold, self._queried, runtime)
        self.count = len(found)
        if self.count == 0:
            return
        self._labeled = len(data.labeled)
        self._rows = TrainingRows(net.reads(data.pixels, runtime), found, runtime)
        self._targets = torch.as_tensor(predicted, dtype=torch.int64).to(runtime.device)
        self._order = runtime.generator("pseudo-label order", self._rows.device)
        self._crops = runtime.generator("pseudo-label augmentation")

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Scalar in nats, of the batch and the pseudo-labeled rows that join it; targets (B,) int64."""
        if self._rows is not None and self._batches is None:  # the batch is known now; later ones differ by one row
            size = extra_rows(len(images), self._labeled, self.count)
            self._batches = self._rows.endless(size, self._order)
        if self._batches is not None:
            positions, more = next(self._batches)
            images = torch.cat([images, augmented_inputs(more, self._crops)])
            targets = torch.cat([targets, self._targets[positions]])
        return functional.cross_entropy(net(images), targets)

    def finish(self) -> None:
        if self._batches is not None:
            self._batches.close()  # a reader thread may wait behind it
        self._rows, self._targets, self._batches = None, NOTHING, None


def believed(
    net: TaskNet, data: CycleData, score_rows: ScoreRows, threshold: float, queried: int, runtime: Runtime
) -> tuple[np.ndarray, np.ndarray]:
    """The unlabeled rows (H,) that `confident_positions` chooses from the predictions of `net` in eval mode, and these
    predictions (H,), class indices. Reads the images as they are, without augmentation.
    """

    def compute(_: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        return (logits.argmax(dim=1), *score_rows(logits))

    predicted, entropy, uncertainty = measure(net, data.pixels, data.unlabeled, runtime, compute, "pseudo-label")
    chosen = confident_positions(entropy, uncertainty, threshold, queried)
    return data.unlabeled[chosen], predicted[chosen]
