"""Training the task network: SGD under a step schedule, with nothing in the step that waits for the host.

Recipe of the papers (Yoo & Kweon 2019, section 4.1, and DAST-AL): SGD, momentum 0.9, weight decay 5e-4, batch
128, 200 epochs, learning rate 0.1 and a tenth of it from epoch 160 on, random crops and mirror images.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from models.classifier import Classifier
from models.data import CycleData, DataError, Runtime
from models.objectives import Objective
from models.pixels import augment, normalise
from models.training_rows import TrainingRows, batches_per_epoch

PAPER_EPOCHS = 200
CPU_IMAGES = 9_000  # images seen in a training on a CPU, unless the epochs are set
CPU_EPOCHS = (6, 120)  # fewest and most epochs of such a training
DECAY_AT = 0.8  # share of the epochs after which the learning rate falls to a tenth
WARM_UP = 0.05  # share of the steps over which the rate of a reduced batch rises
SMALLEST_BATCH = 16
FEWEST_STEPS = 300  # few images are cut into smaller batches to come to as many steps


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Recipe:
    """How to train. Defaults are the papers'.

    epochs         0 = chosen by device and number of labels (`epochs_for`).
    batch_size     the largest; short trainings take smaller ones (`batch_size_for`).
    learning_rate  for a full batch; a smaller one gets less (`peak_rate_for`).
    """

    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4


def epochs_for(recipe: Recipe, labels: int, device: torch.device) -> int:
    """The recipe's epochs, or: 200 on CUDA; on a CPU as many as see about 9,000 images, between 6 and 120."""
    if recipe.epochs > 0:
        return recipe.epochs
    if device.type == "cuda":
        return PAPER_EPOCHS
    fewest, most = CPU_EPOCHS
    return min(most, max(fewest, round(CPU_IMAGES / labels)))


def batch_size_for(recipe: Recipe, labels: int, epochs: int) -> int:
    """The recipe's batch size, or the multiple of 16 below it that gives about 300 steps in all.

    Steps are what a short training lacks: on a CPU, batches of 16 to 32 learn more from the same number of images
    than 128 do, at nearly the same cost. 200 epochs of 192 labels or more keep the papers' 128.
    """
    wanted = round(labels * epochs / FEWEST_STEPS / SMALLEST_BATCH) * SMALLEST_BATCH
    return max(2, min(recipe.batch_size, max(SMALLEST_BATCH, wanted)))


def peak_rate_for(recipe: Recipe, batch_size: int) -> float:
    """The recipe's learning rate, scaled by the square root of the batch's share of the recipe's."""
    return recipe.learning_rate * math.sqrt(min(1.0, batch_size / recipe.batch_size))


def learning_rate_at(step: int, steps: int, peak: float, warm_up: int) -> float:
    """Learning rate of step 0..steps-1: a linear rise over `warm_up` steps, `peak`, a tenth of it from 80 % on."""
    if step < warm_up:
        return peak * (step + 1) / (warm_up + 1)
    return peak if step < DECAY_AT * steps else peak / 10


def train_classifier(
    net: Classifier, data: CycleData, objective: Objective, recipe: Recipe, runtime: Runtime
) -> dict[str, float]:
    """Train `net` in place on the labelled rows; it moves to `runtime.device` and stays there, in eval mode.

    Reports runtime.progress("train", epoch, epochs) after each epoch. Answers figures to record: labels, epochs,
    steps, batch_size, loss (mean over the last epoch), seconds, images_per_second.

    Raises models.data.DataError without labelled rows, TrainingDiverged when the loss is not finite.
    """
    if len(data.labelled) == 0:
        raise DataError("there is no labelled row to train on")
    started = time.perf_counter()
    try:
        run = _Run(net, data, objective, recipe, runtime)
        loss = torch.zeros((), device=runtime.device)
        for epoch in range(run.epochs):
            loss = run.epoch(epoch)
            runtime.progress("train", epoch + 1, run.epochs)
        run.eval()
    finally:
        objective.finish()
    final_loss = float(loss)  # the first wait for the device
    if not math.isfinite(final_loss):
        raise TrainingDiverged("the training loss is not finite: try a lower learning rate")
    seconds = time.perf_counter() - started
    labels = len(data.labelled)
    return {
        "labels": labels,
        "epochs": run.epochs,
        "steps": run.steps,
        "batch_size": run.batch_size,
        "loss": final_loss,
        "seconds": seconds,
        "images_per_second": labels * run.epochs / seconds,
    }


class _Run:
    """One training: the network, its optimiser, the rows on the device, and the schedule's place."""

    def __init__(
        self, net: Classifier, data: CycleData, objective: Objective, recipe: Recipe, runtime: Runtime
    ) -> None:
        labels = len(data.labelled)
        self.epochs = epochs_for(recipe, labels, runtime.device)
        self.batch_size = batch_size_for(recipe, labels, self.epochs)
        self.steps = self.epochs * batches_per_epoch(labels, self.batch_size)
        self._step = 0
        self._peak = peak_rate_for(recipe, self.batch_size)
        reduced = self.batch_size < recipe.batch_size
        self._warm_up = round(WARM_UP * self.steps) if reduced else 0
        self._net = net.to(runtime.device).to(memory_format=torch.channels_last)
        self._rows = TrainingRows(data.pixels, data.labelled, runtime)
        self._targets = torch.as_tensor(data.targets, dtype=torch.int64).to(runtime.device)
        self._order = runtime.generator("train order", self._rows.device)
        self._crops = runtime.generator("train augmentation")
        objective.begin(net, data, runtime)
        self._objective = objective
        self._nets = [net, *objective.networks]
        self._optimiser = torch.optim.SGD(
            [parameter for one in self._nets for parameter in one.parameters()],
            lr=self._peak,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    def epoch(self, epoch: int) -> Tensor:
        """One pass over the labelled rows; answers the mean loss (), still on the device."""
        for one in self._nets:
            one.train()
        total = torch.zeros((), device=self._targets.device)
        batches = 0
        for positions, images in self._rows.epoch(self.batch_size, self._order):
            rate = learning_rate_at(self._step, self.steps, self._peak, self._warm_up)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            inputs = normalise(augment(images, self._crops))
            loss = self._objective.loss(self._net, inputs, self._targets[positions], epoch / self.epochs)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            total += loss.detach()
            self._step += 1
            batches += 1
        self._objective.after_epoch(self._net, epoch / self.epochs, rate)
        return total / batches

    def eval(self) -> None:
        for one in self._nets:
            one.eval()
