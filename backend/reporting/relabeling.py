"""Which labeled tasks are worth asking another annotator for, as the last cycle found it
(:mod:`backend.learning.relabeling`), and which of them wait for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.state import Project, State, Version


@dataclass(frozen=True)
class Proposal:
    """A labeled task that is worth asking again: its label, how many ``people`` gave one, and its ``score``, how
    probable the label would be if one more annotator said nothing."""

    task: int
    label: str
    people: int
    score: float


@dataclass(frozen=True)
class Relabeling:
    """``count``: how many of the next ``of`` annotations are worth more for a labeled task; ``proposed``: the first of
    these tasks, those left out that somebody annotated since. ``missing``: how many tasks more have to be labeled by
    two people before that can be told; 0: it is told. ``asked``: the tasks that wait for one more annotator."""

    count: int
    of: int
    proposed: Sequence[Proposal]
    missing: int
    asked: Sequence[int]

    @property
    def sentence(self) -> str:
        words = ""
        if self.missing:
            words = (
                f"Which labels are worth asking again can be told once {self.missing} more "
                f"{'task has' if self.missing == 1 else 'tasks have'} labels of two people, from the next cycle on."
            )
        elif self.of:
            words = (
                f"{self.count:,} of the next {self.of:,} annotations are worth more on labeled tasks than on new ones."
            )
        waiting = (
            f"{len(self.asked):,} {'task waits' if len(self.asked) == 1 else 'tasks wait'} for one more annotator."
        )
        return " ".join(filter(None, (words, waiting if self.asked else "")))

    def as_json(self) -> dict[str, Any]:
        """For ``status --json``."""
        return {
            "count": self.count,
            "of": self.of,
            "proposed": [vars(one) for one in self.proposed],
            "missing": self.missing,
            "asked": list(self.asked),
            "sentence": self.sentence,
        }


def relabeling_of(state: State, project: Project, version: Version | None) -> Relabeling | None:
    """None where the version in use says nothing of it and no task was asked again."""
    found: Mapping[str, Any] = (version.metrics.get("relabel") if version else None) or {}
    asked = [one.task_id for one in state.team.asked(project.id)]
    if not found and not asked:
        return None
    kept = found.get("proposed", [])
    now = state.labels.answered(project.id, [task for task, _, _ in kept])
    proposed = [
        Proposal(task, str(now[task][0]), people, score)
        for task, score, people in kept
        if task in now and now[task][1] == people
    ]
    missing = max(0, found.get("needed", 0) - found.get("shared", 0))
    return Relabeling(found.get("count", 0), found.get("of", 0), proposed, missing, asked)
