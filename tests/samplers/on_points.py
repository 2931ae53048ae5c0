"""A head on points of a plane, so that what a sampler picks can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.data import ClassTargets, CycleData, MultilabelTargets, Runtime, Targets
from models.networks.backbones import NOTHING
from models.networks.pretrained import FrozenClassifier, PretrainedConfig
from models.tasks import TASKS
from samplers import build_sampler
from samplers.base import Sampler

CPU = torch.device("cpu")
SIZE = 8


def head(weight: list[list[float]], bias: list[float] | None = None, task: str = "classification") -> FrozenClassifier:
    """Logits W f + b of features f that are kept; there is no backbone that an image could be shown."""
    classes, features = len(weight), len(weight[0])
    net = TASKS[task].build(
        PretrainedConfig("points", classes, SIZE, NOTHING, NOTHING, True, features, ()),
        0,
    )
    assert isinstance(net, FrozenClassifier)
    with torch.no_grad():
        net.head.weight.copy_(torch.tensor(weight))
        net.head.bias.copy_(torch.tensor(bias or [0.0] * classes))
    return net.eval()


def points_data(count: int, labeled: list[int], classes: list[int], num_classes: int) -> CycleData:
    """Rows 0 to count - 1, some of them labeled. Their pixels are never looked at."""
    rows = np.arange(count)
    pixels = np.zeros((count, SIZE, SIZE, 3), dtype=np.uint8)
    targets: Targets = ClassTargets(np.array(classes, dtype=np.int64))
    return CycleData(pixels, np.array(labeled, dtype=np.int64), np.setdiff1d(rows, labeled), targets, num_classes)


def choices_data(count: int, labeled: list[int], chosen: list[list[int]]) -> CycleData:
    data = points_data(count, labeled, [0] * len(labeled), len(chosen[0]))
    targets = MultilabelTargets(np.array(chosen, dtype=np.uint8))
    return CycleData(data.pixels, data.labeled, data.unlabeled, targets, len(chosen[0]))


def runtime(points: np.ndarray, seed: int = 0) -> Runtime:
    return Runtime(CPU, seed, features=points.astype(np.float16))


def queue(
    name: str, net: FrozenClassifier, data: CycleData, points: np.ndarray, seed: int = 0, **options: Any
) -> tuple[Sampler[Any], list[int]]:
    """A fitted sampler, and the unlabeled rows in its order."""
    sampler = build_sampler(name, options, task=data.task, num_classes=data.num_classes, image_size=SIZE)
    sampler.fit(net, data, runtime(points, seed))
    scores = sampler.score(net, data.pixels, data.unlabeled, runtime(points, seed)).acquisition
    return sampler, data.unlabeled[np.argsort(-scores, kind="stable")].tolist()
