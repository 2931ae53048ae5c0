"""One run: a sampler in a trial, cycle after cycle, with the data set's labels in place of an annotator.

Training, scoring and the order of the queue are the worker's own code: :meth:`Learner.trained`, :meth:`Learner.score`
and :func:`priority_scores`.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from backend.learning.candidates import Candidates, asks_network
from backend.learning.learner import Learner, cycle_seed
from backend.learning.scores import priority_scores
from backend.settings.core import Settings
from benchmarks.curves import generated
from benchmarks.curves.answers import Answers
from benchmarks.curves.foreground import foreground_first, predicted_shares
from benchmarks.curves.plan import Plan, Run, chance_order, code_digest, trial_seed
from benchmarks.curves.prepared import prepared_for
from benchmarks.curves.store import Line, RunStore
from benchmarks.curves.tasks.base import CurveTask
from benchmarks.speed.memory import status_bytes
from models.data import SCORE_DTYPES, CycleData, Runtime
from models.files import replace_file
from models.geometry.herding import herding_order
from models.geometry.k_center import thumbnails

Progress = Callable[[int, str, int, int], None]
"""(cycle, counted from 1, phase, done, total)"""


def play(
    task: CurveTask[Any], plan: Plan, run: Run, folder: Path, device: torch.device, progress: Progress
) -> list[Line]:
    """Play the cycles of ``run`` that ``folder`` does not hold yet; returns the lines of all cycles."""
    store = RunStore(folder)
    with store.held():
        settings = plan.settings(run)
        for cycle in range(len(store.lines()) + 1, plan.trainings + 1):
            if run.arm.pixels:
                _play_control(task, plan, run, store, cycle)
            else:
                _play_cycle(task, plan, run, store, settings, cycle, device, progress)
        return store.lines()


def _play_cycle(
    task: CurveTask[Any],
    plan: Plan,
    run: Run,
    store: RunStore,
    settings: Settings,
    cycle: int,
    device: torch.device,
    progress: Progress,
) -> None:
    """Train on what is labeled, test, and buy labels for the next cycle, unless this is the last."""
    last, buys = cycle == plan.trainings, len(plan.early) < cycle < plan.trainings
    seed = cycle_seed(settings.seed, cycle)
    runtime = Runtime(
        device,
        seed,
        lambda phase, done, total: progress(cycle, phase, done, total),
        score_dtype=SCORE_DTYPES[settings.score_dtype],
        features=task.kept.train,
        prepared=prepared_for(task, plan, settings, store.folder.parents[2] / "prepared", device),
    )
    answers = Answers.none()
    if cycle > len(plan.early) + 1:
        labeled, answers = store.labeled(cycle - 1), store.answers(cycle - 1)
        kept = settings.warm_start or asks_network(settings)
        previous = Learner.load(store.checkpoint(cycle - 1), device) if kept else None
    else:
        order = first_labels(task, plan, run, store.folder.parent, device)
        labeled, previous = np.sort(order[: plan.labels()[cycle - 1]]), None
    _check_conservation(task.pool, labeled, plan.labels()[cycle - 1] - len(answers))
    unlabeled = np.setdiff1d(task.pool, labeled, assume_unique=True)
    if 0 < settings.subset < len(unlabeled):
        candidates = Candidates(settings, previous, task.pixels, labeled, runtime)
        unlabeled = unlabeled[candidates.of(unlabeled, settings.subset)]
    data, learning, answered = generated.with_answers(task.data(labeled, unlabeled), runtime, answers)
    clock = _Clock(device)
    learner, metrics = Learner.trained(settings, task.classes, data, learning, previous)
    trained = metrics["train_seconds"] + metrics.get("train_rehearsal_seconds", 0.0)
    seconds = {"train": trained, "fit": max(0.0, clock.lap() - trained)}
    judged = task.judged(learner if not plan.independent else alone(learner, settings, data, learning), runtime)
    clock.lap()
    if buys:
        acquisition, predictions = learner.score(task.pixels, unlabeled, runtime)
        if run.arm.foreground:
            acquisition = foreground_first(acquisition, predicted_shares(learner.net, task.pixels, unlabeled, runtime))
        seconds["score"] = clock.lap()
        queue = np.argsort(priority_scores(acquisition, seed))  # Label Studio serves the lowest score first
        asked = generated.ask(task, learner, settings, plan.budget, data.pixels, answered, learning)
        seconds["score"] += clock.lap()
        picks = unlabeled[queue[: plan.budget - len(asked)]]
        judged |= task.bought(picks, labeled, unlabeled, predictions.predicted)
        store.keep_labeled(cycle, np.sort(np.concatenate([labeled, picks])), answers.and_then(asked))
        if settings.warm_start or asks_network(settings):
            learner.save(store.checkpoint(cycle))
    line = {"sampler": run.sampler, "trial": run.trial, "cycle": cycle, "labels": len(labeled) + len(answers)}
    line |= {**judged, **answers.counts(), **{f"{phase}_seconds": round(spent, 3) for phase, spent in seconds.items()}}
    line |= {"epochs": round(metrics["train_epochs"], 2), "extra_mib": round(extra_bytes(learner) / 2**20, 4)}
    store.finish_cycle(line | _peaks(device) | {"code": code_digest()}, last)


def alone(learner: Learner, settings: Settings, data: CycleData, runtime: Runtime) -> Learner:
    """A learner of the same labels whose task network trains without anything of the sampler's, from scratch: what the
    chosen images are worth to it (TA-VAAL, supplement, section 2)."""
    plain = replace(settings, sampler="random", warm_start=False)
    return Learner.trained(plain, learner.classes, data, runtime)[0]


def extra_bytes(learner: Learner) -> int:
    """What the sampler keeps besides the task network."""
    leaves = tree_leaves(learner.sampler.state_dict())
    return sum(one.numel() * one.element_size() for one in leaves if isinstance(one, torch.Tensor))


def first_labels(task: CurveTask[Any], plan: Plan, run: Run, runs: Path, device: torch.device) -> np.ndarray:
    """Rows (I,) of the pool that are labeled before any purchase, in their order: the same for all arms of a trial that
    begin alike. ``runs``: the folder that the product's own order of a trial is kept in."""
    seed = trial_seed(plan.seed, run.trial)
    if run.arm.first_order(plan) == "chance":
        return chance_order(task.pool, plan.initial, seed)
    kept = runs / f"first-order-{run.trial}.npy"
    if not kept.exists():
        runtime = Runtime(device, seed)
        if task.kept.train is None:
            points = thumbnails(task.pixels, task.pool, runtime).cpu().numpy()
        else:
            points = task.kept.train[task.pool, : task.kept.width]
        file = io.BytesIO()
        np.save(file, task.pool[np.argsort(herding_order(points, 0, runtime))][: plan.initial])
        runs.mkdir(parents=True, exist_ok=True)
        replace_file(kept, file.getvalue())
    rows: np.ndarray = np.load(kept)
    return rows


def _play_control(task: CurveTask[Any], plan: Plan, run: Run, store: RunStore, cycle: int) -> None:
    """The same as :func:`_play_cycle` for a classifier of raw pixels, on labels chosen by chance: the first are
    those of all arms that begin by chance."""
    seed, counts = trial_seed(plan.seed, run.trial), plan.labels()
    first = chance_order(task.pool, plan.initial, seed)
    later = chance_order(np.setdiff1d(task.pool, first), counts[-1] - len(first), seed)
    labeled = np.concatenate([first, later])[: counts[cycle - 1]]
    _check_conservation(task.pool, labeled, counts[cycle - 1])
    started = time.perf_counter()
    line = {"sampler": run.sampler, "trial": run.trial, "cycle": cycle, "labels": len(labeled)}
    line |= task.judged_on_pixels(labeled)
    line |= {"train_seconds": round(time.perf_counter() - started, 3), "fit_seconds": 0.0, "epochs": 0}
    line |= {**_peaks(torch.device("cpu")), "code": code_digest()}
    store.finish_cycle(line, cycle == plan.trainings)


def _check_conservation(pool: np.ndarray, labeled: np.ndarray, count: int) -> None:
    """L has as many rows as were paid for, none of them twice and all of them from the pool: so |L| + |U| = N."""
    if len(labeled) != count or len(np.unique(labeled)) != count or not np.isin(labeled, pool).all():
        raise AssertionError(f"{len(np.unique(labeled))} of {count} labeled rows are different ones of the pool")


def _peaks(device: torch.device) -> dict[str, float]:
    """Peak memory of this process in MiB; a process plays one run, or the rest of one."""
    device_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"peak_rss_mib": round(status_bytes("VmHWM") / 2**20, 1), "peak_cuda_mib": round(device_bytes / 2**20, 1)}


class _Clock:
    """Wall-clock seconds between laps, each from an idle device to an idle device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._at = self._now()

    def lap(self) -> float:
        before, self._at = self._at, self._now()
        return self._at - before

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
