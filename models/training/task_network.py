"""Training the task network: SGD under a step schedule, with nothing in the step that waits for the host.

Recipe of the papers (Yoo & Kweon 2019, section 4.1, and DAST-AL): SGD, momentum 0.9, weight decay 5e-4, batch
128, 200 epochs, learning rate 0.1 and a tenth of it from epoch 160 on, random crops and mirror images.

Segmentation goes by the same recipe with other sizes: batches of at most 8, as in VAAL and TA-VAAL, fewer epochs, and
mirror images only, unless crops are asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, DataError, Runtime, Task
from models.losses.index_masks import augment_pairs, check_classes
from models.losses.objectives import AnyObjective
from models.networks.task_net import TaskNet
from models.pixels import augment, normalise
from models.training.rows import TrainingRows, batches_per_epoch, epoch_positions

DECAY_AT = 0.8  # share of the epochs after which the learning rate falls to a tenth
WARM_UP = 0.05  # share of the steps over which the rate of a reduced batch rises


@dataclass(frozen=True)
class Sizes:
    """What a training comes to unless its length is set.

    epochs           on CUDA, the papers'.
    cpu_images       images seen in a training on a CPU, within cpu_epochs, the fewest and the most.
    smallest, largest  batch; fewest_steps: few images are cut into smaller batches to come to as many.
    full_batch       the batch that the learning rate is for, unless the recipe's is smaller.
    """

    epochs: int
    cpu_images: int
    cpu_epochs: tuple[int, int]
    smallest: int
    largest: int
    fewest_steps: int
    full_batch: int


SIZES: dict[Task, Sizes] = {
    "classification": Sizes(200, 9_000, (6, 120), 16, 1 << 20, 300, 1 << 20),
    "segmentation": Sizes(100, 3_000, (6, 60), 4, 8, 1_000, 16),
}


class TrainingDiverged(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Recipe:
    """How to train. Defaults are the papers'.

    epochs         0 = chosen by device and number of labels (`epochs_for`).
    batch_size     the largest; short trainings take smaller ones (`batch_size_for`).
    learning_rate  for a full batch; a smaller one gets less (`peak_rate_for`).
    crop           side in pixels of the crops that a segmenter is trained on; 0 = whole images.
    """

    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop: int = 0


def epochs_for(recipe: Recipe, labels: int, device: torch.device, task: Task = "classification") -> int:
    """The recipe's epochs, or those of `SIZES`: on a CPU as many as see its number of images, within its bounds."""
    if recipe.epochs > 0:
        return recipe.epochs
    sizes = SIZES[task]
    if device.type == "cuda":
        return sizes.epochs
    fewest, most = sizes.cpu_epochs
    return min(most, max(fewest, round(sizes.cpu_images / labels)))


def batch_size_for(recipe: Recipe, labels: int, epochs: int, task: Task = "classification") -> int:
    """The recipe's batch size, or the multiple of the smallest below it that gives about the steps of `SIZES` in all.

    Steps are what a short training lacks: on a CPU, batches of 16 to 32 learn more from the same number of images
    than 128 do, at nearly the same cost. 200 epochs of 192 labels or more keep the papers' 128.
    """
    sizes = SIZES[task]
    wanted = round(labels * epochs / sizes.fewest_steps / sizes.smallest) * sizes.smallest
    return max(2, min(recipe.batch_size, sizes.largest, max(sizes.smallest, wanted)))


def peak_rate_for(recipe: Recipe, batch_size: int, task: Task = "classification") -> float:
    """The recipe's learning rate, scaled by the square root of the batch's share of a full one."""
    full = min(recipe.batch_size, SIZES[task].full_batch)
    return recipe.learning_rate * math.sqrt(min(1.0, batch_size / full))


def learning_rate_at(step: int, steps: int, peak: float, warm_up: int) -> float:
    """Learning rate of step 0..steps-1: a linear rise over `warm_up` steps, `peak`, a tenth of it from 80 % on."""
    if step < warm_up:
        return peak * (step + 1) / (warm_up + 1)
    return peak if step < DECAY_AT * steps else peak / 10


def train_network(
    net: TaskNet, data: CycleData, objective: AnyObjective, recipe: Recipe, runtime: Runtime
) -> dict[str, float]:
    """Train `net` in place on the labelled rows; it moves to `runtime.device` and stays there, in eval mode.

    Reports runtime.progress("train", epoch, epochs) after each epoch. Answers figures to record: labels, epochs,
    steps, batch_size, loss (mean over the last epoch), seconds, images_per_second.

    Raises models.data.DataError without labelled rows or for a mask with a class that there is not, TrainingDiverged
    when the loss is not finite.
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


class _Images:
    """Labelled images and their classes, augmented."""

    def __init__(self, data: CycleData, runtime: Runtime) -> None:
        self.rows = TrainingRows(data.pixels, data.labelled, runtime)
        self._targets = torch.as_tensor(data.targets, dtype=torch.int64).to(runtime.device)
        self._draws = runtime.generator("train augmentation")

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, H, W, 3) uint8 and classes (B,) int64 for each batch of positions."""
        for positions, images in self.rows.batches(plan):
            yield augment(images, self._draws), self._targets[positions]


class _Masked:
    """Labelled images and their masks, augmented alike."""

    def __init__(self, data: CycleData, masks: np.ndarray, recipe: Recipe, runtime: Runtime) -> None:
        check_classes(masks, data.targets, data.num_classes)
        self.rows = TrainingRows(data.pixels, data.labelled, runtime)
        self._masks = TrainingRows(masks, data.targets, runtime, beside=self.rows)
        self._crop = (recipe.crop, recipe.crop) if recipe.crop else data.frame
        self._draws = runtime.generator("train augmentation")

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, h, w, 3) uint8 and masks (B, h, w) uint8 for each batch of positions."""
        plan = list(plan)
        for (_, images), (_, masks) in zip(self.rows.batches(plan), self._masks.batches(plan), strict=True):
            yield augment_pairs(images, masks, self._crop, self._draws)


def _examples(data: CycleData, recipe: Recipe, runtime: Runtime) -> _Images | _Masked:
    return _Images(data, runtime) if data.masks is None else _Masked(data, data.masks, recipe, runtime)


class _Run:
    """One training: the network, its optimiser, the rows on the device, and the schedule's place."""

    def __init__(
        self, net: TaskNet, data: CycleData, objective: AnyObjective, recipe: Recipe, runtime: Runtime
    ) -> None:
        self._labels, self._device = len(data.labelled), runtime.device
        labels = self._labels
        self.epochs = epochs_for(recipe, labels, runtime.device, data.task)
        self.batch_size = batch_size_for(recipe, labels, self.epochs, data.task)
        self.steps = self.epochs * batches_per_epoch(labels, self.batch_size)
        self._step = 0
        self._peak = peak_rate_for(recipe, self.batch_size, data.task)
        reduced = self.batch_size < recipe.batch_size
        self._warm_up = round(WARM_UP * self.steps) if reduced else 0
        self._net = net.to(runtime.device).to(memory_format=torch.channels_last)
        self._examples = _examples(data, recipe, runtime)
        self._order = runtime.generator("train order", self._examples.rows.device)
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
        total, batches = torch.zeros((), device=self._device), 0
        plan = epoch_positions(self._labels, self.batch_size, self._order)
        for images, targets in self._examples.batches(plan):
            rate = learning_rate_at(self._step, self.steps, self._peak, self._warm_up)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            loss = self._objective.loss(self._net, normalise(images), targets, epoch / self.epochs)
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
