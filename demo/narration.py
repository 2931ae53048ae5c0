"""What the demo says while it works: bars and panels on a terminal, plain lines elsewhere (a log, CI)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

LOG_SECONDS = 15.0
LOG_WIDTH = 165
"""Width of a table where there is no terminal to measure."""


class Narrator:
    """Shows one step at a time. Without a terminal: a line at its start, one at its end, and one now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.errors = Console(stderr=True)
        if not self.console.is_terminal:
            self.console = Console(file=self.console.file, width=LOG_WIDTH)
        self._bar: tuple[Progress, TaskID] | None = None
        self._title = ""
        self._logged = ("", 0.0)

    def say(self, words: str) -> None:
        self.console.print(words, highlight=False, soft_wrap=True)

    def show(self, what: Table) -> None:
        self.console.print(what)

    def panel(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        grid = Table.grid(padding=(0, 2))
        for name, words in lines:
            grid.add_row(f"[bold]{name}", words)
        self.console.print(Panel(grid, title=title, expand=False))

    def fail(self, reason: str, details: Sequence[str]) -> None:
        for text in details:
            self.errors.print(text, highlight=False, markup=False, soft_wrap=True)
        self.errors.print(f"Failed: {reason}", style="bold red", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step that cannot report how far it is."""
        with self.live(title):
            yield

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A step of ``total`` parts; yields what to call with the number of those done."""
        with self.live(title):
            yield lambda done: self.progress("", done, total)

    @contextmanager
    def live(self, title: str) -> Iterator[None]:
        """A step that reports what it does through :meth:`progress`."""
        self._title, self._logged = title, ("", time.monotonic())
        began = time.monotonic()
        if not self.console.is_terminal:
            self.say(f"{title} …")
            yield
            self.say(f"{title}: {time.monotonic() - began:.1f} s")
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[measure]}"))
        with Progress(*columns, TimeElapsedColumn(), console=self.console) as progress:
            self._bar = (progress, progress.add_task(title, total=None, measure=""))
            try:
                yield
                progress.update(self._bar[1], description=title, total=1, completed=1, measure="")
            finally:
                self._bar = None

    def progress(self, words: str, done: int, total: int) -> None:
        """Where the current step is: ``done`` of ``total`` (0: unknown), and what it is doing."""
        text = f"{self._title}: {words}" if words else self._title
        measure = f"{done}/{total}" if total > 1 else ""
        if self._bar is not None:
            progress, task = self._bar
            progress.update(task, description=text, total=total or None, completed=done, measure=measure)
        elif self._due(words):
            self.say(f"  {text} {measure}".rstrip())

    def _due(self, words: str) -> bool:
        """Without a terminal: a line whenever the words change, and otherwise one now and then."""
        before, at = self._logged
        now = time.monotonic()
        if words == before and now - at < LOG_SECONDS:
            return False
        self._logged = (words, now)
        return True
