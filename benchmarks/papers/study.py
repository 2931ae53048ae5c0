"""One table or figure of a paper: what it says, and how ours is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.curves.display import Display

SCALES = ("small", "paper")
"""small: for two CPU cores, some minutes for each arm, data that can be had offline; paper: the paper's data and sizes,
for a GPU."""


@dataclass(frozen=True)
class Places:
    """Where a study works. data: torchvision's files; work: pixels, checkpoints and what is finished; devices, jobs: as
    for ``python -m benchmarks curves``; pictures: the folder that pictures of results go to."""

    data: Path
    work: Path
    devices: str
    jobs: int
    seed: int
    pictures: Path


@dataclass(frozen=True)
class Outcome:
    """A table as text, ``headings`` and ``rows``, and what has to be said of it. ``facts``: the machine, the date, the
    seeds. ``picture``: a file's name beside the results, or ""."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    picture: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Self:
        return cls(**saved)


@dataclass(frozen=True)
class Study(ABC):
    """``name``: of the command; ``paper`` and ``part``: whose figure it is, and what it shows; ``claim``: what the
    paper says; ``differs``: every place where paper, the authors' code and ours differ, with the option that
    chooses."""

    name: str
    paper: str
    part: str
    claim: str
    differs: tuple[str, ...] = ()

    @abstractmethod
    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        """Ours, at one of `SCALES`; what is finished already is not computed again.

        Raises:
            PlanError, SettingsError, DatasetUnavailable: it cannot be made here; the message says why.
        """
