"""What the labels that the last training left out in turn say: for the page and for ``status --json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from backend.state import Project, State, Version


class Doubted(NamedTuple):
    """A label that may be wrong: the class that was given, the one that is suggested, and how probable each is."""

    task: int
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float


class Bin(NamedTuple):
    """Predictions of about the same confidence: its mean, the share that is right, and how many ``labels`` they are
    of."""

    confidence: float
    right: float
    labels: int


@dataclass(frozen=True)
class Judged:
    """``labels``: how many were left out in turn. ``sure``: whether any prediction is sure enough to doubt a label.
    ``doubts``: how many of them may be wrong; ``doubted``: the most
    doubtful of those that still say what they said then. ``classes`` and ``confusion`` (C, C): how many labels of the
    class of the row are taken for the class of the column; empty where that is not kept."""

    labels: int
    sure: bool
    doubts: int
    doubted: Sequence[Doubted]
    reliability: Sequence[Bin]
    classes: Sequence[str]
    confusion: Sequence[Sequence[int]]


def judged_of(state: State, project: Project, version: Version | None) -> Judged | None:
    """None where the version in use says nothing of its labels."""
    found: Mapping[str, Any] | None = version.metrics.get("judged") if version else None
    if version is None or not isinstance(found, Mapping):
        return None
    doubted = [Doubted(*one) for one in found["doubted"]]
    now = state.labels.of(project.id, [one.task for one in doubted])
    confusion = found.get("confusion", [])
    return Judged(
        found["judged"],
        found["sure"],
        found["doubts"],
        [one for one in doubted if now.get(one.task) == one.given],
        [Bin(*one) for one in found["reliability"]],
        version.classes if confusion else (),
        confusion,
    )
