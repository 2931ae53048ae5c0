"""How far annotators agree, as the last comparison with Label Studio found it (:mod:`backend.worker.agreement`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.reporting.accuracy import percent
from backend.state import Project, State

SETS = "sets"


@dataclass(frozen=True)
class Share:
    """Of ``n`` tasks: on which share the answers are the same, with the ends of its exact 95 % interval; or of sets of
    classes, how much they have in common on average, without an interval."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class AnnotatorShare:
    """An annotator, against what most others say of the same tasks."""

    id: int
    name: str
    share: Share


@dataclass(frozen=True)
class PairShare:
    """Two annotators, against each other. ``kappa``: Cohen's; None for sets, and where both gave one class only."""

    names: tuple[str, str]
    ids: tuple[int, int]
    share: Share
    kappa: float | None


@dataclass(frozen=True)
class Disagreement:
    """A task that several people labeled differently: (name, what they said) each; and what it is learned with."""

    task: int
    said: Sequence[tuple[str, str]]
    learned: str


@dataclass(frozen=True)
class Agreement:
    """``together``: of all tasks that several people labeled. ``alpha``: Krippendorff's; None for sets, and where all
    answers are the same. ``disagreements``: on how many tasks they differ, of which ``disagreed`` are those that were
    annotated last."""

    sets: bool
    together: Share
    alpha: float | None
    annotators: Sequence[AnnotatorShare]
    pairs: Sequence[PairShare]
    disagreements: int
    disagreed: Sequence[Disagreement]

    @property
    def sentence(self) -> str:
        tasks = f"{self.together.n:,} {'task' if self.together.n == 1 else 'tasks'}"
        if self.sets:
            common = percent(self.together.value)
            return f"What people ticked on {tasks} that several labeled has {common} in common on average (Jaccard)."
        words = f"All gave the same answer on {percent(self.together.value)}"
        if self.together.low is not None and self.together.high is not None:
            words += f" (95 % interval {percent(self.together.low)} to {percent(self.together.high)})"
        words += f" of {tasks} that several people labeled"
        return words + (f"; Krippendorff's α is {self.alpha:.2f}." if self.alpha is not None else ".")

    def as_json(self) -> dict[str, Any]:
        """For ``status --json``."""
        return {
            "compares": SETS if self.sets else "classes",
            **vars(self.together),
            "alpha": self.alpha,
            "annotators": [{"id": one.id, "name": one.name, **vars(one.share)} for one in self.annotators],
            "pairs": [{"ids": list(one.ids), **vars(one.share), "kappa": one.kappa} for one in self.pairs],
            "disagreements": self.disagreements,
            "sentence": self.sentence,
        }


def agreement_of(state: State, project: Project) -> Agreement | None:
    """None where no task has two annotators, and for masks, which are not compared."""
    found = state.team.agreement(project.id)
    if found is None:
        return None
    names = {int(number): str(name) for number, name in found["names"].items()}
    learned = state.labels.of(project.id, [task for task, _ in found["disagreed"]])
    return Agreement(
        found["compares"] == SETS,
        _share(found),
        found["alpha"],
        [AnnotatorShare(one["id"], _name(names, one["id"]), _share(one)) for one in found["annotators"]],
        [
            PairShare((_name(names, a), _name(names, b)), (a, b), _share(one), one["kappa"])
            for one in found["pairs"]
            for a, b in [one["ids"]]
        ],
        found["disagreements"],
        [
            Disagreement(task, [(_name(names, who), _words(what)) for who, what in said], _words(learned[task]))
            for task, said in found["disagreed"]
            if learned.get(task) is not None
        ],
    )


def _share(found: Mapping[str, Any]) -> Share:
    return Share(found["value"], found["low"], found["high"], found["n"])


def _name(names: Mapping[int, str], number: int) -> str:
    return names.get(number) or f"user {number}"


def _words(said: Any) -> str:
    """What an annotation says, of a class or of several."""
    return (", ".join(map(str, said)) or "none of them") if isinstance(said, list) else str(said)
