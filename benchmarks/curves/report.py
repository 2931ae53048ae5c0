"""What is written of learning curves: a tidy CSV, a picture, a page of Markdown, and the plan they belong to."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from backend.reporting.learning_curves import BASELINE, MeanStd
from benchmarks.curves.plan import Plan, Run
from benchmarks.curves.purchases import COLUMNS
from benchmarks.curves.stats import Summary, summaries
from benchmarks.curves.store import Line, RunStore
from benchmarks.curves.tasks import measure_of
from benchmarks.curves.tasks.base import Measure
from benchmarks.curves.versus import sections
from models.files import replace_file

_VERDICTS = {"baseline": "", "unknown": "?", "behind": "−", "noise": "~", "ahead": "+"}


@dataclass(frozen=True)
class Results:
    """The finished cycles of all runs that are stored under a plan, whichever command they came from."""

    plan: Plan
    lines: list[Line]
    failures: Mapping[Run, str]

    @classmethod
    def gather(cls, plan: Plan, folder: Path, order: Sequence[str], failures: Mapping[Run, str]) -> Results:
        """order: the samplers' names as they are listed."""
        found = [line for path in sorted(folder.glob("*/results.jsonl")) for line in RunStore(path.parent).lines()]
        place = {name: index for index, name in enumerate(order)}
        found = [line for line in found if line["sampler"] in place]
        found.sort(key=lambda line: (place[line["sampler"]], line["trial"], line["cycle"]))
        return cls(plan, found, failures)

    @classmethod
    def stored(cls, folder: Path) -> Results:
        """What `write` left in ``folder``: the plan and, of the lines, what the CSV has of them."""
        facts = json.loads((folder / "plan.json").read_text())
        with (folder / "curves.csv").open(newline="") as file:
            lines = [
                {key: _value(key, text) for key, text in row.items() if text != ""} for row in csv.DictReader(file)
            ]
        return cls(Plan.of_facts({key: value for key, value in facts.items() if key != "digest"}), lines, {})

    @property
    def measure(self) -> Measure:
        return measure_of(self.plan)

    def curves(self) -> dict[str, dict[int, list[float]]]:
        """sampler → trial → accuracy, or what else the task's measure is (K,), of the runs that are finished."""
        key = self.measure.key
        runs: dict[str, dict[int, list[float]]] = {}
        for line in self.lines:
            runs.setdefault(line["sampler"], {}).setdefault(line["trial"], []).append(line[key])
        whole = {
            name: {trial: curve for trial, curve in trials.items() if len(curve) == self.plan.trainings}
            for name, trials in runs.items()
        }
        return {name: trials for name, trials in whole.items() if trials}

    def final(self, sampler: str, key: str) -> MeanStd:
        """The column ``key`` after the last cycle of the sampler's finished runs, of which there must be one."""
        last = self.plan.trainings
        return MeanStd.of([line[key] for line in self.lines if (line["sampler"], line["cycle"]) == (sampler, last)])

    def mean_seconds(self, sampler: str, phase: str) -> float:
        """Mean over its cycles; NaN where none has that phase."""
        key = f"{phase}_seconds"
        spent = [line[key] for line in self.lines if line["sampler"] == sampler and key in line]
        return fmean(spent) if spent else math.nan


def _value(column: str, text: str) -> str | int | float:
    if column in ("sampler", "code"):
        return text
    return int(text) if column in ("trial", "cycle", "labels") else float(text)


def write(folder: Path, results: Results, command: str, source: str, facts: Mapping[str, str]) -> list[Path]:
    """Write everything into ``folder``, each file whole or not at all; returns their paths."""
    from benchmarks.curves.plot import picture  # here: matplotlib is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    curves, labels = results.curves(), results.plan.labels()
    title = f"{results.plan.dataset}: {trials_words(curves)}, mean ± one standard deviation"
    parts = {
        "curves.csv": as_csv(results.lines, results.measure).encode(),
        "curves.md": page(results, command, source, facts).encode(),
        "plan.json": (json.dumps({"digest": results.plan.digest, **results.plan.facts()}, indent=1) + "\n").encode(),
    }
    if curves:
        parts["curves.png"] = picture(title, labels, curves, results.measure.words)
    for name, data in parts.items():
        replace_file(folder / name, data)
    return [folder / name for name in parts]


def columns(measure: Measure) -> tuple[str, ...]:
    """The columns of the CSV."""
    return (
        *("sampler", "trial", "cycle", "labels", measure.key, *measure.alongside),
        *("train_seconds", "fit_seconds", "score_seconds", "epochs", "peak_rss_mib", "peak_cuda_mib", "code"),
    )


def as_csv(lines: Iterable[Line], measure: Measure) -> str:
    """One row for each sampler, trial and cycle; an empty cell where there was no such phase."""
    text, lines = io.StringIO(), list(lines)
    known = {key for line in lines for key in line}
    names = (*columns(measure), *(name for name in COLUMNS if name in known))
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def page(results: Results, command: str, source: str, facts: Mapping[str, str]) -> str:
    """The page: the command, the machine, the table, and which samplers did not beat random."""
    plan, curves = results.plan, results.curves()
    rows = summaries(plan.labels(), curves)
    lines = [f"# Learning curves: {plan.dataset}", "", f"`{command}`", ""]
    lines += [f"- {name}: {value}" for name, value in {**facts, "data": source}.items()]
    lines += [f"- code: {', '.join(sorted({line['code'] for line in results.lines}))} (digest of models and samplers)"]
    at = ", ".join(f"{count:,}" for count in plan.labels())
    lines += ["", f"Labels at the {plan.trainings} trainings: {at}; {trials_words(curves)}.", ""]
    if curves:
        words = results.measure.words
        lines += [f"![{words[0].upper()}{words[1:]} over labels, a panel for each family](curves.png)", ""]
    headings = _headings(results.measure)
    lines += ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(_cells(row, results)) + " |" for row in rows]
    versus = sections(plan, curves, results.lines, results.measure.words)
    lines += ["", *_notes(results.measure), "", *(versus[:-1] or sentences(rows))]
    if results.failures:
        lines += ["", "Not finished:", ""]
        lines += [f"- {run.sampler}, trial {run.trial}: {words}" for run, words in results.failures.items()]
    return "\n".join(lines) + "\n"


def sentences(rows: Sequence[Summary]) -> list[str]:
    """Plain words on which samplers beat random here, which did not, and which cannot be told."""
    if not any(row.sampler == BASELINE for row in rows):
        return ["Without random in the same run nothing can be said about who beats it."]
    named = {verdict: [row.sampler for row in rows if row.verdict == verdict] for verdict in _VERDICTS}
    said = []
    for verdict, words in (
        ("ahead", "Ahead of random here, by more than the noise"),
        ("noise", "Ahead on average, but within the noise"),
        ("behind", "Did not beat random here (mean paired difference not above 0)"),
    ):
        said.append(f"{words}: {', '.join(named[verdict]) or 'none'}.")
    return ["  \n".join(said)]


def trials_words(curves: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    counts = sorted({len(trials) for trials in curves.values()})
    if not counts:
        return "no finished trial"
    few, many = counts[0], counts[-1]
    return f"{many} trial{'s' if many > 1 else ''}" if few == many else f"{few} to {many} trials"


def _headings(measure: Measure) -> list[str]:
    return [
        *("sampler", "area under the curve, %", "less random's", ""),
        *(f"final {words}, %" for words in (measure.words, *measure.alongside.values())),
        *("labels for random's final", "train s", "fit s", "score s", "peak memory"),
    ]


def _cells(row: Summary, results: Results) -> list[str]:
    own = [line for line in results.lines if line["sampler"] == row.sampler]
    reached = "not reached" if row.labels_to_random is None else f"{row.labels_to_random:,.0f}"
    gain = "" if row.gain is None or row.sampler == BASELINE else _percent(row.gain, sign="+")
    memory = f"{max(line['peak_rss_mib'] for line in own):,.0f} MiB"
    if on_device := max(line["peak_cuda_mib"] for line in own):
        memory += f"; CUDA {on_device:,.0f} MiB"
    seconds = [results.mean_seconds(row.sampler, phase) for phase in ("train", "fit", "score")]
    return [
        f"**{row.sampler}**" if row.sampler == BASELINE else row.sampler,
        _percent(row.area),
        gain,
        _VERDICTS[row.verdict],
        _percent(row.final),
        *(_percent(results.final(row.sampler, key)) for key in results.measure.alongside),
        reached if row.gain is not None else "?",
        *("–" if math.isnan(spent) else f"{spent:.1f}" for spent in seconds),
        memory,
    ]


def _percent(value: MeanStd, sign: str = "") -> str:
    mean = f"{100 * value.mean:{sign}.2f}".replace("-", "−")
    return mean if math.isnan(value.std) else f"{mean} ± {100 * value.std:.2f}"


def _notes(measure: Measure) -> list[str]:
    return [
        measure.note,
        f"*Area under the curve*: the trapezoids under {measure.words} over labels, divided by the width, so its mean.",
        "± is the sample standard deviation over the trials. *Less random's*: the difference of the areas, paired by",
        "trial; the sign after it is + when the mean's 95 % interval (Student's t) is above 0, ~ when only the mean",
        "is, − when not even that. *Labels for random's final*: where the mean curve, straight between its points,",
        "comes to random's last point. Seconds are means per cycle: training the task network, the sampler's own",
        "networks (or passes), scoring the pool. They and the memory of a run's process are what runs side by side",
        "left of the machine.",
        "All samplers share a trial's pool, test images, recipe and seeds; those that begin alike, its first labels.",
    ]
