"""A network and targets of each kind of task, small enough for a test to have all of them.

What every kind keeps is checked on all of these. A new kind of task comes here, and is then checked like the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data import ClassTargets, MaskTargets, MultilabelTargets, Targets
from models.networks.base import TaskConfig
from models.networks.classifier import NetConfig
from models.networks.segmenter import SegmenterConfig


@dataclass(frozen=True)
class Example:
    """config   the smallest network for a number of classes and square images of a side.
    targets  for `count` images, any of the classes, drawn from a generator; (count, classes, side) come after it.
    batch    all of them as an objective gets them.
    place    (h, w) of a map of logits; () where an image has one row of them.
    """

    config: Callable[[int, int], TaskConfig]
    targets: Callable[[np.random.Generator, int, int, int], Targets]
    batch: Callable[[Any], Tensor]
    place: tuple[int, ...] = ()


def classifier(classes: int, side: int) -> NetConfig:
    return NetConfig("resnet18", classes, side, 4)


def some_masks(rng: np.random.Generator, count: int, classes: int, side: int) -> MaskTargets:
    return MaskTargets(rng.integers(0, classes, (count, side, side)).astype(np.uint8), rng.permutation(count))


EXAMPLES = {
    "classification": Example(
        classifier,
        lambda rng, count, classes, side: ClassTargets(rng.integers(0, classes, count)),
        lambda targets: torch.from_numpy(targets.classes),
    ),
    "multilabel": Example(
        classifier,
        lambda rng, count, classes, side: MultilabelTargets(rng.integers(0, 2, (count, classes)).astype(np.uint8)),
        lambda targets: torch.from_numpy(targets.chosen).float(),
    ),
    "segmentation": Example(
        lambda classes, side: SegmenterConfig("drn-d-22", classes, 2),
        some_masks,
        lambda targets: torch.from_numpy(targets.masks[targets.rows]),
        (4, 6),
    ),
}
"""By the kind's name."""
