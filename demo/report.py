"""What the demo reports of its rounds: a line for each, the table, and whether the versions became better."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from demo.narration import Narrator
from demo.oracle import Round
from demo.subjects.base import Subject

ENOUGH = 3
"""Trained versions, to say that labels did not help."""


class LearnedNothing(Exception):
    """The versions did not become better with the labels."""


def say_round(row: Round, subject: Subject, narrator: Narrator) -> None:
    """How good the new version is, where its pre-annotations are compared too."""
    if row.agreement is not None and row.quality is not None:  # which is waited for
        narrator.say(
            f"{row.version}: {subject.measure} {row.quality:.1%} of {subject.held_out:,} held-out images after "
            f"{row.labels} labels; {row.agreement:.1%} of what is proposed at the head of the queue"
        )


def check_rise(rounds: Sequence[Round], subject: Subject, narrator: Narrator) -> None:
    """Raises LearnedNothing when the last of three versions or more is not better than the first that was trained. Two
    may differ by chance: then it is only said."""
    trained = [(row.version, row.quality) for row in rounds if row.quality is not None]
    if len(trained) < 2:
        return
    (first, before), (last, after) = trained[0], trained[-1]
    if after > before:
        narrator.say(f"{_heading(subject)} rose from {before:.1%} to {after:.1%}.")
        return
    words = f"{subject.measure} did not rise: {before:.1%} with {first}, {after:.1%} with {last}"
    if len(trained) >= ENOUGH:
        raise LearnedNothing(words)
    narrator.say(words)


def _heading(subject: Subject) -> str:
    return subject.measure[0].upper() + subject.measure[1:]


def table(rounds: Sequence[Round], subject: Subject) -> Table:
    """One line for each version: what it learned from, how good it is, what it cost, what of it was served."""
    # the newest version went through all phases of a cycle, in their order
    phases = list(dict.fromkeys(phase for row in reversed(rounds) for phase in row.seconds))
    measure = f"{_heading(subject)} of {subject.held_out:,} held-out images"
    shown = Table(title=f"{measure}; seconds per phase; waiting = last label to the whole new order")
    shown.add_column("version", no_wrap=True)
    head = ["at the head"] if any(row.agreement is not None for row in rounds) else []
    names = (subject.measure, *head, *[f"{phase} s" for phase in phases], "waiting s", "served in order")
    for name in ("labels", *names):
        shown.add_column(name, justify="right")
    for row in rounds:
        shares = [row.quality, row.agreement][: 1 + len(head)]
        seconds = [f"{row.seconds[phase]:.1f}" if phase in row.seconds else "–" for phase in phases]
        shown.add_row(
            row.version,
            str(row.labels),
            *["–" if share is None else f"{share:.1%}" for share in shares],
            *seconds,
            f"{row.waited:.1f}",
            str(row.served),
        )
    return shown
