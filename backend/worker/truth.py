"""What a comparison with Label Studio found: see :mod:`backend.worker.sync`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.tasks.base import AnyTaskKind, Label


@dataclass(frozen=True)
class SyntheticTruth:
    """The tasks with a generated image. ``tasks``: (S,) int64, ascending. ``labels``: task id → what annotators
    recognized in it; ``unrecognized``: those that they recognized nothing in, ascending."""

    tasks: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    labels: Mapping[int, Label] = field(default_factory=dict)
    unrecognized: Sequence[int] = ()


@dataclass(frozen=True)
class Truth:
    """What Label Studio held at one moment.

    ``kind``: the kind of task that the label config asks for. ``tasks``: (N,) int64, every task, ascending.
    ``unlabeled``: (U,) int64, those without a label. ``unfinished``: (P,) int64, ascending, those with a label that
    Label Studio serves to further annotators all the same. ``labels``: task id → what its annotations say, in the terms
    of ``kind``, for every labeled task. ``annotations``: annotation id → its ``updated_at``, for every annotation that
    is a label. ``new_annotations``: how many of these are new or changed since the last cycle. ``refresh_seq``,
    ``train_seq`` and ``events`` are the hint counters, read *before* the comparison, so that hints which arrive during
    it stay unseen. ``seconds``: how long reading took. ``label_seconds``: how long a label takes people; None: not
    known.

    Tasks with a generated image are in ``tasks``, and their annotations in ``annotations``, but they are not part of
    the pool: what is known of them stands apart, in ``synthetic``.
    """

    kind: AnyTaskKind
    tasks: np.ndarray
    unlabeled: np.ndarray
    unfinished: np.ndarray
    labels: dict[int, Label]
    annotations: dict[int, str]
    new_annotations: int
    refresh_seq: int
    train_seq: int
    events: int
    seconds: float
    synthetic: SyntheticTruth = field(default_factory=SyntheticTruth)
    label_seconds: float | None = None

    @property
    def to_learn(self) -> dict[int, Label]:
        """The labels that the network is trained on: those of the real images, then those of generated ones."""
        return {**self.labels, **self.synthetic.labels}

    @property
    def annotated(self) -> np.ndarray:
        """The tasks (L,) int64 whose image a cycle needs: those to learn, and those that nothing was recognized in."""
        tasks = [*sorted(self.labels), *sorted(self.synthetic.labels), *self.synthetic.unrecognized]
        return np.array(tasks, dtype=np.int64)
