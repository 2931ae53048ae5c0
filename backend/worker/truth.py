"""What a comparison with Label Studio found: see :mod:`backend.worker.sync`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from backend.control import NO_ARM, Arm
from backend.tasks.base import AnyTaskKind
from backend.tasks.records import Label
from backend.tasks.votes import Answers


@dataclass(frozen=True)
class SyntheticTruth:
    """The tasks with a generated image. ``tasks``: (S,) int64, ascending. ``labels``: task id → what annotators
    recognized in it; ``unrecognized``: those that they recognized nothing in, ascending."""

    tasks: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    labels: Mapping[int, Label] = field(default_factory=dict)
    unrecognized: Sequence[int] = ()


@dataclass(frozen=True)
class ControlTruth:
    """The control arm (:mod:`backend.control`). Of the labeled tasks, ``held_out`` (V,) int64 are kept out of all
    training, ``drawn`` (M,) int64 are the others that were drawn by chance, in the order in which they are served, and
    ``chosen`` (S,) int64 those that were not, in the order in which they were labeled."""

    arm: Arm = NO_ARM
    held_out: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    drawn: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    chosen: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def of(cls, arm: Arm, first: Mapping[int, int]) -> ControlTruth:
        """``first``: labeled task → the lowest id of the annotations that are its label, in the order of these."""
        drawn = arm.drawn(first)
        measures = arm.measures(drawn)
        chosen = np.fromiter(first, np.int64, len(first))
        return cls(arm, drawn[measures], drawn[~measures], chosen[~np.isin(chosen, drawn)])


@dataclass(frozen=True)
class Truth:
    """What Label Studio held at one moment.

    ``kind``: the kind of task that the label config asks for. ``tasks``: (N,) int64, every task, ascending.
    ``unlabeled``: (U,) int64, those without a label. ``unfinished``: (P,) int64, ascending, those with a label that
    Label Studio serves to further annotators all the same. ``labels``: task id → what its annotations say, in the terms
    of ``kind``, for every labeled task. ``annotations``: annotation id → its ``updated_at``, for every annotation that
    is a label. ``new_annotations``: how many of these are new or changed since the last cycle, and how many tasks say
    something else although none of theirs are. ``refresh_seq``,
    ``train_seq`` and ``events`` are the hint counters, read *before* the comparison, so that hints which arrive during
    it stay unseen. ``seconds``: how long reading took. ``label_seconds``: how long a label takes people; None: not
    known. ``stamps``: annotation id → what it is known by once it was learned from
    (:func:`backend.worker.consensus.stamps`). ``answers``: labeled task → the answers of its annotators, where the kind
    of task compares any.

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
    control: ControlTruth = field(default_factory=ControlTruth)
    stamps: dict[int, str] = field(default_factory=dict)
    answers: dict[int, Answers] = field(default_factory=dict)

    @property
    def held_out(self) -> dict[int, Label]:
        """The labels that nothing is trained on, nor chosen by: they measure."""
        return {task: self.labels[task] for task in sorted(self.control.held_out.tolist())}

    @property
    def real_to_learn(self) -> dict[int, Label]:
        """The labels of real images that the network is trained on."""
        apart = frozenset(self.control.held_out.tolist())
        return {task: label for task, label in self.labels.items() if task not in apart}

    @property
    def to_learn(self) -> dict[int, Label]:
        """The labels that the network is trained on: those of the real images, then those of generated ones."""
        return {**self.real_to_learn, **self.synthetic.labels}

    @property
    def annotated(self) -> np.ndarray:
        """The tasks (L,) int64 whose image a cycle needs: those to learn, and those that nothing was recognized in."""
        tasks = [*sorted(self.labels), *sorted(self.synthetic.labels), *self.synthetic.unrecognized]
        return np.array(tasks, dtype=np.int64)
