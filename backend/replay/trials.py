"""The trials of a replay. What trains is handed in, so that nothing here needs torch.

In each trial some labels, drawn by chance, are held out, and the others are the pool. Every sampler of a trial begins
with the same first labels, also drawn by chance, trains with the same seeds, buys the rest of the pool in the same
portions, and is asked about the same held-out labels: their differences are paired.

Axis letters: L labels, H held out, T trials, K stages (one training each).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

STAGES = 8
HELD_OUT = 0.3
"""The part of the labels that is held out."""
FIRST_SHARE, FEWEST_FIRST = 0.1, 8
"""Of the pool: labeled before the first training; and how many at least."""
FEWEST_LABELS = 60
"""So few leave 18 held out, whose accuracy is known to ±20 points in each trial: below that nothing can be told."""


class Trained(Protocol):
    """A network and its sampler after a training. Rows are places among the labels."""

    def accuracy(self, rows: np.ndarray) -> float:
        """The share of right answers on these labels, from 0 to 1."""

    def order(self, rows: np.ndarray) -> np.ndarray:
        """The rows (N,), the one to be labeled first first."""


class Train(Protocol):
    """Trains ``sampler`` and its network from ``seed``. ``previous``: what it was after the stage before, None in the
    first. Raises SamplerFailed."""

    def __call__(
        self, sampler: str, labeled: np.ndarray, unlabeled: np.ndarray, seed: int, previous: Trained | None
    ) -> Trained: ...


Progress = Callable[[int, int], None]
"""(trainings done, all of them)"""


class SamplerFailed(Exception):
    """A sampler could not be trained; the message says why. It is left out of the rest of the replay."""


@dataclass(frozen=True)
class Design:
    """How many labels are ``held_out`` (H), and how many each training sees: ``stages`` (K,), the last the whole pool,
    L - H."""

    held_out: int
    stages: tuple[int, ...]

    @classmethod
    def of(cls, labels: int, classes: int) -> Design:
        """For so many labels L >= :data:`FEWEST_LABELS`: the first stage has a tenth of the pool, and on average two
        labels for each of the classes, up to half of the pool."""
        held_out = round(HELD_OUT * labels)
        pool = labels - held_out
        first = min(max(round(FIRST_SHARE * pool), FEWEST_FIRST, 2 * classes), pool // 2)
        return cls(held_out, tuple(int(count) for count in np.linspace(first, pool, STAGES).round()))


@dataclass(frozen=True)
class Played:
    """``curves``: sampler → trial → accuracy (K,), of samplers that did not fail. ``seconds``: of each, in all trials.
    ``failed``: sampler → why. All of it up to where the replay is."""

    design: Design
    curves: Mapping[str, Mapping[int, Sequence[float]]]
    seconds: Mapping[str, float]
    failed: Mapping[str, str] = field(default_factory=dict)

    def is_whole(self, samplers: Sequence[str], trials: int) -> bool:
        """Whether there is nothing left to play."""
        return all(len(self.curves.get(name, ())) == trials for name in samplers if name not in self.failed)


@dataclass
class _Counter:
    """Trainings that are ``done``, of a ``total`` that falls when a sampler fails."""

    total: int
    progress: Progress
    done: int = 0

    def step(self) -> None:
        self.done += 1
        self.progress(self.done, self.total)


def play(
    samplers: Sequence[str],
    labels: int,
    classes: int,
    trials: int,
    seed: int,
    train: Train,
    progress: Progress,
    clock: Callable[[], float],
    begun: Played | None = None,
    go_on: Callable[[Played], bool] = lambda _: True,
) -> Played:
    """Play ``trials`` trials of each of ``samplers`` on ``labels`` labels (L), trial by trial.

    The same ``seed`` gives the same curves. ``clock``: seconds, from any beginning.

    Args:
        begun: what was played before, of the same replay.
        go_on: asked after each curve, with what was played so far.
    """
    design = Design.of(labels, classes)
    begun = begun or Played(design, {}, {})
    curves = {name: dict(begun.curves.get(name, {})) for name in samplers}
    seconds = {name: begun.seconds.get(name, 0.0) for name in samplers}
    failed = dict(begun.failed)
    done = len(design.stages) * sum(map(len, curves.values()))
    counter = _Counter(trials * (len(samplers) - len(failed)) * len(design.stages), progress, done)

    def so_far() -> Played:
        kept = {name: dict(of) for name, of in curves.items() if name not in failed}
        return Played(design, kept, dict(seconds), dict(failed))

    for trial in range(1, trials + 1):
        for sampler in [name for name in samplers if name not in failed and trial not in curves[name]]:
            started, before = clock(), counter.done
            try:
                curves[sampler][trial] = _curve(sampler, labels, design, [seed, trial], train, counter.step)
            except SamplerFailed as error:
                failed[sampler] = str(error)
                counter.total -= (trials - trial + 1) * len(design.stages) - (counter.done - before)
            seconds[sampler] += clock() - started
            if not go_on(so_far()):
                return so_far()
    return so_far()


def _curve(
    sampler: str, labels: int, design: Design, seeds: Sequence[int], train: Train, trained: Callable[[], None]
) -> list[float]:
    """The accuracy (K,) of one sampler in one trial. ``trained`` is called after each training."""
    order = np.random.default_rng([*seeds, 0]).permutation(labels)
    held_out, pool = order[: design.held_out], order[design.held_out :]
    labeled, curve = np.sort(pool[: design.stages[0]]), list[float]()
    found: Trained | None = None
    for place, count in enumerate(design.stages):
        unlabeled = np.setdiff1d(pool, labeled)
        stage_seed = np.random.SeedSequence([*seeds, 1, place]).generate_state(1, np.uint64)[0]
        found = train(sampler, labeled, unlabeled, int(stage_seed >> np.uint64(2)), found)
        curve.append(found.accuracy(held_out))
        trained()
        if count < len(pool):
            bought = found.order(unlabeled)[: design.stages[place + 1] - count]
            labeled = np.sort(np.concatenate([labeled, bought]))
    return curve
