"""What one learning-curve experiment is: its options, the seeds made from them, and a digest that names it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backend.errors import SettingsError
from backend.settings.core import Settings, project_keys
from samplers import SAMPLERS

CODE = ("models", "samplers", "backend/learning", "backend/tasks")
DEFAULT_TASK = "classification"
FIRST = ("own", "chance")
PIXELS = "svm-pixels"
"""The arm whose labels are chance's and whose classifier is an SVM on raw pixels."""
FOREGROUND = "foreground-random"
"""The arm that buys at random among the images whose predicted foreground is above the median."""
CONTROLS = (PIXELS, FOREGROUND)
"""Arms that are no sampler of the product's; a kind of task says which of them it has."""
WHOLE = "whole"
CANDIDATES = (WHOLE, "random", "uncertainty", "neighborhood")
"""What may stand behind the name of a sampler, after an @, in a plan that has a ``subset``."""
_UNSAID = {"task": DEFAULT_TASK, "first": "chance", "early": (), "redraw": False, "bank": 0, "independent": False}
_OWN_OPTIONS = {
    "sampler": "--samplers",
    "budget": "--budget",
    "seed": "--seed",
    "image_size": "--image-size",
    "device": "--devices",
    "task": "--task",
}


class PlanError(ValueError):
    """The options do not fit together or do not fit the data set; the message says which ones and why."""


@dataclass(frozen=True)
class Arm:
    """What a curve is of: how the first images are chosen, ``own`` or ``chance``; "" as the plan says; and which
    ``sampler`` chooses the rest. ``pixels``: a classifier of raw pixels learns in place of the network. ``foreground``:
    what is chosen comes from the images with more foreground than most, while there are some
    (:mod:`benchmarks.curves.foreground`). ``candidates``: how those of the plan's ``subset`` are chosen, or that the
    ``whole`` pool is scored; "" as the plan says."""

    sampler: str
    first: str = ""
    pixels: bool = False
    foreground: bool = False
    candidates: str = ""

    @classmethod
    def named(cls, name: str) -> Arm:
        """``margin``, ``chance+margin``, ``own+random``, ``margin@neighborhood``, ``margin@whole``, ``svm-pixels``,
        ``foreground-random``."""
        if name in CONTROLS:
            return cls("random", "chance", pixels=name == PIXELS, foreground=name == FOREGROUND)
        name, _, candidates = name.partition("@")
        first, _, sampler = name.rpartition("+")
        return cls(sampler, first, candidates=candidates)

    def first_order(self, plan: Plan) -> str:
        """The plan's, but by chance for a sampler before which the product has no other order."""
        if self.first or plan.first == "chance":
            return self.first or plan.first
        known = SAMPLERS.get(self.sampler)
        return "own" if known is None or known.spreads_first else "chance"


class Run(NamedTuple):
    """One arm, most often called as its sampler, in one trial; trials count from 1."""

    sampler: str
    trial: int

    @property
    def arm(self) -> Arm:
        return Arm.named(self.sampler)

    @property
    def folder(self) -> str:
        return f"{self.sampler}-trial-{self.trial}"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the numbers, except which samplers and how many trials are asked for: they only add runs.

    ``cycles`` trainings: one on the ``initial`` labels and one after each of ``cycles`` - 1 purchases of ``budget``.
    ``pool`` and ``test``: so many images drawn from the data set's two parts; 0 = all. ``kind``: cpu or cuda, which
    decides defaults such as epochs and widths. ``overrides``: settings as in a project's extra_params. ``image_size``:
    the side, of frames the longer one. ``first``: which images are labeled before the first purchase: "chance", or
    "own", the first of the product's own first order. ``early``: trainings on so many of those, before all of them.
    ``redraw``: each trial has a pool of its own, drawn from ``bank`` images (0 = all), and where the data set is
    undivided, held-out images of its own. ``independent``: what is judged is a network that learns from the
    labels alone, without the sampler's objective.
    """

    dataset: str
    data_digest: str
    initial: int
    budget: int
    cycles: int
    seed: int = 0
    pool: int = 0
    test: int = 0
    image_size: int = 0
    kind: str = "cpu"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    task: str = DEFAULT_TASK
    first: str = "chance"
    early: tuple[int, ...] = ()
    redraw: bool = False
    bank: int = 0
    independent: bool = False

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON. The defaults of later fields go without saying, so that experiments from before there
        was anything else keep their digests."""
        facts = asdict(self)
        for name, default in _UNSAID.items():
            if facts[name] == default:
                del facts[name]
        return facts

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Plan:
        """The plan that has these."""
        return cls(**{**facts, "early": tuple(facts.get("early", ()))})

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with every option above."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:12]

    def settings(self, run: Run) -> Settings:
        """The worker's settings of a run: the same for all samplers of a trial, except for the sampler's name."""
        given = {"sampler": run.arm.sampler, "budget": self.budget, "seed": trial_seed(self.seed, run.trial)}
        if "health" in project_keys():  # a sampler is measured, and not what stands in where it fails
            given["health"] = "off"
        given |= self.overrides
        if run.arm.candidates:
            given |= {"subset": 0} if run.arm.candidates == WHOLE else {"candidates": run.arm.candidates}
        return Settings().for_project({**given, "image_size": 0})

    def check(self, rows: int) -> None:
        """Raise PlanError unless ``rows`` images suffice for all purchases, and the subset for each of them."""
        if self.early and not (list(self.early) == sorted(set(self.early)) and self.early[-1] < self.initial):
            raise PlanError(f"--early has to ascend, to less than --initial {self.initial}")
        needed = self.initial + (self.cycles - 1) * self.budget
        if needed > rows:
            raise PlanError(
                f"{self.initial} labels and {self.cycles - 1} purchases of {self.budget} are {needed}, and the pool has"
                f" {rows} images: take fewer --cycles, a smaller --budget or a larger --pool"
            )
        subset = self.settings(Run("random", 1)).subset
        if 0 < subset < self.budget:
            raise PlanError(f"subset is {subset}, which is less than --budget {self.budget}: nothing is left to choose")

    def labels(self) -> list[int]:
        """How many labels each training sees, the early ones first."""
        return [*self.early, *(self.initial + cycle * self.budget for cycle in range(self.cycles))]

    @property
    def trainings(self) -> int:
        return len(self.early) + self.cycles


def overrides_of(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` as a project's extra_params: numbers, true and false as JSON has them, everything else as text.

    Raises:
        PlanError: not such a pair, or a setting that has an option of its own here.
        SettingsError: what :meth:`Settings.for_project` refuses, in its words.
    """
    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise PlanError(f"--set takes key=value, not {pair!r}")
        if key in _OWN_OPTIONS:
            raise PlanError(f"--set {key} is not for here: use {_OWN_OPTIONS[key]}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        given[key] = value if isinstance(value, bool | int | float) else text
    try:
        Settings().for_project(given)
    except SettingsError as error:
        raise SettingsError(str(error).replace("extra_params", "--set", 1)) from None
    return given


def trial_seed(seed: int, trial: int) -> int:
    """The seed of a trial, which stands for the project's seed."""
    return int(np.random.SeedSequence([seed, trial]).generate_state(1)[0] >> np.uint32(1))


def chance_order(pool: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` rows of ``pool`` (N,), each equally likely, none twice, in random order; the same for all samplers."""
    return np.random.default_rng([seed, 2]).choice(pool, count, replace=False)


def initial_set(pool: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The same, ascending."""
    return np.sort(chance_order(pool, count, seed))


def part_of(rows: np.ndarray, count: int, seed: int, which: int) -> np.ndarray:
    """``count`` random ones of ``rows`` (N,), ascending; 0 = all of them. Raises PlanError when there are fewer."""
    if count > len(rows):
        raise PlanError(f"{count} images are asked for, and the data set has {len(rows)}")
    if count == 0:
        return rows
    return np.sort(np.random.default_rng([seed, 3, which]).choice(rows, count, replace=False))


@functools.cache
def code_digest(root: Path = Path(__file__).parents[2]) -> str:
    """Eight hexadecimal digits of the source that the numbers come from."""
    digest = hashlib.sha256()
    for name in CODE:
        for path in sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
