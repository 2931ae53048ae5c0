"""Training the task network: SGD under a step schedule, with nothing in the step that waits for the host."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor

from models.data import CycleData, DataError, Runtime
from models.losses.objectives import Objective
from models.networks.base import TaskNet
from models.networks.pretrained import FinetunedClassifier, FrozenClassifier
from models.pixels import inputs_of
from models.training.budget import Pace
from models.training.head import TrainingDiverged as TrainingDiverged
from models.training.head import train_head
from models.training.rows import batches_per_epoch, passes_over
from models.training.schedule import WARM_UP, Length, Recipe, epochs_for, learning_rate_at, length_for, peak_rate_for

PART_SHARE = 0.25
"""Of the time until a deadline: for the part of a network that is trained first, which is the faster one."""


def train_network(
    net: TaskNet, data: CycleData, objective: Objective, recipe: Recipe, runtime: Runtime
) -> dict[str, float]:
    """Train `net` in place on the labeled rows; it moves to `runtime.device` and stays there, in eval mode.

    It ends by `runtime.deadline`, if there is one, give or take a step; then the same seed need not give the same
    weights. Reports runtime.progress("train", passes, all of them) after each pass over the labels. Returns metrics to
    log: labels, images (how many were looked at), epochs (images / labels), steps, batch_size, loss (mean over the last
    pass), seconds, images_per_second, and what kept the images below the recipe's epochs, 1 or 0 each:
    bounded_by_images, bounded_by_seconds. And what `train_head` adds, where a head is all that is trained.

    Of a classifier on a frozen backbone the head is all that is trained (`models.training.head.train_head`). Where a
    backbone is trained as well, what was fresh comes first: the head, or a segmenter's decoder (`TaskNet.part_first`).

    Raises models.data.DataError without labeled rows or for a mask with a class that there is not, TrainingDiverged
    when the loss is not finite.
    """
    if len(data.labeled) == 0:
        raise DataError("there is no labeled row to train on")
    if isinstance(net, FrozenClassifier):
        return train_head(net, data, objective, recipe, runtime)
    started = time.perf_counter()
    if isinstance(net, FinetunedClassifier):
        train_head(net, data, net.task.cross_entropy(), recipe, runtime)
        net.temperature = 1.0  # that of the head alone is not that of what follows
    if (part := net.part_first()) is not None:
        deadline = runtime.deadline and runtime.deadline.share(PART_SHARE)
        with part:
            _Run(net, data, net.task.cross_entropy(), recipe, replace(runtime, deadline=deadline)).train()
    try:
        run = _Run(net, data, objective, recipe, runtime)
        loss = run.train()
    finally:
        objective.finish()
    final_loss = float(loss)  # the first wait for the device, unless there is a deadline
    if not math.isfinite(final_loss):
        raise TrainingDiverged("the training loss is not finite: try a lower learning rate")
    seconds = time.perf_counter() - started
    return run.figures() | {"loss": final_loss, "seconds": seconds, "images_per_second": run.images / seconds}


class _Run:
    """One training: the network, its optimizer, the rows on the device, and the schedule's place."""

    def __init__(self, net: TaskNet, data: CycleData, objective: Objective, recipe: Recipe, runtime: Runtime) -> None:
        self._labels, self._device, self._recipe = len(data.labeled), runtime.device, recipe
        self._sizes, self._progress = net.task.sizes, runtime.progress
        self._net = net.to(runtime.device).to(memory_format=torch.channels_last)
        self._examples = net.task.examples(net, data, recipe, runtime)
        self._order = runtime.generator("train order", self._examples.rows.device)
        objective.begin(net, data, runtime)
        self._objective = objective
        alongside = list(objective.networks)
        self._nets = [net, *alongside]
        # group["share"]: of the rate that the schedule says.
        self._optimizer = torch.optim.SGD(
            [*net.rate_groups(), *({"params": list(one.parameters()), "share": 1.0} for one in alongside)],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self.images, self._measured = 0, False
        self._pace = Pace(1, runtime.deadline, runtime.device)
        length = length_for(recipe, self._labels, runtime.device, self._sizes)
        self._bound = length.images
        self._plan(length)

    def _plan(self, length: Length) -> None:
        """Make the training as long as this, with what was taken of it."""
        self._length = length
        self._passes = passes_over(self._labels, length.rows, length.batch_size, self._order)
        steps = length.passes * batches_per_epoch(length.rows, length.batch_size)
        self._pace.steps = steps
        self._peak = peak_rate_for(self._recipe, length.batch_size, self._sizes)
        self._warm_up = round(WARM_UP * steps) if length.batch_size < self._recipe.batch_size else 0

    def train(self) -> Tensor:
        """The whole training. Returns the mean loss of the last pass, (), still on the device."""
        while True:
            loss = self._pass()
            over = self._pace.over
            passes = self._length.passes
            self._progress("train", passes if over else self._pace.part(passes), passes)
            if over:
                break
        for one in self._nets:
            one.eval()
        return loss

    def _pass(self) -> Tensor:
        """One pass over the labeled rows, as far as its part of the time does for it; returns the mean loss ()."""
        for one in self._nets:
            one.train()
        total, batches = torch.zeros((), device=self._device), 0
        part = self._pace.part(self._length.passes)
        progress = part / self._length.passes
        self._pace.resume()
        with closing(self._examples.batches(next(self._passes))) as examples:
            for images, targets in examples:
                rate = learning_rate_at(self._pace.place, self._pace.steps, self._peak, self._warm_up)
                total += self._step(images, targets, progress, rate)
                batches += 1
                if self._pace.over or self._shorten() or self._pace.part(self._length.passes) > part:
                    break
        self._objective.after_epoch(self._net, progress, rate)
        return total / batches

    def _step(self, images: Tensor, targets: Tensor, progress: float, rate: float) -> Tensor:
        """One step of the optimizer; returns the loss ()."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss = self._objective.loss(self._net, inputs_of(images), targets, progress)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._pace.step()
        self.images += min(len(images), self._labels)  # a single label is given twice
        return loss.detach()

    def _shorten(self) -> bool:
        """Once the first steps tell what the time will do for: plan for that, where it is less than what is planned."""
        affordable = None if self._measured else self._pace.affordable()
        if affordable is None:
            return False
        self._measured = True
        steps = self._pace.taken + affordable
        if steps >= self._pace.steps:
            return False
        self._plan(self._length.lasting(steps))
        return True

    def figures(self) -> dict[str, float]:
        """What there is to log of how much was looked at, and what kept that below the recipe's epochs."""
        whole = self._labels * epochs_for(self._recipe, self._labels, self._device, self._sizes)
        return {
            "labels": self._labels,
            "images": self.images,
            "epochs": self.images / self._labels,
            "steps": self._pace.taken,
            "batch_size": self._length.batch_size,
            "bounded_by_images": float(self._bound < whole),
            "bounded_by_seconds": float(self.images < self._bound),
        }
