"""What is shown while learning curves are computed: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.curves.plan import Plan, Run
from benchmarks.curves.tasks import measure_of
from models import ProgressFn


class Display:
    """A bar for all cycles, one for each run that is under way, and a line for every run that ends."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.errors = Console(stderr=True)
        self._bars: Progress | None = None
        self._all = TaskID(0)
        self._bar_of: dict[Run, TaskID] = {}
        self._begun: dict[Run, float] = {}
        self._finished: dict[Run, int] = {}
        self._cycles = self._ended = self._asked = 0
        self._since = 0.0
        self._key = ""

    def say(self, words: str) -> None:
        self.console.print(words, highlight=False, markup=False, soft_wrap=True)

    def fail(self, words: str) -> None:
        self.errors.print(words, style="bold red", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def preparing(self) -> Iterator[ProgressFn]:
        """While the files of a data set are made; yields what to call with (what it is doing, done, total)."""
        with self._shown() as bars:
            bar = bars.add_task("images", total=None, visible=False)
            yield lambda words, done, total: bars.update(
                bar, description=words, completed=done, total=total, visible=True
            )

    @contextmanager
    def running(self, plan: Plan, runs: Sequence[Run], waiting: Sequence[Run]) -> Iterator[None]:
        self._cycles, self._ended, self._asked = plan.trainings, 0, len(waiting)
        self._key = measure_of(plan).key
        self._since = time.monotonic()
        with self._shown() as self._bars:
            self._finished = {run: 0 if run in waiting else plan.trainings for run in runs}
            stored = sum(self._finished.values())
            self._all = self._bars.add_task("all cycles", total=len(runs) * plan.trainings, completed=stored)
            yield
        self._bars = None

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        terminal = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not terminal) as bars:
            yield bars

    # -- called by play_all ----------------------------------------------------------------------------------------

    def started(self, run: Run, device: str) -> None:
        self._begun[run] = time.monotonic()
        assert self._bars is not None
        self._bar_of[run] = self._bars.add_task(f"{_named(run)} on {device}", total=None)

    def phase(self, run: Run, cycle: int, phase: str, done: int, total: int) -> None:
        assert self._bars is not None
        words = f"{_named(run)}, cycle {cycle} of {self._cycles}: {phase}"
        self._bars.update(self._bar_of[run], description=words, completed=done, total=total)
        self._count(run, cycle - 1)

    def _count(self, run: Run, cycles: int) -> None:
        self._finished[run] = cycles
        assert self._bars is not None
        self._bars.update(self._all, completed=sum(self._finished.values()))

    def finished(self, run: Run, lines: list[dict[str, Any]]) -> None:
        first, last = lines[0], lines[-1]
        self._end(run)
        self._count(run, self._cycles)
        self.say(
            f"{_named(run)}: {first[self._key]:.1%} at {first['labels']:,} labels … {last[self._key]:.1%} at"
            f" {last['labels']:,}; {time.monotonic() - self._begun[run]:.0f} s; {self._left()}"
        )

    def failed(self, run: Run, words: str, details: str) -> None:
        self._end(run)
        if details:
            self.errors.print(details, highlight=False, markup=False, soft_wrap=True)
        self.fail(f"{_named(run)} failed: {words}; the others go on")

    def _end(self, run: Run) -> None:
        self._ended += 1
        assert self._bars is not None
        self._bars.remove_task(self._bar_of.pop(run))

    def _left(self) -> str:
        """How many runs, and how long at the pace so far."""
        waiting = self._asked - self._ended
        if not waiting:
            return "all runs have ended"
        minutes = (time.monotonic() - self._since) / self._ended * waiting / 60
        return f"{self._ended} of {self._asked} runs, about {minutes:.0f} min to go"


def _named(run: Run) -> str:
    return f"{run.sampler}, trial {run.trial}"
