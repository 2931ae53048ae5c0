"""What the last replay of a project's labels found (:mod:`backend.replay`), as it is kept, and in words.

A JSON file in the project's folder: it can be made again, and no other part of the product depends on it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend.reporting.accuracy import percent
from backend.reporting.comparison import LEVEL, Needed
from backend.reporting.learning_curves import BASELINE
from models.files import replace_file

log = logging.getLogger(__name__)

FILE = "replay.json"
FORMAT = 1


@dataclass(frozen=True)
class ReplayedSampler:
    """A sampler in a replay, over its trials.

    curve: mean accuracy (K,). needed: labels to the accuracy of all of them. gain, gain_low, gain_high: the area under
    its curve less random's, as a mean accuracy, with its 95 % interval; p: of Wilcoxon's signed-rank test on it;
    corrected: by Holm for all samplers of the replay. These are None of random itself. seconds: of all trials.
    """

    sampler: str
    curve: Sequence[float]
    needed: Needed
    seconds: float
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    p: float | None = None
    corrected: float | None = None

    @property
    def verdict(self) -> str:
        """``ahead`` of random or ``behind`` it, where the corrected test says so at 5 %; else ``""``."""
        if self.gain is None or self.corrected is None or self.corrected >= LEVEL:
            return ""
        return "ahead" if self.gain > 0 else "behind"


@dataclass(frozen=True)
class Replay:
    """``at``: when it ended, in seconds since the epoch. ``labels``: how many were replayed, of which ``held_out`` in
    each of the ``trials``. ``stages`` (K,): labels of each training. ``target``: the accuracy that random has with the
    last of them, all that were not held out. ``chosen_by``: the sampler of the project. ``failed``: sampler → why it is
    not among ``samplers``."""

    at: float
    labels: int
    held_out: int
    trials: int
    seed: int
    stages: Sequence[int]
    target: float
    chosen_by: str
    samplers: Sequence[ReplayedSampler]
    failed: Mapping[str, str]
    seconds: float

    def of(self, sampler: str) -> ReplayedSampler | None:
        return next((one for one in self.samplers if one.sampler == sampler), None)

    @property
    def best(self) -> ReplayedSampler | None:
        """The one that is farthest ahead of random; None where none is ahead."""
        ahead = [one for one in self.samplers if one.verdict == "ahead"]
        return max(ahead, key=lambda one: one.gain or 0.0, default=None)

    def as_json(self) -> dict[str, Any]:
        """As it is kept, and as ``status --json`` has it: with what it says in words."""
        found = asdict(self)
        for values, one in zip(found["samplers"], self.samplers, strict=True):
            values["verdict"] = one.verdict
        return {"format": FORMAT, **found, "sentence": in_words(self)}

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Replay:
        """Raises KeyError, TypeError or ValueError where it is none."""
        if kept["format"] != FORMAT:
            raise ValueError(f"format {kept['format']}")
        names = cls.__dataclass_fields__
        samplers = [
            ReplayedSampler(
                **{
                    **{key: value for key, value in one.items() if key != "verdict"},
                    "curve": tuple(one["curve"]),
                    "needed": Needed(**one["needed"]),
                }
            )
            for one in kept["samplers"]
        ]
        own = {name: kept[name] for name in names}
        return cls(**{**own, "stages": tuple(own["stages"]), "samplers": tuple(samplers)})


def keep(folder: Path, replay: Replay) -> None:
    """Keep it in the project's ``folder``, in place of an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / FILE, json.dumps(replay.as_json(), indent=1).encode())


def kept(folder: Path) -> Replay | None:
    """The last replay of the project with this ``folder``; None if there is none, or it cannot be read."""
    try:
        return Replay.of_json(json.loads((folder / FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        log.debug("The last replay cannot be read, and counts as none: %s", error)
        return None


def in_words(replay: Replay) -> str:
    """What a replay says, in sentences that end with a full stop."""
    day = datetime.fromtimestamp(replay.at, UTC).strftime("%d %B %Y").lstrip("0")
    head = f"Replay of {replay.labels} labels on {day}, {replay.trials} trials"
    compared = [one for one in replay.samplers if one.gain is not None]
    if not compared:
        return f"{head}: too few trials to compare samplers."
    best, behind = replay.best, [one.sampler for one in compared if one.verdict == "behind"]
    words = f"{head}: no sampler is better than random by the corrected test at 5 %"
    if best is not None:
        words = f"{head}: {_found(replay, best)}"
        others = [one.sampler for one in compared if one.verdict == "ahead" and one is not best]
        words += f"; {_listed(others)} ahead of random, too" if others else ""
    words += f"; {_listed(behind)} behind random" if behind else ""
    return f"{words}."


def fallback(replay: Replay, sampler: str) -> str:
    """What to use in place of ``sampler``, where the replay says that another one is ahead of random and this one is
    not; else ""."""
    best, own = replay.best, replay.of(sampler)
    if best is None or own is None or own.verdict == "ahead":
        return ""
    worse = {"behind": f"{sampler} is behind random", "": f"{sampler} is not told apart from random"}[own.verdict]
    found = f"{best.sampler} is ahead of random" + (f", and {worse}" if sampler != BASELINE else "")
    return f'By the replay of {replay.labels} labels {found}: consider "sampler": "{best.sampler}".'


def _found(replay: Replay, best: ReplayedSampler) -> str:
    random = replay.of(BASELINE)
    words = f"{best.sampler} is ahead of random (p {best.corrected:.2g}, corrected for {len(replay.samplers) - 1})"
    pool = replay.stages[-1]
    return (
        f"{words}; for the accuracy of all {pool}, {percent(replay.target)}, it needs {needed_in_words(best.needed)}"
        f" labels, and random {needed_in_words(random.needed) if random else '?'}"
    )


def left_in_words(done: int, total: int, seconds: float) -> str:
    """How long the trainings that are left still take, if each takes as long as those that are ``done``."""
    if not 0 < done < total:
        return ""
    left = seconds / done * (total - done)
    return f"{left / 60:.0f} minutes left" if left >= 90 else f"{left:.0f} seconds left"


def needed_in_words(needed: Needed) -> str:
    """So many labels, with the interval."""
    if needed.value is None:
        return "more than all"
    high = "more than all" if needed.high is None else f"{needed.high:.0f}"
    low = "?" if needed.low is None else f"{needed.low:.0f}"
    return f"{needed.value:.0f} ({low} to {high})"


def _listed(names: Sequence[str]) -> str:
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} {'is' if len(names) == 1 else 'are'}"
