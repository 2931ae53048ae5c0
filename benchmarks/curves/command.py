"""``python -m benchmarks curves``: plays what the options say, and writes the results. See
:data:`benchmarks.curves.arguments.ABOUT`."""

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
from benchmarks.curves.arguments import parse
from benchmarks.curves.display import Display
from benchmarks.curves.jobs import Jobs, play_all
from benchmarks.curves.plan import (
    CANDIDATES,
    CONTROLS,
    DEFAULT_TASK,
    FIRST,
    Arm,
    Plan,
    PlanError,
    Run,
    code_digest,
    overrides_of,
)
from benchmarks.curves.report import Results, write
from benchmarks.curves.store import RunStore
from benchmarks.curves.tasks import TASKS
from benchmarks.curves.tasks.base import CurveTask
from benchmarks.data.datasets import DatasetUnavailable
from benchmarks.speed.measuring import machine
from models import ProgressFn
from samplers import SAMPLER_NAMES, SAMPLERS

TRIALS = 3
RESULTS = Path(__file__).parents[1] / "results" / "curves"
NO_ANSWER = "no data set has labels of the images that it generates"


def main(arguments: Sequence[str]) -> int:
    """0 when every run is finished, 1 when some failed, 2 for options that cannot be honored, 130 after Ctrl-C."""
    options, display = parse(arguments), Display()
    try:
        if not options.dataset:
            from benchmarks.curves import suite

            return suite.play(options, display)
        return 1 if experiment(options, display).failures else 0
    except (PlanError, SettingsError, DatasetUnavailable) as error:
        display.fail(str(error))
        return 2
    except KeyboardInterrupt:
        display.say("Stopped. What is finished is kept: the same command goes on from there.")
        return 130


def experiment(options: argparse.Namespace, display: Display) -> Results:
    """Play what the options say, and write the results.

    Raises:
        PlanError, SettingsError, DatasetUnavailable: the options cannot be honored.
    """
    task, trials = TASKS[options.task], options.trials or TRIALS
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
        first=options.first,
        early=options.early,
        redraw=not options.one_pool,
        bank=options.bank,
        independent=options.independent_learner,
    )
    if any(Arm.named(name).candidates for name in samplers) and not common.subset:
        raise PlanError("an arm with an @ says how a part of the pool is chosen: give its size with --set subset=N")
    tasks = [task.of(images, plan, trial) for trial in range(1, trials + 1)]  # raises PlanError
    out = _output(options, plan, display)
    runs = [Run(sampler, trial) for trial in range(1, trials + 1) for sampler in samplers]
    kept = work / "runs" / f"{_safe(options.dataset)}-{plan.digest}"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PlanError("the same experiment is running already, in another process") from None
        if options.fresh:
            _empty(kept)
        waiting = _resume(kept, runs, plan, display)
        facts = machine()
        with display.preparing() as report:
            frozen = embedded(tasks, plan, folder.parent, places[0], report)
        threads = 1 if frozen else threads  # a head is too small to share
        with display.running(plan, runs, waiting):
            failures = play_all(plan, waiting, Jobs(places, threads, folder, kept, frozen or options.together), display)
    results = Results.gather(plan, kept, arms(SAMPLER_NAMES), failures)
    devices = ", ".join(sorted(set(places)))
    facts["side by side"] = f"{len(places)} runs at a time on {devices}, torch threads in each: {threads}"
    paths = write(out, results, _command(plan, results, options), images.source, facts)
    display.say(f"Written to {out}: {', '.join(path.name for path in paths)}")
    return results


def embedded(tasks: Sequence[CurveTask[Any]], plan: Plan, folder: Path, place: str, report: ProgressFn) -> bool:
    """Embed all images that the trials use, where the plan's network is a head on a frozen backbone, and say whether it
    is."""
    import torch

    from benchmarks.curves.features import embed, kept_of

    embed(tasks, plan, folder, torch.device(place), report)
    return kept_of(tasks[0], plan, folder, torch.device(place)).train is not None


def _empty(kept: Path) -> None:
    """Remove all that is kept of an experiment, but its lock."""
    for path in kept.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def _resume(kept: Path, runs: Sequence[Run], plan: Plan, display: Display) -> list[Run]:
    """The runs that are not finished yet; says what is there already."""
    stored = {run: RunStore(kept / run.folder).lines() for run in runs}
    done = sum(len(lines) for lines in stored.values())
    if done:
        display.say(f"Going on: {done} of {len(runs) * plan.trainings} cycles are stored under these options.")
        code = {line["code"] for lines in stored.values() for line in lines}
        if code - {code_digest()}:
            display.say("They were computed by other code (models or samplers changed since): --fresh starts over.")
    else:
        others = len([path for path in kept.parent.glob("*") if path.is_dir()]) - 1
        words = f"; {others} other experiments are kept alongside" if others else ""
        display.say(f"Starting: nothing is stored under these options (experiment {plan.digest}){words}.")
    return [run for run, lines in stored.items() if len(lines) < plan.trainings]


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
    samplers = "all" if every else ",".join(name for name in arms(SAMPLER_NAMES) if name in names)
    trials = max((line["trial"] for line in results.lines), default=options.trials or TRIALS)
    words = ["python", "-m", "benchmarks", "curves", *(["--task", plan.task] if plan.task != DEFAULT_TASK else [])]
    words += ["--dataset", plan.dataset, "--samplers", samplers]
    given: dict[str, Any] = {"initial": plan.initial, "budget": plan.budget, "cycles": plan.cycles, "trials": trials}
    given |= {"seed": plan.seed}
    given |= {key: value for key in ("bank", "pool", "test") if (value := getattr(plan, key))}
    given |= {"early": ",".join(map(str, plan.early))} if plan.early else {}
    given |= {"first": plan.first} if plan.first == "chance" else {}
    given |= {"image-size": options.image_size} if options.image_size else {}
    for key, value in given.items():
        words += [f"--{key}", str(value)]
    words += [] if plan.redraw else ["--one-pool"]
    words += ["--independent-learner"] if plan.independent else []
    for key, value in plan.overrides.items():
        words += ["--set", f"{key}={json.dumps(value) if isinstance(value, bool) else value}"]
    return shlex.join(words)


def _samplers(text: str, task: str) -> list[str]:
    """Names of arms, without doubles and in the order of the table; all: the samplers for ``task`` that ask for images
    of the pool alone. Raises PlanError."""
    able = {
        name
        for name, sampler in SAMPLERS.items()
        if task in sampler.tasks and (TASKS[task].recognizes or not sampler.generates)
    }
    asked = {name.strip() for name in text.split(",") if name.strip()}
    if others := sorted({Arm.named(name).sampler for name in asked} & (SAMPLERS.keys() - able)):
        reasons = {name: SAMPLERS[name].refusals.get(task, NO_ANSWER) for name in others}
        raise PlanError(f"not for {task}: {'; '.join(f'{name}, {reason}' for name, reason in reasons.items())}")
    if others := sorted(asked & set(CONTROLS) - set(TASKS[task].controls)):
        raise PlanError(f"not for {task}: {', '.join(others)}")
    names = [name for name in SAMPLER_NAMES if name in able]
    wanted = {name for name in names if not SAMPLERS[name].generates} if text == "all" else asked
    if unknown := sorted(wanted - set(arms(names))):
        raise PlanError(f"unknown sampler {', '.join(unknown)}: choose of {', '.join(names)}, or all")
    if not wanted:
        raise PlanError(f"--samplers names none: choose of {', '.join(names)}, or all")
    return [name for name in arms(names) if name in wanted]


def arms(names: Sequence[str]) -> tuple[str, ...]:
    """Every arm with a sampler of ``names``, in the order in which they are listed."""
    kinds = ("{}", *(f"{first}+{{}}" for first in FIRST), *(f"{{}}@{candidates}" for candidates in CANDIDATES))
    return (*CONTROLS, *(kind.format(name) for name in names for kind in kinds))


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
