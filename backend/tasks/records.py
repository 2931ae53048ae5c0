"""What kinds of task are given and give back, in forms that are the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from backend.labelstudio.records import TaskAnnotations
    from backend.state import StoredPrediction
    from models.data import Targets

Result = list[dict[str, Any]]
"""The ``result`` of an annotation or a prediction, in Label Studio's format."""

Size = tuple[int, int]
"""(height, width)."""

Label = Hashable
"""What the annotations of a task say, in a form that only its kind of task knows. Equal if they say the same."""

ReadAnnotations = Callable[[Sequence[int]], Iterable["TaskAnnotations"]]
"""Task ids → their annotations, read from Label Studio."""

Fetched = Mapping[int, tuple["np.ndarray", Size]]
"""Task id → pixels (H, W, 3) uint8 for the model, and the (height, width) of the original image."""

FreshPrediction = tuple["StoredPrediction", Result]

SKIPPED, EMPTY, ELSEWHERE = "skipped", "empty", "only answers to other questions"
"""Reasons why an annotation does not count: see :meth:`backend.tasks.base.TaskKind.why_not`."""


@dataclass(frozen=True)
class TrainingLabels:
    """The labels to train on: ``targets`` (L,) of ``tasks`` (L,), which all have an image, for a network with
    ``num_classes`` outputs. ``problems``: messages for the project's owner about annotations that cannot be used.
    """

    tasks: list[int]
    targets: Targets
    num_classes: int
    problems: Sequence[str] = ()


class KeptPredictions(Protocol):
    """The predictions of a version that do not fit into a row of the state, in files alongside its checkpoint."""

    def holds(self, task: int) -> bool: ...


class LabelSpec(Protocol):
    """What a label config asks for: the field of a task's data with its image's address, and the classes."""

    @property
    def data_key(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...
