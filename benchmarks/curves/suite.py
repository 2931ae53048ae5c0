"""``python -m benchmarks curves`` without a data set: the experiments that docs/results.md and README are written from.

Ten trials of each, on a head on frozen features, the product's default; sized for two CPU cores. Figures of all of them
together go to summary.md.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.reporting.comparison import compared
from benchmarks.curves import command
from benchmarks.curves.display import Display
from benchmarks.curves.plan import PIXELS
from benchmarks.curves.report import Results
from benchmarks.curves.versus import OWN_FIRST, at_of, first_order_gains, markdown, points, saved, signed
from benchmarks.data.datasets import DatasetUnavailable
from models.files import replace_file
from samplers import SAMPLERS

TRIALS = 10
FEATURES = command.RESULTS.parent / "features"
CONTROLS = (PIXELS, "random", OWN_FIRST)
CHEAP = ("least-confidence", "margin", "entropy", "dast-al", "typiclust", "badge", "dropquery", "uherding")
DEAR = ("core-set", "mc-dropout", "bald", "learning-loss", "bait")
"""Many times the seconds of the others in a cycle."""
ADVERSARIAL = ("vaal", "ta-vaal")
"""Dearer still, and played in both spaces that their networks can see."""


@dataclass(frozen=True)
class Experiment:
    """One set of curves. ``name``: of its folder; ``options``: of the command; ``samplers``: those among them that the
    table has are played, beside the controls."""

    name: str
    options: str
    samplers: Sequence[str] = CHEAP

    def arguments(self, given: argparse.Namespace) -> list[str]:
        arms = [*CONTROLS, *(name for name in self.samplers if name in SAMPLERS)]
        words = [*shlex.split(self.options), "--samplers", ",".join(arms), "--trials", str(given.trials or TRIALS)]
        words += [
            "--data",
            str(given.data),
            "--work",
            str(given.work),
            "--out",
            str((given.out or FEATURES) / self.name),
        ]
        words += ["--devices", given.devices, "--jobs", str(given.jobs), "--seed", str(given.seed)]
        return [*words, "--replace", *(["--fresh"] if given.fresh else [])]


_FASHION = "--image-size 32 --bank 4000 --pool 3000 --test 2000"
_BY_50 = "--early 20 --initial 50 --budget 50"
EXPERIMENTS = (
    Experiment("photographs", f"--dataset photographs {_BY_50} --cycles 4", (*CHEAP, *DEAR)),
    Experiment("fashion-mnist", f"--dataset fashion-mnist {_FASHION} {_BY_50} --cycles 8"),
    Experiment("digits", f"--dataset digits --image-size 32 {_BY_50} --cycles 8"),
    Experiment("fashion-mnist-x100", f"--dataset fashion-mnist-x100 {_FASHION} {_BY_50} --cycles 8"),
    Experiment(
        "fashion-mnist-copies", f"--dataset fashion-mnist-copies --image-size 32 --test 2000 {_BY_50} --cycles 8"
    ),
    Experiment("fashion-mnist-by-10", f"--dataset fashion-mnist {_FASHION} --initial 20 --budget 10 --cycles 9"),
    Experiment(
        "fashion-mnist-by-200",
        f"--dataset fashion-mnist {_FASHION} --initial 200 --budget 200 --cycles 5",
        ("margin", "dast-al", "badge", "dropquery", "uherding", *ADVERSARIAL),
    ),
    Experiment(
        "fashion-mnist-by-200-pixels",
        f"--dataset fashion-mnist {_FASHION} --initial 200 --budget 200 --cycles 5 --set vaal_space=pixels",
        ADVERSARIAL,
    ),
    Experiment(
        "fashion-mnist-by-500",
        "--dataset fashion-mnist --image-size 32 --bank 20000 --pool 15000 --test 2000"
        " --initial 500 --budget 500 --cycles 10",
        ("margin", "uherding"),
    ),
)


def play(options: argparse.Namespace, display: Display) -> int:
    """Play all experiments, or those that ``--only`` names, and write the summary of what is finished. Returns 1 when
    runs failed or a data set could not be had, else 0."""
    wanted = [one for one in EXPERIMENTS if not options.only or one.name in options.only.split(",")]
    found: dict[str, Results] = {}
    missing: dict[str, str] = {}
    for one in wanted:
        display.say(f"--- {one.name}")
        try:
            found[one.name] = command.experiment(command.parse(one.arguments(options)), display)
        except DatasetUnavailable as error:
            display.fail(str(error))
            missing[one.name] = str(error)
    out: Path = options.out or FEATURES
    if not options.only:
        replace_file(out / "summary.md", summary(found, missing).encode())
        display.say(f"Written to {out}: summary.md")
    return 1 if missing or any(results.failures for results in found.values()) else 0


def summary(found: Mapping[str, Results], missing: Mapping[str, str]) -> str:
    """The page of all experiments."""
    lines = ["# A head on frozen features: all experiments", "", "`python -m benchmarks curves`", ""]
    lines += [*tables(found), *(f"\n{name} is missing: {words}" for name, words in missing.items())]
    return "\n".join(lines) + "\n"


def stored(folder: Path = FEATURES) -> dict[str, Results]:
    """The experiments of the suite whose results are in ``folder``, in their order."""
    return {one.name: Results.stored(folder / one.name) for one in EXPERIMENTS if (folder / one.name).is_dir()}


def tables(found: Mapping[str, Results], pages: str = "") -> list[str]:
    """The first order, the areas against random, and the labels saved, line by line: a column for each experiment.
    ``pages``: where the page of each is, from whoever links to it."""
    curves = {name: results.curves() for name, results in found.items()}
    first = []
    for name, results in found.items():
        for count, (own, chance, gain) in first_order_gains(results.plan, curves[name]).items():
            first.append([name, f"{count:,}", f"{100 * own:.1f}", f"{100 * chance:.1f}", points(gain)])
    gains: dict[str, dict[str, str]] = {}
    spared: dict[str, dict[str, str]] = {}
    for name, results in found.items():
        labels = results.plan.labels()
        for one in compared(labels, curves[name], at_of(labels)):
            gains.setdefault(one.arm, {})[name] = f"{signed(100 * one.gain.mean)} {one.verdict}"
            spared.setdefault(one.arm, {})[name] = saved(one.saved)
    counts = {name: sorted({len(trials) for trials in of.values()}) for name, of in curves.items()}
    trials = ", ".join(f"{name} {'–'.join(map(str, {few[0]: 0, few[-1]: 0}))}" for name, few in counts.items() if few)
    lines = [f"Trials: {trials}. Each page has the machine, the options, and the curves.", ""]
    lines += ["### The first order against a random one", ""]
    lines += markdown(["", "labels", "first order, %", "random, %", "difference, points"], first)
    lines += ["", "### Area under the curve less random's, points", ""]
    lines += _crossed(gains, list(found), pages)
    lines += ["", "+ and −: by Wilcoxon's signed-rank test with Holm's correction at 5 %; ~: neither.", ""]
    lines += ["### Labels saved for random's accuracy at 400 labels, or at the last", ""]
    lines += _crossed(spared, list(found), pages)
    return [*lines, "", "With the 95 % interval from resampled trials."]


def _crossed(cells: Mapping[str, Mapping[str, str]], names: Sequence[str], pages: str) -> list[str]:
    rows = [[arm, *(of.get(name, "") for name in names)] for arm, of in cells.items()]
    return markdown(["", *(f"[{name}]({pages}{name}/curves.md)" for name in names)], rows)
