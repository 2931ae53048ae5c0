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
from backend.settings.core import Settings

CODE = ("models", "samplers", "backend/learning", "backend/tasks")
DEFAULT_TASK = "classification"
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


class Run(NamedTuple):
    """One sampler in one trial; trials count from 1."""

    sampler: str
    trial: int

    @property
    def folder(self) -> str:
        return f"{self.sampler}-trial-{self.trial}"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the numbers, except which samplers and how many trials are asked for: they only add runs.

    ``cycles`` trainings: one on the ``initial`` labels and one after each of ``cycles`` - 1 purchases of ``budget``.
    ``pool`` and ``test``: so many images drawn from the data set's two parts; 0 = all. ``kind``: cpu or cuda, which
    decides defaults such as epochs and widths. ``overrides``: settings as in a project's extra_params. ``image_size``:
    the side, of frames the longer one.
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

    def facts(self) -> dict[str, Any]:
        """All of it, for JSON. The default task goes without saying, so that experiments from before there was another
        one keep their digests."""
        facts = asdict(self)
        if self.task == DEFAULT_TASK:
            del facts["task"]
        return facts

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with every option above."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:12]

    def settings(self, run: Run) -> Settings:
        """The worker's settings of a run: the same for all samplers of a trial, except for the sampler's name."""
        given = {"sampler": run.sampler, "budget": self.budget, "seed": trial_seed(self.seed, run.trial)}
        return Settings().for_project({**self.overrides, "image_size": 0, **given})

    def check(self, rows: int) -> None:
        """Raise PlanError unless ``rows`` images suffice for all purchases, and the subset for each of them."""
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
        """How many labels each training sees."""
        return [self.initial + cycle * self.budget for cycle in range(self.cycles)]


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


def initial_set(pool: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` rows of ``pool`` (N,), each equally likely, none twice, ascending; the same for all samplers."""
    return np.sort(np.random.default_rng([seed, 2]).choice(pool, count, replace=False))


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
