"""Training with agreement and discrepancy (ADS, see `models.networks.two_classifiers`): the task network's objective.

An epoch is a pass over the labeled rows that trains everything, then two passes over unlabeled rows:
- agreement: the trunk alone learns to make the two classifiers agree;
- discrepancy: the two classifiers alone learn to disagree, and on labeled rows to be right.

What differs from the authors' code, and why:
- The task network keeps its linear head, trained by cross entropy in the labeled pass, so that a cycle's predictions
  and their accuracy are comparable between samplers. ADS predicts with its two classifiers.
- The optimizers of the two passes live as long as the training and follow its learning rate. The authors make a new one
  for each batch, which then has neither momentum nor a schedule.
- What a step must not change is frozen before its forward pass, and in the discrepancy pass the trunk is in eval mode:
  its batch statistics stay as they are. In the agreement pass they move, as everything in the trunk does.
- The last epoch has no such passes: training ends with a labeled one, as in the paper.
- An epoch's passes see at most as many unlabeled rows as below, drawn again each time, and not one fixed subset.
  Where a deadline cuts labeled passes short, these get shorter with them, and none is begun that would leave no time
  for a labeled one after it.

Axis letters: B batch, H pixels.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data import ClassTargets, CycleData, Runtime, targets_of
from models.inference.streaming import evaluating
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.networks.two_classifiers import TwoClassifiers, agreement_loss, discrepancy_loss, one_vs_all_loss
from models.pixels import augmented_inputs
from models.training.rows import TrainingRows, batches_per_epoch
from models.training.schedule import Recipe, length_for

ROWS_CUDA = 10_000  # most unlabeled rows of a pass on CUDA; the paper's number
LABELED_SHARE_CPU = 1.0  # most batches of a pass on a CPU, as a share of the labeled pass's


def plan(recipe: Recipe, labeled: int, unlabeled: int, device: torch.device) -> tuple[int, int, int]:
    """Passes of the training over the labels, batches of each of the two passes over unlabeled rows, and rows in such a
    batch, from the numbers of rows.

    On CUDA 10,000 rows in batches of the recipe's size, whatever the number of labels. On a CPU no more batches than
    the labeled pass has, and of the same size, so that the training takes about three times as long as a plain one.
    Never more rows than there are.
    """
    length = length_for(recipe, labeled, device)
    if device.type == "cuda":
        size, rows = recipe.batch_size, min(ROWS_CUDA, unlabeled)
    else:
        size = length.batch_size
        rows = min(round(LABELED_SHARE_CPU * batches_per_epoch(length.rows, size)) * size, unlabeled)
    size = max(2, min(size, unlabeled))
    return length.passes, math.ceil(rows / size), size


class Alignment:
    """The steps of the two passes, with their optimizers. Nothing here waits for a CUDA device."""

    def __init__(self, net: TaskNet, classifiers: TwoClassifiers, recipe: Recipe, tau: float) -> None:
        """The networks are on their device already."""
        self._net = net
        self._classifiers = classifiers
        self._tau = tau

        def optimizer(of: nn.Module) -> torch.optim.SGD:
            return torch.optim.SGD(
                of.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )

        # A frozen trunk cannot be made to agree: there is only the other pass then.
        self._trunk_optimizer = None if net.frozen else optimizer(net.trunk)
        self._classifiers_optimizer = optimizer(classifiers)

    def set_learning_rate(self, learning_rate: float) -> None:
        for optimizer in (self._trunk_optimizer, self._classifiers_optimizer):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = learning_rate

    def agreement_step(self, unlabeled: Tensor) -> Tensor:
        """One step of the trunk on L_a; both classifiers and the linear head stay. Inputs (B, 3, H, H), returns ().
        A frozen trunk stays, too.
        """
        if self._trunk_optimizer is None:
            return torch.zeros(())
        self._net.train()
        self._classifiers.requires_grad_(False)
        loss = agreement_loss(self._classifiers(self._net.features(unlabeled)), self._tau)
        self._trunk_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._trunk_optimizer.step()
        self._classifiers.requires_grad_(True)
        return loss.detach()

    def discrepancy_step(self, labeled: Tensor, targets: Tensor, unlabeled: Tensor) -> Tensor:
        """One step of the classifiers on L_d and their labeled loss; the task network stays. Inputs (B, 3, H, H) each,
        targets (B,), returns ().
        """
        with torch.no_grad(), evaluating(self._net):
            features = self._net.features(torch.cat([labeled, unlabeled]))
        count = len(labeled)
        loss = one_vs_all_loss(self._classifiers(features[:count]), targets)
        loss = loss + discrepancy_loss(self._classifiers(features[count:]), self._tau)
        self._classifiers_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._classifiers_optimizer.step()
        return loss.detach()


class AgreementDiscrepancy(Objective):
    """Cross entropy of the linear head + one-vs-all losses of both classifiers, and the two passes after an epoch.

    Without unlabeled rows there are no such passes. They report runtime.progress("align", batches, of both passes).
    """

    def __init__(self, classifiers: TwoClassifiers, recipe: Recipe, tau: float = 0.1) -> None:
        """classifiers: on the device of the training; recipe: the one that the task network is trained by."""
        self.classifiers = classifiers
        self.recipe = recipe
        self.tau = tau
        self._passes: _Passes | None = None

    @property
    def networks(self) -> Sequence[nn.Module]:
        return (self.classifiers,)

    def begin(self, net: TaskNet, data: CycleData, runtime: Runtime) -> None:
        self.finish()
        if len(data.unlabeled):
            alignment = Alignment(net, self.classifiers, self.recipe, self.tau)
            self._passes = _Passes(alignment, net.reads(data.pixels, runtime), data, runtime, self.recipe)

    def loss(self, net: TaskNet, images: Tensor, targets: Tensor, progress: float) -> Tensor:
        """Cross entropy of the head + one-vs-all losses of both classifiers, scalar; targets (B,) int64."""
        if self._passes is not None:
            self._passes.labeled += 1
        features = net.features(images)
        own = functional.cross_entropy(net.head(features), targets)
        return own + one_vs_all_loss(self.classifiers(features), targets)

    def after_epoch(self, net: TaskNet, progress: float, learning_rate: float) -> None:
        if self._passes is not None:
            self._passes.run(progress, learning_rate)

    def finish(self) -> None:
        if self._passes is not None:
            self._passes.close()
        self._passes = None


class _Passes:
    """The rows of the two passes, in streams of their own that last as long as the training.

    labeled  batches of the labeled pass since the last `run`.
    """

    def __init__(
        self, alignment: Alignment, source: np.ndarray, data: CycleData, runtime: Runtime, recipe: Recipe
    ) -> None:
        """source: what the network reads of the rows of the pool."""
        self._alignment = alignment
        self._progress = runtime.progress
        self._epochs, self._steps, size = plan(recipe, len(data.labeled), len(data.unlabeled), runtime.device)
        length = length_for(recipe, len(data.labeled), runtime.device)
        self._planned = batches_per_epoch(length.rows, length.batch_size)
        self.labeled, self._deadline = 0, runtime.deadline
        self._resumed = 0.0 if self._deadline is None else self._deadline.clock()
        self._targets = torch.as_tensor(targets_of(data, ClassTargets).classes, dtype=torch.int64).to(runtime.device)
        self._labeled = _endless(source, data.labeled, size, "align labelled", runtime)
        self._unlabeled = _endless(source, data.unlabeled, size, "align unlabelled", runtime)
        self._crops = runtime.generator("align augmentation")

    def run(self, progress: float, learning_rate: float) -> None:
        if round(progress * self._epochs) < self._epochs - 1:
            self._alignment.set_learning_rate(learning_rate)
            steps = self._affordable()
            for step in range(2 * steps):
                if self._deadline is not None and self._deadline.left() <= 0.0:
                    break
                self._step(agreement=step < steps)
                self._progress("align", step + 1, 2 * steps)
        self.labeled = 0
        if self._deadline is not None:
            self._resumed = self._deadline.clock()

    def _step(self, agreement: bool) -> None:
        if agreement:
            _, unknown = next(self._unlabeled)
            self._alignment.agreement_step(self._inputs(unknown))
        else:
            positions, known = next(self._labeled)
            _, unknown = next(self._unlabeled)
            self._alignment.discrepancy_step(self._inputs(known), self._targets[positions], self._inputs(unknown))

    def _affordable(self) -> int:
        """Batches of each pass now: as large a share of those planned as the labeled pass was of its own. None where
        the time left would not do for them and another labeled pass, taking every batch for as long as a labeled one.
        """
        if self._deadline is None:
            return self._steps
        steps = min(self._steps, math.ceil(self._steps * self.labeled / self._planned))
        seconds = self._deadline.clock() - self._resumed
        return steps if self._deadline.left() >= seconds * (1 + 2 * steps / self.labeled) else 0

    def close(self) -> None:
        self._labeled.close()
        self._unlabeled.close()

    def _inputs(self, images: Tensor) -> Tensor:
        return augmented_inputs(images, self._crops)


def _endless(
    source: np.ndarray, rows: np.ndarray, size: int, purpose: str, runtime: Runtime
) -> Generator[tuple[Tensor, Tensor], None, None]:
    stream = TrainingRows(source, rows, runtime)
    return stream.endless(size, runtime.generator(purpose, stream.device))
