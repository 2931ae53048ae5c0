"""One small project of each kind of task: a label config, annotations of it, and images. For what every kind keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.backend.workbench import SCENE, masks_config, painted, scene, tags_config, ticked
from tests.integration.helpers import FRUIT, choices_config

Region = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """``config`` asks for a kind and no other; ``says(labels)`` is the ``result`` of an annotation that names them."""

    config: Callable[[Sequence[str]], str]
    says: Callable[[Sequence[str]], list[Region]]


def stripes(labels: Sequence[str]) -> list[Region]:
    """A band across the image for each label: together they leave no background, which a network learns soon."""
    owner = np.arange(SCENE[0])[:, None] * len(labels) // SCENE[0]
    return [painted(label, np.broadcast_to(owner == place, SCENE)) for place, label in enumerate(labels)]


EXAMPLES = {
    "classification": Example(choices_config, lambda labels: ticked(labels[:1])),
    "segmentation": Example(masks_config, stripes),
    "multilabel": Example(tags_config, ticked),
}
"""By kind. A new kind of task comes here, and is then checked like the others."""


def images(count: int) -> dict[str, bytes]:
    """Address → PNG."""
    rng = np.random.default_rng(0)
    return {f"{number}.png": scene(number % len(FRUIT), rng)[0] for number in range(1, count + 1)}


def annotation(number: int, result: list[Region], day: int = 1, **more: Any) -> dict[str, Any]:
    """As Label Studio gives it, changed last on a day of January."""
    stamp = f"2025-01-{day:02}T00:00:00.000000Z"
    return {"id": number, "result": result, "updated_at": stamp, "was_cancelled": False, "ground_truth": False} | more
