"""``python -m benchmarks curves``: accuracy (or mean average precision, or mean IoU) over labels, one curve for each
sampler, through the worker's own cycle.

    python -m benchmarks curves --dataset fashion-mnist --samplers all --initial 1000 --budget 1000 --cycles 5 \\
        --trials 3 --seed 0
    python -m benchmarks curves --task multilabel --dataset fashion-scenes --samplers random,margin,core-set
    python -m benchmarks curves --task segmentation --dataset fashion-scenes --samplers random,entropy,dast-al,vaal

``--cycles 5`` is five trainings: one on the initial labels and one after each of four purchases. It may be interrupted
at any instant; the same command goes on after the last finished cycle of each run.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.errors import SettingsError
from backend.settings.core import Settings
from benchmarks.curves.display import Display
from benchmarks.curves.jobs import Jobs, play_all
from benchmarks.curves.plan import DEFAULT_TASK, Plan, PlanError, Run, code_digest, overrides_of
from benchmarks.curves.report import Results, write
from benchmarks.curves.store import RunStore
from benchmarks.curves.tasks import TASKS
from benchmarks.data.datasets import DOWNLOADS, DatasetUnavailable
from benchmarks.speed.measuring import machine
from samplers import SAMPLER_NAMES, SAMPLERS

RESULTS = Path(__file__).parents[1] / "results" / "curves"


def main(arguments: Sequence[str]) -> int:
    """0 when every run is finished, 1 when some failed, 2 for options that cannot be honored, 130 after Ctrl-C."""
    options = parse(arguments)
    display = Display()
    try:
        return _main(options, display)
    except (PlanError, SettingsError, DatasetUnavailable) as error:
        display.fail(str(error))
        return 2
    except KeyboardInterrupt:
        display.say("Stopped. What is finished is kept: the same command goes on from there.")
        return 130


def _main(options: argparse.Namespace, display: Display) -> int:
    task = TASKS[options.task]
    samplers, overrides = _samplers(options.samplers, options.task), overrides_of(options.set)
    places, threads = _places(options.devices, options.jobs)
    work = options.work.expanduser()
    size = {"image_size": options.image_size} if options.image_size else {}
    common = Settings().for_project({**overrides, **size})
    with display.preparing() as report:
        folder = task.prepare(options.dataset, common.image_size, options.data, work / "images", report)
    images = task.open(folder)
    plan = Plan(
        dataset=options.dataset,
        data_digest=images.digest,
        initial=options.initial or task.labels,
        budget=options.budget or (common.budget if common.preset else task.labels),
        cycles=options.cycles,
        seed=options.seed,
        pool=options.pool,
        test=options.test,
        image_size=common.image_size,
        kind=places[0].partition(":")[0],
        overrides=overrides,
        task=options.task,
    )
    task.of(images, plan)  # raises PlanError before anything is started
    out = _output(options, plan, display)
    runs = [Run(sampler, trial) for trial in range(1, options.trials + 1) for sampler in samplers]
    kept = work / "runs" / f"{_safe(options.dataset)}-{plan.digest}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PlanError("the same experiment is running already, in another process") from None
        if options.fresh:
            for path in kept.glob("*-trial-*"):
                shutil.rmtree(path)
        waiting = _resume(kept, runs, plan, display)
        facts = machine()
        with display.running(plan, runs, waiting):
            failures = play_all(plan, waiting, Jobs(places, threads, folder, kept), display)
    results = Results.gather(plan, kept, SAMPLER_NAMES, failures)
    devices = ", ".join(sorted(set(places)))
    facts["side by side"] = f"{len(places)} runs at a time on {devices}, torch threads in each: {threads}"
    paths = write(out, results, _command(plan, results, options), images.source, facts)
    display.say(f"Written to {out}: {', '.join(path.name for path in paths)}")
    return 1 if failures else 0


def _resume(kept: Path, runs: Sequence[Run], plan: Plan, display: Display) -> list[Run]:
    """The runs that are not finished yet; says what is there already."""
    stored = {run: RunStore(kept / run.folder).lines() for run in runs}
    done = sum(len(lines) for lines in stored.values())
    if done:
        display.say(f"Going on: {done} of {len(runs) * plan.cycles} cycles are stored under these options.")
        code = {line["code"] for lines in stored.values() for line in lines}
        if code - {code_digest()}:
            display.say("They were computed by other code (models or samplers changed since): --fresh starts over.")
    else:
        others = len([path for path in kept.parent.glob("*") if path.is_dir()]) - 1
        words = f"; {others} other experiments are kept alongside" if others else ""
        display.say(f"Starting: nothing is stored under these options (experiment {plan.digest}){words}.")
    return [run for run, lines in stored.items() if len(lines) < plan.cycles]


def _output(options: argparse.Namespace, plan: Plan, display: Display) -> Path:
    """Where results go: a folder that holds those of other options is not overwritten."""
    wanted: Path = options.out or RESULTS / _safe(options.dataset)
    try:
        there = json.loads((wanted / "plan.json").read_text())
    except (OSError, ValueError):
        return wanted
    if there.get("digest") == plan.digest or options.replace:
        return wanted
    facts = json.loads(json.dumps(plan.facts()))
    differ = [key for key in {**facts, **there} if key != "digest" and facts.get(key) != there.get(key)]
    words = f"{wanted} holds the curves of other options ({', '.join(differ)})"
    if options.out:
        raise PlanError(f"{words}: choose another --out, or overwrite them with --replace")
    display.say(f"{words}; these go to {wanted.name}-{plan.digest} alongside.")
    return wanted.with_name(f"{wanted.name}-{plan.digest}")


def _command(plan: Plan, results: Results, options: argparse.Namespace) -> str:
    """The command that makes these results, from nothing."""
    names = {line["sampler"] for line in results.lines}
    every = names == set(_samplers("all", plan.task))
    samplers = "all" if every else ",".join(name for name in SAMPLER_NAMES if name in names)
    trials = max((line["trial"] for line in results.lines), default=options.trials)
    words = ["python", "-m", "benchmarks", "curves", *(["--task", plan.task] if plan.task != DEFAULT_TASK else [])]
    words += ["--dataset", plan.dataset, "--samplers", samplers]
    given: dict[str, Any] = {"initial": plan.initial, "budget": plan.budget, "cycles": plan.cycles, "trials": trials}
    given |= {"seed": plan.seed}
    given |= {key: value for key in ("pool", "test") if (value := getattr(plan, key))}
    given |= {"image-size": options.image_size} if options.image_size else {}
    for key, value in given.items():
        words += [f"--{key}", str(value)]
    for key, value in plan.overrides.items():
        words += ["--set", f"{key}={json.dumps(value) if isinstance(value, bool) else value}"]
    return shlex.join(words)


def _samplers(text: str, task: str) -> list[str]:
    """Names as in the settings, without doubles and in the order of the table; all: those for ``task``. Raises
    PlanError."""
    able = {name for name, sampler in SAMPLERS.items() if task in sampler.tasks}
    if others := sorted({name.strip() for name in text.split(",")} & (SAMPLERS.keys() - able)):
        raise PlanError(f"not for {task}: {'; '.join(f'{name}, {SAMPLERS[name].refusals[task]}' for name in others)}")
    names = [name for name in SAMPLER_NAMES if name in able]
    wanted = set(names) if text == "all" else {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(wanted - set(names)):
        raise PlanError(f"unknown sampler {', '.join(unknown)}: choose of {', '.join(names)}, or all")
    if not wanted:
        raise PlanError(f"--samplers names none: choose of {', '.join(names)}, or all")
    return [name for name in names if name in wanted]


def _places(devices: str, jobs: int) -> tuple[list[str], int]:
    """A device for each run that is under way at a time, and torch's threads in each. Raises PlanError."""
    import torch  # here: --help does without

    cores = len(os.sched_getaffinity(0))
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    named = [name.strip() for name in devices.split(",") if name.strip()] or found or ["cpu"]
    named = ["cuda:0" if name == "cuda" else name for name in named]
    for name in named:
        if name != "cpu" and name not in found:
            raise PlanError(f"there is no device {name} here: choose of {', '.join(['cpu', *found])}")
    if len({name.partition(":")[0] for name in named}) > 1:
        raise PlanError("--devices mixes cpu and cuda, whose default sizes differ: name one kind")
    jobs = jobs or (cores if named == ["cpu"] else len(named))
    return [named[index % len(named)] for index in range(jobs)], max(1, cores // jobs)


def _safe(dataset: str) -> str:
    """A folder's name for a data set that may be a path."""
    return re.sub(r"[^\w.-]+", "-", Path(dataset).name) or "folder"


def _count(low: int) -> Any:
    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"at least {low}, not {value}")
        return value

    return number


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--task", choices=tuple(TASKS), default=DEFAULT_TASK, help="default: %(default)s")
    datasets = "; ".join(f"for {name}: {task.datasets}" for name, task in TASKS.items())
    add("--dataset", required=True, help=datasets)
    add("--samplers", default="all", metavar="A,B", help="names as in the settings, or all")
    many = ", ".join(f"for {name} {task.labels}" for name, task in TASKS.items())
    add("--initial", type=_count(1), default=0, help=f"labels before the first purchase, at random (default: {many})")
    add("--budget", type=_count(1), default=0, help=f"labels in a purchase (default: the preset's, else {many})")
    add("--cycles", type=_count(1), default=5, help="trainings, so one more than purchases")
    add("--trials", type=_count(1), default=3, help="repetitions with other seeds")
    add("--seed", type=_count(0), default=0)
    add("--pool", type=_count(0), default=0, metavar="N", help="a random part of the training images; 0: all")
    add("--test", type=_count(0), default=0, metavar="N", help="a random part of the test images; 0: all")
    add("--image-size", type=_count(0), default=0, metavar="PX", help="0: the data set's own; of masks the longer side")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of a project, also preset")
    add("--data", type=Path, default=DOWNLOADS, metavar="DIR", help="torchvision's files (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="results (default: benchmarks/results/curves/DATASET)")
    add("--work", type=Path, default=DOWNLOADS / "curves", metavar="DIR", help="pixels and checkpoints")
    add("--devices", default="", metavar="A,B", help="cpu, cuda:0 …; default: every CUDA device, else cpu")
    add("--jobs", type=_count(0), default=0, help="runs at a time; 0: one per CUDA device, on a CPU one per core")
    add("--fresh", action="store_true", help="forget what is stored under these options")
    add("--replace", action="store_true", help="overwrite the results of other options in the output folder")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
