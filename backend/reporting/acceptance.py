"""How often people leave pre-annotations as they are, as the last comparison with Label Studio found it
(:mod:`backend.worker.acceptance`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.reporting.accuracy import percent
from backend.state import Project


@dataclass(frozen=True)
class Accepted:
    """Of ``n`` tasks that were opened with a pre-annotation: on which share its label says the same, and the ends of
    the exact 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class CycleAccepted:
    """The same of the pre-annotations of one cycle's version."""

    cycle: int
    share: Accepted


@dataclass(frozen=True)
class Acceptance:
    """``together``: of all pre-annotations; ``cycles``: of those of each cycle's version that has any, oldest first."""

    together: Accepted
    cycles: Sequence[CycleAccepted]

    @property
    def newest(self) -> CycleAccepted:
        """Those that were filled in last."""
        return self.cycles[-1]

    @property
    def sentence(self) -> str:
        every, newest = self.together, self.newest.share
        words = f"{_words(every, ' pre-annotations were accepted unchanged')} (95 % interval {_ends(every)})"
        if len(self.cycles) > 1:
            words += f"; of those of cycle {self.newest.cycle}, {_words(newest)} ({_ends(newest)})"
        return words + "."

    def as_json(self) -> dict[str, Any]:
        """For ``status --json``."""
        cycles = [{"cycle": one.cycle, **one.share.as_json()} for one in self.cycles]
        return {**self.together.as_json(), "cycles": cycles, "sentence": self.sentence}


def acceptance_of(project: Project) -> Acceptance | None:
    """None where no label is known to have been begun from a pre-annotation."""
    found = project.acceptance
    if not found:
        return None
    return Acceptance(_share(found), [CycleAccepted(one["cycle"], _share(one)) for one in found["cycles"]])


def _share(found: Mapping[str, Any]) -> Accepted:
    return Accepted(found["value"], found["low"], found["high"], found["n"])


def _words(share: Accepted, what: str = "") -> str:
    return f"{percent(share.value)} of {share.n:,}{what}"


def _ends(share: Accepted) -> str:
    return f"{percent(share.low)} to {percent(share.high)}"
