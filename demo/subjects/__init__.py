"""The kinds of task that the demo can show, one a file, and the one table that names them."""

from __future__ import annotations

from dataclasses import dataclass

from backend.tasks import KINDS
from demo.subjects.base import Subject
from demo.subjects.classification import SingleItems
from demo.subjects.multilabel import TickedScenes
from demo.subjects.segmentation import PaintedScenes


@dataclass(frozen=True)
class Demo:
    """A kind of task in the demo, and what it takes unless it is told otherwise: images in the project, and annotations
    per cycle. A person sees the queue change within minutes at ``budget``; the oracle labels faster."""

    subject: type[Subject]
    images: int
    budget: int
    oracle_budget: int

    @property
    def sampler(self) -> str:
        """What orders the queue."""
        return KINDS[self.subject.task].default_sampler


DEMOS: dict[str, Demo] = {
    demo.subject.task: demo
    for demo in (
        Demo(SingleItems, images=2_000, budget=25, oracle_budget=100),
        Demo(TickedScenes, images=800, budget=25, oracle_budget=75),
        Demo(PaintedScenes, images=400, budget=10, oracle_budget=40),
    )
}
"""By the kind's name; the first is what the demo shows unless it is told otherwise."""
