"""Studies that are learning curves, whose arms may differ in settings as well as in the sampler."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backend.reporting.learning_curves import MeanStd, area_under_curve
from benchmarks.curves import command
from benchmarks.curves.display import Display
from benchmarks.curves.report import Results
from benchmarks.curves.versus import signed
from benchmarks.papers.study import Outcome, Places, Study
from benchmarks.speed.measuring import machine


@dataclass(frozen=True)
class Arm:
    """A curve: a sampler under settings of its own, called ``label``."""

    label: str
    sampler: str
    settings: tuple[str, ...] = ()


def arms(*names: str) -> tuple[Arm, ...]:
    """Samplers under their own names and the study's settings."""
    return tuple(Arm(f"`{name}`", name) for name in names)


@dataclass(frozen=True)
class Curves(Study):
    """``small`` and ``paper``: options of ``python -m benchmarks curves`` at either scale. Differences are to the arm
    that is labeled ``reference``. All arms share a trial's pool, first labels, held-out images and seeds."""

    arms: tuple[Arm, ...] = ()
    small: str = ""
    paper_scale: str = ""
    reference: str = "`random`"

    def make(self, scale: str, places: Places, display: Display) -> Outcome:
        played = self.play(scale, places, display)
        labels = played.labels
        headings = ["", *(f"{count:,} labels" for count in labels), f"over the curve, less {self.reference}"]
        rows = [self._row(label, labels, played.curves) for label in played.curves]
        return Outcome(headings, rows, self.notes(played), played.facts)

    def play(self, scale: str, places: Places, display: Display) -> Played:
        """Play all arms: one experiment for each set of settings."""
        played = Played(machine())
        options = self.small if scale == "small" else self.paper_scale
        groups: dict[tuple[str, ...], list[Arm]] = {}
        for arm in self.arms:
            groups.setdefault(arm.settings, []).append(arm)
        for settings, group in groups.items():
            display.say(f"--- {', '.join(arm.label for arm in group)}")
            words = _words(options, settings, group, places, self.name)
            results = command.experiment(command.parse(words), display)
            for arm in group:
                played.add(arm.label, arm.sampler, results)
        return Played(played.facts | {"seeds": played.seeds(places.seed)}, *played.in_order(self.arms))

    def notes(self, played: Played) -> list[str]:
        return [
            f"{played.measure[0].upper()}{played.measure[1:]} in %, mean ± half of the 95 % interval (Student's t). The"
            " last column is the mean over the curve in points, paired by trial, with its 95 % interval."
        ]

    def _row(self, label: str, labels: Sequence[int], curves: Mapping[str, Mapping[int, Sequence[float]]]) -> list[str]:
        trials = curves[label]
        cells = [MeanStd.of([100 * curve[place] for curve in trials.values()]) for place in range(len(labels))]
        base = curves.get(self.reference, {})
        common = sorted(base.keys() & trials.keys())
        gains = [100 * (area_under_curve(labels, trials[t]) - area_under_curve(labels, base[t])) for t in common]
        gain = "" if label == self.reference or not gains else _gain(MeanStd.of(gains))
        return [label, *(_cell(cell) for cell in cells), gain]


@dataclass(frozen=True)
class Played:
    """The finished runs of a study: label of an arm -> trial -> curve (K,), and the results they are from."""

    facts: dict[str, str]
    curves: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    results: dict[str, tuple[str, Results]] = field(default_factory=dict)

    def add(self, label: str, sampler: str, results: Results) -> None:
        if found := results.curves().get(sampler):
            self.curves[label], self.results[label] = found, (sampler, results)

    def in_order(self, arms: Sequence[Arm]) -> tuple[dict[str, dict[int, list[float]]], dict[str, tuple[str, Results]]]:
        there = [arm.label for arm in arms if arm.label in self.curves]
        return {label: self.curves[label] for label in there}, {label: self.results[label] for label in there}

    def seeds(self, seed: int) -> str:
        counts = sorted({len(trials) for trials in self.curves.values()}) or [0]
        words = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return f"--seed {seed}, {words} trials"

    @property
    def labels(self) -> list[int]:
        return next(iter(self.results.values()))[1].plan.labels() if self.results else []

    @property
    def measure(self) -> str:
        return next(iter(self.results.values()))[1].measure.words if self.results else "accuracy"


def _words(options: str, settings: Sequence[str], group: Sequence[Arm], places: Places, name: str) -> list[str]:
    words = [*shlex.split(options), "--samplers", ",".join(dict.fromkeys(arm.sampler for arm in group))]
    for setting in settings:
        words += ["--set", setting]
    out = places.work / "papers" / name / ("-".join(settings).replace("/", "-") or "all")
    words += ["--data", str(places.data), "--work", str(places.work), "--out", str(out), "--replace"]
    return [*words, "--devices", places.devices, "--jobs", str(places.jobs), "--seed", str(places.seed)]


def _cell(value: MeanStd) -> str:
    return f"{value.mean:.1f}" if math.isnan(value.margin) else f"{value.mean:.1f} ± {value.margin:.1f}"


def _gain(value: MeanStd) -> str:
    if math.isnan(value.margin):
        return signed(value.mean)
    return f"{signed(value.mean)} [{signed(value.mean - value.margin)}, {signed(value.mean + value.margin)}]"
