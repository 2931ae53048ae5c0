"""Training the task network: SGD under a step schedule, with nothing in the step that waits for the host."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from models.data import CycleData, DataError, Runtime
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.pixels import normalize
from models.training.rows import batches_per_epoch, epoch_positions
from models.training.schedule import WARM_UP, Recipe, batch_size_for, epochs_for, learning_rate_at, peak_rate_for


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite."""


def train_network(
    net: TaskNet, data: CycleData, objective: Objective, recipe: Recipe, runtime: Runtime
) -> dict[str, float]:
    """Train `net` in place on the labeled rows; it moves to `runtime.device` and stays there, in eval mode.

    Reports runtime.progress("train", epoch, epochs) after each epoch. Returns metrics to log: labels, epochs,
    steps, batch_size, loss (mean over the last epoch), seconds, images_per_second.

    Raises models.data.DataError without labeled rows or for a mask with a class that there is not, TrainingDiverged
    when the loss is not finite.
    """
    if len(data.labeled) == 0:
        raise DataError("there is no labeled row to train on")
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
    labels = len(data.labeled)
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
    """One training: the network, its optimizer, the rows on the device, and the schedule's place."""

    def __init__(self, net: TaskNet, data: CycleData, objective: Objective, recipe: Recipe, runtime: Runtime) -> None:
        self._labels, self._device = len(data.labeled), runtime.device
        labels = self._labels
        self.epochs = epochs_for(recipe, labels, runtime.device, net.task.sizes)
        self.batch_size = batch_size_for(recipe, labels, self.epochs, net.task.sizes)
        self.steps = self.epochs * batches_per_epoch(labels, self.batch_size)
        self._step = 0
        self._peak = peak_rate_for(recipe, self.batch_size, net.task.sizes)
        reduced = self.batch_size < recipe.batch_size
        self._warm_up = round(WARM_UP * self.steps) if reduced else 0
        self._net = net.to(runtime.device).to(memory_format=torch.channels_last)
        self._examples = net.task.examples(data, recipe, runtime)
        self._order = runtime.generator("train order", self._examples.rows.device)
        objective.begin(net, data, runtime)
        self._objective = objective
        self._nets = [net, *objective.networks]
        self._optimizer = torch.optim.SGD(
            [parameter for one in self._nets for parameter in one.parameters()],
            lr=self._peak,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    def epoch(self, epoch: int) -> Tensor:
        """One pass over the labeled rows; returns the mean loss (), still on the device."""
        for one in self._nets:
            one.train()
        total, batches = torch.zeros((), device=self._device), 0
        plan = epoch_positions(self._labels, self.batch_size, self._order)
        for images, targets in self._examples.batches(plan):
            rate = learning_rate_at(self._step, self.steps, self._peak, self._warm_up)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            loss = self._objective.loss(self._net, normalize(images), targets, epoch / self.epochs)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            total += loss.detach()
            self._step += 1
            batches += 1
        self._objective.after_epoch(self._net, epoch / self.epochs, rate)
        return total / batches

    def eval(self) -> None:
        for one in self._nets:
            one.eval()
