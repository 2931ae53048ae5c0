"""``python -m benchmarks papers``: lists the tables and figures of the papers; with the name of one, makes it.

    python -m benchmarks papers
    python -m benchmarks papers dast-al-table-1 --scale small

``small`` is for two CPU cores, some minutes for each arm, with data that can be had offline; ``paper`` has the
paper's own data and sizes, for a GPU. Results go to benchmarks/results/papers, from which docs/papers.md is generated.
It may be interrupted at any instant; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.errors import SettingsError
from benchmarks.curves.display import Display
from benchmarks.curves.plan import PlanError
from benchmarks.data.datasets import DOWNLOADS, DatasetUnavailable
from benchmarks.papers import dast_al, dropout, slides, ta_vaal, vaal
from benchmarks.papers.study import SCALES, Outcome, Places, Study
from models.files import replace_file

PAPERS = (vaal, ta_vaal, dast_al, slides, dropout)
STUDIES: dict[str, Study] = {study.name: study for paper in PAPERS for study in paper.STUDIES}
RESULTS = Path(__file__).parents[1] / "results" / "papers"


def main(arguments: Sequence[str]) -> int:
    """0 when it was made, 2 for options that cannot be honored, 130 after Ctrl-C."""
    options, display = parse(arguments), Display()
    if not options.name:
        for line in listed():
            display.say(line)
        return 0
    places = Places(options.data, options.work.expanduser(), options.devices, options.jobs, options.seed, options.out)
    study, began = STUDIES[options.name], time.monotonic()
    try:
        outcome = study.make(options.scale, places, display)
    except (PlanError, SettingsError, DatasetUnavailable) as error:
        display.fail(str(error))
        return 2
    except KeyboardInterrupt:
        display.say("Stopped. What is finished is kept: the same command goes on from there.")
        return 130
    path = result_path(study.name, options.scale, options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    words = f"python -m benchmarks papers {study.name} --scale {options.scale}"
    words += f" --seed {options.seed}" if options.seed else ""
    saved: dict[str, Any] = {"command": words, **outcome.to_dict()}
    replace_file(path, (json.dumps(saved, indent=1, ensure_ascii=False) + "\n").encode())
    for line in table(outcome):
        display.say(line)
    display.say(
        f"{time.monotonic() - began:.0f} s. Written to {path}; `python -m tests.docs.generate` puts it into the docs."
    )
    return 0


def listed() -> list[str]:
    """A line for each study, and which scales have a committed result."""
    width = max(map(len, STUDIES))
    lines = [f"{'':{width}}  has results at", f"{'name':{width}}  {' '.join(SCALES)}  what it shows"]
    for name, study in STUDIES.items():
        there = " ".join(("yes" if result_path(name, scale).exists() else "").ljust(len(scale)) for scale in SCALES)
        lines.append(f"{name:{width}}  {there}  {study.paper}: {study.part}")
    return lines


def result_path(name: str, scale: str, folder: Path = RESULTS) -> Path:
    return folder / f"{name}-{scale}.json"


def saved_outcome(name: str, scale: str) -> tuple[str, Outcome] | None:
    """The command and the outcome that are committed, or None."""
    path = result_path(name, scale)
    if not path.exists():
        return None
    saved = json.loads(path.read_text())
    return saved.pop("command"), Outcome.of(saved)


def table(outcome: Outcome) -> list[str]:
    """The table in Markdown, line by line."""
    rows = (outcome.headings, ["---"] * len(outcome.headings), *outcome.rows)
    return ["| " + " | ".join(row) + " |" for row in rows]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks papers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("name", nargs="?", choices=tuple(STUDIES), metavar="NAME", help="of a study, as listed without one")
    add("--scale", choices=SCALES, default="small", help="default: %(default)s")
    add("--seed", type=int, default=0)
    add("--data", type=Path, default=DOWNLOADS, metavar="DIR", help="torchvision's files (default: %(default)s)")
    add("--work", type=Path, default=DOWNLOADS / "curves", metavar="DIR", help="pixels and checkpoints")
    add("--out", type=Path, default=RESULTS, metavar="DIR", help="results (default: benchmarks/results/papers)")
    add("--devices", default="", metavar="A,B", help="cpu, cuda:0 …; default: every CUDA device, else cpu")
    add("--jobs", type=int, default=0, help="runs at a time; 0: one per CUDA device, on a CPU one per core")
    return parser.parse_args(arguments)
