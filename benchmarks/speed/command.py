"""``python -m benchmarks bench``: the speed table, each row a ratio of two things measured side by side in one run."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.measuring import Measured, machine
from samplers import SAMPLER_NAMES
from tests.rig.servers import LabelStudioServer

RESULTS = Path(__file__).parents[1] / "results" / "bench.md"


class Session:
    """What the rows share: a scratch folder and one Label Studio, which starts when a row asks for it."""

    def __init__(self, folder: Path, small: bool, label_studio: LabelStudioServer | None = None) -> None:
        self.folder = folder
        self.small = small
        self._label_studio = label_studio
        self._started = ExitStack()

    def label_studio(self) -> LabelStudioServer:
        if self._label_studio is None:
            server = LabelStudioServer(self.folder / "label-studio")
            self._started.enter_context(server)
            self._label_studio = server
        return self._label_studio

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()


Measure = Callable[[Session], Measured]


def _row(module: str, measure: Callable[[Any, Session], Measured]) -> Measure:
    """A row whose module is imported when it is measured: some take seconds, and `--only` asks for few."""
    return lambda session: measure(import_module(f"benchmarks.speed.{module}"), session)


def _score(name: str) -> Measure:
    return _row("scoring", lambda module, its: module.measure_sampler(name, its.folder, its.small))


def _on_ray(name: str) -> Measure:
    return _row("on_ray", lambda module, its: module.measure(name, its.folder, its.small))


# In the order of the table; the rows without a server first.
ROWS: dict[str, Measure] = {
    "epmcm": _row("scoring", lambda module, its: module.measure_epmcm(its.folder, its.small)),
    "epmcm-fused": _row("scoring", lambda module, its: module.measure_epmcm(its.folder, its.small, fused=True)),
    "epmcm-pixels": _row("pixel_scoring", lambda module, its: module.measure_epmcm(its.folder, its.small)),
    "vaal": _row("scoring", lambda module, its: module.measure_vaal(its.folder, its.small)),
    "vaal-fused": _row("scoring", lambda module, its: module.measure_vaal(its.folder, its.small, fused=True)),
    "bfloat16": _row("precision", lambda module, its: module.measure(its.small)),
    "decode": _row("decoding", lambda module, its: module.measure(its.small)),
    "embedding": _row("heads", lambda module, its: module.measure_embedding(its.folder, its.small)),
    "head": _row("heads", lambda module, its: module.measure_training(its.small)),
    "score-features": _row("heads", lambda module, its: module.measure_scoring(its.folder, its.small)),
    **{f"ray-{name}": _on_ray(name) for name in ("bald", "vaal", "margin")},
    "photographs": _row("photographs", lambda module, its: module.measure(its.folder, its.small)),
    **{f"score-{name}": _score(name) for name in SAMPLER_NAMES},
    "k-center": _row("scoring", lambda module, its: module.measure_k_center(its.small)),
    "matching": _row("matching", lambda module, its: module.measure(its.folder, its.small)),
    "memory": _row("memory", lambda module, its: module.measure(its.folder, its.small)),
    "memory-masks": _row("memory", lambda module, its: module.measure_masks(its.folder, its.small)),
    "page": _row("page", lambda module, its: module.measure(its.folder, its.small)),
    "publish": _row("publish", lambda module, its: module.measure(its.folder, its.label_studio(), its.small)),
    "labeling": _row("labeling", lambda module, its: module.measure(its.folder, its.label_studio(), its.small)),
    "served": _row("served", lambda module, its: module.measure(its.folder, its.label_studio(), its.small)),
    "webhook": _row("webhook", lambda module, its: module.measure(its.folder, its.label_studio(), its.small)),
}


@dataclass(frozen=True)
class Outcome:
    """A row that was measured, or the words of what came in between."""

    key: str
    measured: Measured | None
    failure: str = ""


def run_rows(keys: Sequence[str], session: Session, say: Callable[[str], None]) -> list[Outcome]:
    """Measure rows one after the other. One that fails does not stop the others."""
    outcomes = []
    for key in keys:
        say(f"measuring {key} …")
        started = time.monotonic()
        try:
            outcomes.append(Outcome(key, ROWS[key](session)))
        except Exception as error:
            say(traceback.format_exc())
            outcomes.append(Outcome(key, None, f"{type(error).__name__}: {error}"))
        say(f"  {time.monotonic() - started:.0f} s")
    return outcomes


def cells(outcome: Outcome) -> list[str]:
    """One row of the table: what, ratio, spread, limit, verdict (none without a limit), and the quantities."""
    row = outcome.measured
    if row is None:
        return [outcome.key, "", "", "", "failed", outcome.failure.splitlines()[0]]
    low, high = row.spread
    ratio, limits = f"{row.ratio:.3f}", [] if row.limit is None else [f"≤ {row.limit:g}"]
    for bound in row.bounds:
        ratio += f"; {bound.value:{'.0f' if bound.value >= 100 else '.3g'}} {bound.unit}"
        limits.append(f"≤ {bound.limit:g} {bound.unit}")
    verdict = ("met" if row.met else "short") if row.judged else ""
    values = f"{_median(row.over):.4g} ÷ {_median(row.under):.4g} {row.unit}, {len(row.over)} pairs"
    return [row.title, ratio, f"{low:.3f} … {high:.3f}", "; ".join(limits), verdict, values]


HEADINGS = ["what", "ratio", "spread", "limit", "", "medians"]


def as_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Ratios, each measured side by side in this run", title_justify="left", expand=True)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    styles = {"met": "green", "short": "yellow", "failed": "red"}
    for outcome in outcomes:
        texts = cells(outcome)
        if texts[4]:
            texts[4] = f"[{styles[texts[4]]}]{texts[4]}[/]"
        table.add_row(*texts)
    return table


def notes_of(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """The notes with the keys of their rows; what several rows say alike stands once, many rows as "first … last"."""
    keys_of: dict[str, list[str]] = {}
    for outcome in outcomes:
        for note in outcome.measured.notes if outcome.measured else ():
            keys_of.setdefault(note, []).append(outcome.key)
    return [(", ".join(keys) if len(keys) < 4 else f"{keys[0]} … {keys[-1]}", note) for note, keys in keys_of.items()]


def as_markdown(outcomes: Sequence[Outcome], facts: dict[str, str], command: str) -> str:
    """The page that is kept in benchmarks/results: machine, table, notes."""
    lines = ["# Bench", "", f"`{command}`", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [
        "",
        "Each row is a ratio of two quantities taken in turns in one run: the median over the pairs, and in *spread*",
        "the least and the greatest pair. What else the machine was doing falls on both alike. A row without a limit",
        "is only reported.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(text.replace("|", "\\|") for text in cells(outcome)) + " |" for outcome in outcomes]
    lines += ["", "How they were taken:", ""]
    lines += [f"- **{keys}**: {note}." for keys, note in notes_of(outcomes)]
    return "\n".join(lines) + "\n"


def _median(values: Sequence[float]) -> float:
    from statistics import median

    return median(values)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--small", action="store_true", help="every row's code on a tiny input; ratios mean nothing")
    where = f"store the table, the whole one in benchmarks/results/{RESULTS.name} unless there is another FILE"
    parser.add_argument("--write", nargs="?", type=Path, const=RESULTS, metavar="FILE", help=where)
    options = parser.parse_args(arguments)
    if options.write and options.small:
        parser.error("--write stores a table at full size: leave --small out")
    if options.write == RESULTS and options.only:
        parser.error(f"{RESULTS.name} has the whole table: give --write another FILE, or leave --only out")
    return options


def _command(only: Sequence[str] | None) -> str:
    """What gives this table."""
    return " ".join(["python -m benchmarks bench", *(f"--only {row}" for row in only)]) if only else "make bench"


def main(
    arguments: Sequence[str], label_studio: LabelStudioServer | None = None, console: Console | None = None
) -> int:
    """Print the table; 0 when every row was measured, whether it keeps its limit or not, else 1."""
    options = parse(arguments)
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    notices = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    facts = machine()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Session(Path(folder), options.small, label_studio) as session,
    ):
        # not wrapped: a traceback's paths are to be clicked on
        say = partial(notices.print, markup=False, highlight=False, soft_wrap=True)
        outcomes = run_rows(options.only or list(ROWS), session, say)
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(as_table(outcomes))
    for keys, note in notes_of(outcomes):
        console.print(f"{keys}: {note}", highlight=False, markup=False)
    if options.small:
        console.print("Taken on tiny inputs: these ratios mean nothing.")
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(as_markdown(outcomes, facts, _command(options.only)))
    return 0 if all(outcome.measured for outcome in outcomes) else 1
