"""What the control arm says of a version: how often its network is right on labels that were drawn by chance and kept
out of all training, and what those that the sampler chose teach compared with as many drawn by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.tasks.records import TrainingLabels
from models.data import CycleData, Runtime
from models.inference.predictions import NonFiniteOutputs
from models.intervals import exact_interval
from models.tasks.base import UnsupportedTask
from models.training.comparison import compared

ONLY_HEADS = "labels are compared only where a head is trained on the features of whole images (training: head)"


def control_figures(
    learner: Learner,
    cache: ImageCache,
    learned: TrainingLabels,
    held: TrainingLabels | None,
    order: tuple[np.ndarray, np.ndarray],
    runtime: Runtime,
) -> dict[str, Any]:
    """For the metrics of a cycle, read by :mod:`backend.reporting.control`.

    order: of the tasks that were ``learned`` from, those that the sampler chose, in the order of their labels, and
    those that were drawn by chance. ``held``: the other half of the latter.
    """
    runtime.progress("control", 0, 1)
    drawn = len(np.intersect1d(order[1], learned.tasks))
    found: dict[str, Any] = {"labels": drawn + (0 if held is None else len(held.tasks))}
    found |= _rounded(_accuracy(learner, cache, held, runtime))
    return found | {"compared": _rounded(_comparison(learner, cache, learned, held, order, runtime))}


def _accuracy(
    learner: Learner, cache: ImageCache, held: TrainingLabels | None, runtime: Runtime
) -> dict[str, float | int]:
    """``n``: by how many ``held`` labels, none of which anything learned from; ``accuracy`` with the ends of its exact
    interval, or ``mean_iou``, as far as they say it.

    Of several choices an image, the accuracy is the share of all choices, and the interval is that of so many images,
    as wide as if the choices of one always agreed.
    """
    if held is None:
        return {"n": 0}
    net = learner.net
    before = net.temperature
    try:
        found = net.task.held_back_figures(net, _data(cache, held), runtime)
    except NonFiniteOutputs:
        return {"n": 0}
    finally:
        net.temperature = before
    count = len(held.tasks)
    if "mean_iou" in found:
        return {"n": count, "mean_iou": found["mean_iou"]}
    if "cv_accuracy" not in found:
        return {"n": 0}
    right = found["cv_accuracy"] * count
    low, high = exact_interval(math.floor(right + 1e-6), count)[0], exact_interval(math.ceil(right - 1e-6), count)[1]
    return {"n": count, "accuracy": found["cv_accuracy"], "low": low, "high": high}


def _comparison(
    learner: Learner,
    cache: ImageCache,
    learned: TrainingLabels,
    held: TrainingLabels | None,
    order: tuple[np.ndarray, np.ndarray],
    runtime: Runtime,
) -> dict[str, Any]:
    """The figures of :class:`models.training.comparison.Comparison`; none where the labels are too few, and ``why``
    where this kind of network has none."""
    net = learner.net
    source = net.reads(cache.pixels, runtime)
    if source is cache.pixels or not learner.net_config.feature_key:
        return {"why": ONLY_HEADS}
    data = [_data(cache, learned, tasks) for tasks in order]
    try:
        targets = [net.task.label_targets(one) for one in data]
        if held is None:
            return {}
        data.append(_data(cache, held))
        targets.append(net.task.label_targets(data[-1]))
    except UnsupportedTask:
        return {"why": ONLY_HEADS}
    exclusive = not targets[0].is_floating_point()
    wide = [functional.one_hot(one, net.num_classes).float() if exclusive else one for one in targets]
    features = [torch.from_numpy(source[one.labeled][:, : net.feature_channels]).float() for one in data]
    device = runtime.device
    found = compared(
        [one.to(device) for one in features], [one.to(device) for one in wide], exclusive, runtime.rng("control")
    )
    return {} if found is None else asdict(found)


def _data(cache: ImageCache, labels: TrainingLabels, tasks: Sequence[int] | np.ndarray | None = None) -> CycleData:
    """Labels as what networks are asked about; of ``tasks`` alone, in their order, as far as they are there."""
    targets, own = labels.targets, labels.tasks
    if tasks is not None:
        place = {task: number for number, task in enumerate(own)}
        places = np.array([place[int(task)] for task in tasks if int(task) in place], dtype=np.int64)
        targets, own = targets.at(places), [own[number] for number in places]
    rows = cache.rows(own)
    return CycleData(cache.pixels, rows, rows[:0], targets, labels.num_classes)


def _rounded(found: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
