"""A committee: the task network and others of its architecture, trained apart on the same labels, asked together.

Lakshminarayanan, Pritzel & Blundell, Simple and Scalable Predictive Uncertainty (NIPS 2017); as an acquisition: Beluch,
Genewein, Nürnberger & Köhler, The Power of Ensembles for Active Learning (CVPR 2018). Members differ by their first
weights, the order of the images and their augmentation; all see all labels (no bagging), as in both papers. Heads on
one frozen backbone have a single optimum, so that nothing of this would tell them apart: each of them learns from as
many labels drawn with replacement (bagging: Breiman, 1996).

Axis letters: N rows asked for, B batch, C classes, M members, the task network among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data import CycleData, Runtime
from models.inference.disagreement import StreamingFigure
from models.inference.fused import scoring_copy
from models.inference.predictions import Predictions
from models.inference.several_devices import Through
from models.inference.streaming import map_rows
from models.networks.base import TaskConfig, TaskNet
from models.pixels import inputs_of
from models.tasks.base import Task
from models.training.schedule import Recipe
from models.training.task_network import train_network


def place_member(task: Task, config: TaskConfig, seed: int, device: torch.device) -> TaskNet:
    """A network on the device, in the memory layout of training, in eval mode; its weights follow from `seed`."""
    return task.build(config, seed).to(device).to(memory_format=torch.channels_last).eval()


def member_seeds(count: int, runtime: Runtime) -> list[int]:
    """A seed for each of `count` members, other than the cycle's, from which all randomness of the task network comes.

    A member's seed does not depend on how many there are.
    """
    return [int(runtime.rng(f"committee member {number}").integers(2**62)) for number in range(1, count + 1)]


def train_members(
    members: Sequence[TaskNet], seeds: Sequence[int], data: CycleData, recipe: Recipe, runtime: Runtime
) -> dict[str, float]:
    """Train each of the M - 1 members in place with cross entropy, `seeds` giving its order and augmentation.

    What is left until `runtime.deadline` is shared out evenly among those to come; the recipe's bound on the images is
    each network's own. Reports runtime.progress("fit", ..) after each pass of each, over all of them. Returns metrics
    to log: members, loss (the mean of theirs in their last pass), images and seconds in all, and bounded_by_images and
    bounded_by_seconds, 1 where that holds for any.

    Raises what `models.training.task_network.train_network` does.
    """
    figures = []
    for number, (member, seed) in enumerate(zip(members, seeds, strict=True)):

        def progress(_: str, done: int, total: int, before: int = number) -> None:
            runtime.progress("fit", before * total + done, len(members) * total)

        deadline = runtime.deadline and runtime.deadline.share(1 / (len(members) - number))
        own = replace(runtime, seed=seed, progress=progress, deadline=deadline)
        seen = resampled(data, own) if member.frozen else data
        figures.append(train_network(member, seen, member.task.cross_entropy(), recipe, own))
    return {
        "members": float(len(members)),
        "loss": float(np.mean([one["loss"] for one in figures])),
        **{key: float(sum(one[key] for one in figures)) for key in ("images", "seconds")},
        **{key: max(one[key] for one in figures) for key in ("bounded_by_images", "bounded_by_seconds")},
    }


def resampled(data: CycleData, runtime: Runtime) -> CycleData:
    """As many labels, drawn with replacement."""
    places = runtime.rng("bagging").integers(len(data.labeled), size=len(data.labeled))
    return replace(data, labeled=data.labeled[places], targets=data.targets.at(places))


def predict_and_disagree(
    net: TaskNet,
    members: Iterable[TaskNet],
    pixels: np.ndarray,
    rows: np.ndarray,
    runtime: Runtime,
    figure: Callable[[], StreamingFigure],
) -> tuple[Predictions, np.ndarray]:
    """Predictions of `net` alone and (N,) float64, a figure of all, from one reading of the rows.

    figure: one of `models.inference.disagreement`; of an image it is what the kind of task says
    (`models.tasks.base.Task.streaming`). `rows` must not be empty.
    """

    def batch(*asked: Any) -> tuple[Tensor, ...]:
        first, *others, read = asked
        inputs = inputs_of(read)
        own = first.head(first.features(inputs))
        streaming = net.task.streaming(figure)
        streaming.add(own)
        for member in others:
            streaming.add(member.head(member.features(inputs)))
        return (*net.predict(own), streaming.result())

    asking = Through(batch, [scoring_copy(one, runtime) for one in (net, *members)])
    source = net.reads(pixels, runtime)
    predicted, confidence, values = map_rows(source, rows, runtime, lambda *found: found, through=asking)
    return Predictions(predicted, confidence.astype(np.float64)), values.astype(np.float64)
