"""``python -m benchmarks replay``: how often a replay says what it should of owners of whom that is known.

One owner gains from `margin`, one cannot, because the labels are independent of the images, and one loses by it. Each
run makes new labels and replays them as ``python -m backend replay`` does, with a linear classifier in place of the
head unless --head is given. A second table says how often a project falls back to the sampler that it should.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backend.replay.project import summarized
from backend.replay.trials import Train, play
from backend.reporting.accuracy import CONFIDENCE
from backend.reporting.learning_curves import BASELINE
from backend.reporting.replays import Replay, fallback
from benchmarks.replay.owners import CERTAIN, FALLBACKS, OWNERS, SAMPLER, Owner, TrainLinear
from models.files import replace_file
from models.intervals import wilson_interval

VERDICTS = ("ahead", "", "behind")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks replay", description=__doc__)
    parser.add_argument("--owners", nargs="+", choices=list(OWNERS), default=list(OWNERS), help="default: all")
    parser.add_argument("--runs", type=int, default=200, help="of each owner (default: %(default)s)")
    parser.add_argument("--labels", type=int, default=240, help="of each run (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=10, help="of each replay (default: %(default)s)")
    parser.add_argument("--head", action="store_true", help="train the product's head: many times slower; one table")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also store what is printed, as Markdown")
    options = parser.parse_args(arguments)
    lines = [*table_head(options.labels, options.trials, options.head)]
    print("\n".join(lines))
    for name in options.owners:
        started = time.monotonic()
        verdicts = Counter(
            verdict(replayed(name, run, options.labels, options.trials, head=options.head))
            for run in range(options.runs)
        )
        lines.append(row(name, verdicts, options.runs, time.monotonic() - started))
        print(lines[-1], flush=True)
    if not options.head:
        lines += fallback_table(options)
    if options.write:
        replace_file(options.write, "\n".join(["# Replays of simulated owners", "", *lines, ""]).encode())
    return 0


def fallback_table(options: argparse.Namespace) -> list[str]:
    """Print line by line how often each project of ``FALLBACKS`` was told what; returns the lines."""
    lines = [
        "",
        f"`{SAMPLER}`, `{CERTAIN}` (its reverse) and `random`; what `auto_sampler` goes on with.",
        "",
        f"| owner | the project's sampler | keeps it | `{SAMPLER}` | `{CERTAIN}` | not what it should, 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in options.owners:
        projects = [(sampler, expected) for owner, sampler, expected in FALLBACKS if owner == name]
        told: dict[str, Counter[str]] = {sampler: Counter() for sampler, _ in projects}
        for run in range(options.runs):
            replay = replayed(name, run, options.labels, options.trials, (SAMPLER, CERTAIN))
            for sampler, _ in projects:
                told[sampler][falls_back_to(replay, sampler)] += 1
        for sampler, expected in projects:
            counts = " | ".join(str(told[sampler][which]) for which in ("", SAMPLER, CERTAIN))
            share = _wrong(told[sampler][expected], options.runs)
            lines.append(f"| {name} | `{sampler}` | {counts} | {share} |")
            print(lines[-1], flush=True)
    return lines


def falls_back_to(replay: Replay, sampler: str) -> str:
    """What a project with this ``sampler`` goes on with by the replay; "" where it keeps its own."""
    best = replay.best
    return best.sampler if best is not None and fallback(replay, sampler) else ""


def replayed(
    name: str, run: int, labels: int, trials: int, arms: Sequence[str] = (SAMPLER,), *, head: bool = False
) -> Replay:
    """The replay of one run of an owner, by its number, of ``arms`` against random."""
    make, _ = OWNERS[name]
    owner = make(np.random.default_rng([7, run]), labels)
    samplers = [*arms, BASELINE]
    played = play(samplers, labels, owner.count, trials, run, _train(owner, head), lambda *_: None, time.monotonic)
    return summarized(played, labels, trials, run, SAMPLER, 0.0)


def _train(owner: Owner, head: bool) -> Train:
    if not head:
        return TrainLinear(owner)
    from benchmarks.replay.heads import train_head

    return train_head(owner)


def verdict(replay: Replay) -> str:
    """What it says of `margin`."""
    found = replay.of(SAMPLER)
    assert found is not None
    return found.verdict


def table_head(labels: int, trials: int, head: bool) -> list[str]:
    """What was measured, and the headings."""
    trained = "the product's head" if head else "a linear classifier"
    return [
        f"{labels} labels, {trials} trials, {trained}, `margin` against `random`.",
        "",
        "| owner | ahead | not told apart | behind | not what it is, 95 % interval | seconds of a replay |",
        "|---|---|---|---|---|---|",
    ]


def row(name: str, verdicts: Counter[str], runs: int, seconds: float) -> str:
    """How many of the runs said what, and the share of those that did not say what they should."""
    counts = " | ".join(str(verdicts[which]) for which in VERDICTS)
    return f"| {name} | {counts} | {_wrong(verdicts[OWNERS[name][1]], runs)} | {seconds / runs:.2f} |"


def _wrong(right: int, runs: int) -> str:
    """The share of the ``runs`` that were not ``right``, in percent, with its interval."""
    wrong = 1 - right / runs
    low, high = wilson_interval(np.array(wrong), np.array(runs), CONFIDENCE)
    return f"{100 * wrong:.1f} % ({100 * float(low):.1f} to {100 * float(high):.1f})"
