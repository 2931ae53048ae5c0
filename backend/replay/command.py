"""``replay``: how long it still takes, while it runs, and a table of what it found."""

from __future__ import annotations

import json
import time

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from backend.plain import shown
from backend.replay.project import replay_project
from backend.reporting.accuracy import percent, points
from backend.reporting.replays import Replay, ReplayedSampler, in_words, left_in_words, needed_in_words
from backend.settings.core import Settings
from backend.state import State


def run(
    state: State,
    settings: Settings,
    name: str,
    samplers: list[str],
    trials: int,
    seed: int,
    device: torch.device,
    as_json: bool,
) -> None:
    """Replay the labels of a project, keep what was found, and print it. What is raised: see
    :func:`backend.replay.project.replay_project`."""
    columns = (TextColumn("trainings"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar, started = bars.add_task("trainings", total=None, left=""), time.monotonic()

        def show(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total, left=left_in_words(done, total, time.monotonic() - started))

        found = replay_project(state, settings, name, samplers, trials, seed, device, show)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
        return
    console = Console()
    console.print(table(found))
    console.print(shown(in_words(found)), markup=False)


def table(found: Replay) -> Table:
    """A row for each sampler, the greatest gain first."""
    title = f"{found.labels} labels, {found.held_out} held out in each of {found.trials} trials"
    shown_as = Table(title=title, title_justify="left", title_style="bold")
    headings = ("sampler", f"labels for {percent(found.target)}", "area less random's, points", "p", "corrected", "")
    for heading in (*headings, "seconds"):
        shown_as.add_column(heading)
    for one in sorted(found.samplers, key=lambda one: -(one.gain or 0.0)):
        shown_as.add_row(*(Text(cell) for cell in _cells(one)))
    for name, why in found.failed.items():
        shown_as.add_row(name, Text(shown(f"failed: {why}")))
    return shown_as


def _cells(one: ReplayedSampler) -> list[str]:
    needed, seconds = needed_in_words(one.needed), f"{one.seconds:.0f}"
    if one.gain is None or one.gain_low is None or one.gain_high is None:
        return [one.sampler, needed, "–", "–", "–", "", seconds]
    gain = f"{points(one.gain)} [{points(one.gain_low)}, {points(one.gain_high)}]"
    return [
        one.sampler,
        needed,
        gain,
        f"{one.p:.4f}",
        f"{one.corrected:.4f}",
        one.verdict or "no difference shown",
        seconds,
    ]
