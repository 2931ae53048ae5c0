"""One cycle, from Label Studio's annotations to Label Studio's queue. Read :func:`run_cycle` first: it is the whole
story."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from backend import publisher
from backend.errors import BackendError, NoLabels, Stopped
from backend.images import ImageCache
from backend.job import Job, Reporter
from backend.learner import Learner, cycle_seed, random_subset
from backend.scores import join_published, to_published
from backend.state import Version
from backend.truth import Truth, open_images, read_truth
from models.data import CycleData, Runtime
from models.kcenter import spread_order
from samplers import SAMPLERS

log = logging.getLogger(__name__)


def run_cycle(job: Job) -> Version:
    """Compare with Label Studio, learn from every label there is, score the pool, publish the new order, record it all.

    Whatever happens before the version's row is committed leaves no trace but an interrupted or failed cycle, and the
    same work is due again. With that row the labels count as seen; what happens after it is resumed by
    :func:`backend.publisher.publish`, without training again.

    Raises:
        OwnerError: the owner has to act (no labels yet, label config, key).
        LabelStudioUnavailable, LeaseLost, …: see :mod:`backend.errors`.
    """
    with recorded(job) as cycle:
        report, seed = cycle.report, cycle.seed
        report("read", 0, 1)
        truth = read_truth(job, every_task=True)
        if not truth.targets:
            raise NoLabels("There are no labels to learn from yet: label a few tasks first.")
        cache = open_images(job, truth, report)
        data, pool = cycle_data(job, truth, cache, seed)
        report("train", 0, 1)
        job.state.report(report.cycle_id, "train", 0, 1, labels=len(data.labelled))

        previous = last_learner(job) if job.settings.warm_start else None
        runtime = Runtime(device=job.device, seed=seed, progress=report)
        learner, figures = Learner.trained(job.settings, truth.spec.classes, data, runtime, previous)
        cycle.metrics.update(figures)

        report("score", 0, len(pool))
        scored = Pool.scored(learner, cache, pool, runtime) if pool else Pool.empty()
        cycle.metrics.update({"labels": len(data.labelled), "pool": len(pool), "newest_task": max(truth.sources)})
        version = store_version(job, learner, scored, cycle.number, seed, cycle.metrics, truth)

        report("publish", 0, len(pool))
        version = publisher.publish(job, version, lambda done, total: report("publish", done, total))
    log.info("Project %s: version %s is published: %s", job.project.id, version.name, cycle.metrics["seconds"])
    return version


def cold_start(job: Job, truth: Truth) -> Version:
    """The first order, before anything is learnt: images far from each other first, or chance where there are none."""
    with recorded(job) as cycle:
        report, seed = cycle.report, cycle.seed
        report("images", 0, 1)
        cache = open_images(job, truth, report)
        pool = _with_image(cache, truth.unlabelled)
        report("score", 0, len(pool))
        rows, labelled = cache.rows(pool), _rows_with_image(cache, list(truth.targets))
        runtime = Runtime(device=job.device, seed=seed, progress=report)
        if pool and SAMPLERS[job.settings.sampler].spreads_first:
            rank = spread_order(cache.pixels, rows, labelled, runtime)
        else:
            rank = np.random.default_rng(seed).permutation(len(pool))
        scored = Pool(pool, _by_rank(rank))
        cycle.metrics.update({"pool": len(pool), "newest_task": max(truth.sources, default=0)})
        version = store_version(job, None, scored, 0, seed, cycle.metrics)
        report("publish", 0, len(pool))
        return publisher.publish(job, version, lambda done, total: report("publish", done, total))


@dataclass(frozen=True)
class Recorded:
    """A cycle's row in the history: its number, the seed made from that, and the figures to keep."""

    number: int
    seed: int
    report: Reporter
    metrics: dict[str, Any] = field(default_factory=dict)


@contextmanager
def recorded(job: Job) -> Iterator[Recorded]:
    """Keep the history of what is done inside, whichever way it ends: done with its figures, failed, or interrupted."""
    number = job.state.next_cycle_number(job.project.id)
    seed = cycle_seed(job.settings.seed, number)
    row = job.state.start_cycle(job.project.id, job.owner, number, job.settings.sampler, seed)
    cycle = Recorded(number, seed, Reporter(job, row))
    try:
        yield cycle
    except BaseException as error:
        _close(job, row, error)
        raise
    cycle.report.end_phase()
    cycle.metrics["seconds"] = {phase: round(spent, 3) for phase, spent in cycle.report.seconds.items()}
    job.state.finish_cycle(row, job.project.id, job.owner, status="done", metrics=cycle.metrics)


def join_new_tasks(job: Job, version: Version, truth: Truth) -> int:
    """Score the unlabelled tasks that ``version`` has not scored, with its own model, and add them to its order.

    Broken images are tried again when their time has come, whether their tasks are missing or labelled.
    """
    missing = set(truth.unlabelled) - job.state.scored_task_ids(version)
    if job.settings.subset:  # the rest of the pool was left out on purpose; only what came later joins
        missing = {task for task in missing if task > version.metrics.get("newest_task", 0)}
    now = job.state.now()
    if not missing and not any(image.retry_at <= now for image in job.state.broken_images(job.project.id)):
        return 0
    cache = open_images(job, truth, lambda phase, done, total: job.check())
    tasks = _with_image(cache, sorted(missing))
    if not tasks:
        return 0
    seed = cycle_seed(job.settings.seed, version.cycle)
    runtime = Runtime(device=job.device, seed=seed, progress=lambda phase, done, total: job.check())
    taken = np.array([answer.score for answer in job.state.all_scores(version)])
    if version.checkpoint is None:
        scored = Pool(tasks, _by_rank(np.random.default_rng([seed, tasks[0]]).permutation(len(tasks))))
    else:
        scored = Pool.scored(Learner.load(version.checkpoint, job.device), cache, tasks, runtime)
    published = join_published(scored.acquisition, taken, seed)
    columns = (np.array(scored.tasks), published, scored.class_index, scored.confidence)
    job.state.add_scores(job.project.id, job.owner, version.id, *columns)
    log.info("Project %s: %d new tasks join %s", job.project.id, len(tasks), version.name)
    return len(tasks)


class Pool:
    """Scored tasks: ``tasks`` ids, ``acquisition`` (N,), and class index and confidence (N,) where a net answered."""

    def __init__(
        self,
        tasks: Sequence[int],
        acquisition: np.ndarray,
        class_index: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
    ) -> None:
        self.tasks, self.acquisition = list(tasks), acquisition
        self.class_index, self.confidence = class_index, confidence

    @classmethod
    def empty(cls) -> Pool:
        return cls([], np.empty(0))

    @classmethod
    def scored(cls, learner: Learner, cache: ImageCache, tasks: Sequence[int], runtime: Runtime) -> Pool:
        acquisition, answers = learner.score(cache.pixels, cache.rows(tasks), runtime)
        return cls(tasks, acquisition, answers.predicted, answers.confidence)


def cycle_data(job: Job, truth: Truth, cache: ImageCache, seed: int) -> tuple[CycleData, list[int]]:
    """Rows and targets of this cycle, and the pool: the unlabelled tasks to score, all or a random subset R."""
    classes = {name: index for index, name in enumerate(truth.spec.classes)}
    labelled = _with_image(cache, list(truth.targets))
    if not labelled:
        raise BackendError("none of the labelled images can be read; `status` lists why")
    pool = _with_image(cache, truth.unlabelled)
    if 0 < job.settings.subset < len(pool):
        pool = [pool[index] for index in random_subset(len(pool), job.settings.subset, seed)]
    data = CycleData(
        pixels=cache.pixels,
        labelled=cache.rows(labelled),
        targets=np.array([classes[truth.targets[task]] for task in labelled], dtype=np.int64),
        unlabelled=cache.rows(pool),
        num_classes=len(classes),
    )
    return data, pool


def store_version(
    job: Job,
    learner: Learner | None,
    scored: Pool,
    cycle: int,
    seed: int,
    metrics: dict[str, Any],
    learnt: Truth | None = None,
) -> Version:
    """Checkpoint first, atomically; then the row that points to it, and with it the truth that was ``learnt``."""
    folder = job.folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = None
    if learner is None:
        digest = hashlib.sha256(repr((job.project.key, time.time_ns())).encode()).hexdigest()
    else:
        draft = folder / f"cycle-{cycle}.draft"
        digest = learner.save(draft)
    name = f"{job.settings.sampler}-c{cycle}-{digest[:8]}"
    if learner is not None:
        path = draft.replace(folder / f"{name}.pt")
    job.check()
    return job.state.add_version(
        job.project.id,
        job.owner,
        cycle=cycle,
        name=name,
        sampler=job.settings.sampler,
        checkpoint=None if path is None else str(path),
        classes=() if learner is None else learner.classes,
        metrics=metrics,
        task_ids=np.array(scored.tasks, dtype=np.int64),
        published=to_published(scored.acquisition, seed),
        class_index=scored.class_index,
        confidence=scored.confidence,
        seen=None if learnt is None else learnt.annotations,
        train_seen=None if learnt is None else learnt.train_seq,
    )


def sweep_checkpoints(job: Job) -> None:
    """Delete checkpoints that no version points to: of cycles that were killed before their version's row was in, and
    of removed versions. Safe because whoever holds the lease is the only one who writes them."""
    wanted = {f"{version.name}.pt" for version in job.state.versions(job.project.id) if version.status != "removed"}
    for path in (job.folder / "checkpoints").glob("*"):
        if path.name not in wanted:
            log.info("Project %s: deleting %s, left over from a cycle that was cut off", job.project.id, path.name)
            path.unlink(missing_ok=True)


def last_learner(job: Job) -> Learner | None:
    """The model of the newest version that has one, for a warm start; None when it cannot be read any more."""
    for version in job.state.versions(job.project.id):
        if version.checkpoint:
            try:
                return Learner.load(version.checkpoint, job.device)
            except BackendError as error:
                log.warning("Project %s: training from scratch, %s", job.project.id, error)
                return None
    return None


def load_answerer(version: Version, device: str = "cpu") -> Learner:
    """The model of ``version``, to :meth:`~backend.learner.Learner.answer` for tasks that it has not scored.

    Raises:
        BackendError: a cold-start version has no model, or its checkpoint cannot be read.
    """
    if version.checkpoint is None:
        raise BackendError(f"{version.name} was made before any label and has no model")
    return Learner.load(version.checkpoint, torch.device(device))


def _by_rank(rank: np.ndarray) -> np.ndarray:
    """Acquisition (N,) whose published scores are evenly spaced in (0, 1) by ``rank`` (N,), 0 = first."""
    share = (rank + 0.5) / max(1, len(rank))
    return np.log1p(-share) - np.log(share)


def _with_image(cache: ImageCache, tasks: Sequence[int]) -> list[int]:
    rows = cache.rows(tasks)
    return [task for task, row in zip(tasks, rows.tolist(), strict=True) if row >= 0]


def _rows_with_image(cache: ImageCache, tasks: Sequence[int]) -> np.ndarray:
    rows = cache.rows(tasks)
    return rows[rows >= 0]


def _close(job: Job, record: int, error: BaseException) -> None:
    """Record why a cycle ended early; when even that fails the next lease marks it interrupted."""
    words = str(error) if isinstance(error, BackendError) else f"{type(error).__name__}: {error}"
    status = "interrupted" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
    try:
        job.state.finish_cycle(record, job.project.id, job.owner, status=status, error=words)
    except Exception as second:
        log.debug("Could not record the failure of cycle %s: %s", record, second)
