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

from backend.errors import BackendError, NoLabels, Stopped
from backend.images.cache import ImageCache
from backend.learning.checkpoints import keep_masks, last_learner, save_learner
from backend.learning.learner import Learner, cycle_seed, random_subset
from backend.learning.scores import join_published, to_published
from backend.settings.core import Settings
from backend.state import Version
from backend.tasks.segmentation.mask_cache import open_masks
from backend.worker import publisher
from backend.worker.job import Job, Progress, Reporter
from backend.worker.sync import Truth, open_images, read_truth
from models.data import CycleData, Runtime
from models.geometry.k_center import spread_order
from samplers import SAMPLERS

log = logging.getLogger(__name__)

PROBLEMS_KEPT = 20
"""Of what is wrong with regions, in the history of a cycle."""


def run_cycle(job: Job) -> Version:
    """Compare with Label Studio, learn from every label there is, score the pool, publish the new order, record it all.

    Whatever happens before the version's row is committed leaves no trace but an interrupted or failed cycle, and the
    same work is due again. With that row the labels count as seen; what happens after it is resumed by
    :func:`backend.worker.publisher.publish`, without training again.

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
        labels = open_labels(job, truth, cache, report)
        data, pool = cycle_data(job, truth, cache, labels, seed)
        report("train", 0, 1)
        job.state.cycles.report(report.cycle_id, "train", 0, 1, labels=len(data.labelled))

        previous = last_learner(job) if job.settings.warm_start else None
        runtime = Runtime(device=job.device, seed=seed, progress=report)
        learner, figures = Learner.trained(job.settings, truth.spec.classes, data, runtime, previous)
        cycle.metrics.update(figures)

        report("score", 0, len(pool))
        scored = Pool.scored(learner, cache, pool, runtime) if pool else Pool.empty()
        cycle.metrics.update({"labels": len(data.labelled), "pool": len(pool), "newest_task": max(truth.sources)})
        cycle.metrics.update(facts(truth, cache, labels.problems))
        name = save_learner(job, learner, cycle.number)
        keep_masks(job, learner, cache, scored.head(job.settings, seed), name, runtime)
        version = store_version(job, name, learner, scored, cycle, truth)

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
        cycle.metrics.update(facts(truth, cache))
        digest = hashlib.sha256(repr((job.project.key, time.time_ns())).encode()).hexdigest()
        version = store_version(job, f"{job.settings.sampler}-c0-{digest[:8]}", None, scored, cycle)
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
    number = job.state.cycles.next_number(job.project.id)
    seed = cycle_seed(job.settings.seed, number)
    row = job.state.cycles.start(job.project.id, job.owner, number, job.settings.sampler, seed)
    cycle = Recorded(number, seed, Reporter(job, row))
    try:
        yield cycle
    except BaseException as error:
        _close(job, row, error)
        raise
    cycle.report.end_phase()
    cycle.metrics["seconds"] = {phase: round(spent, 3) for phase, spent in cycle.report.seconds.items()}
    job.state.cycles.finish(row, job.project.id, job.owner, status="done", metrics=cycle.metrics)


def join_new_tasks(job: Job, version: Version, truth: Truth) -> int:
    """Score the unlabelled tasks that ``version`` has not scored, with its own model, and add them to its order.

    Broken images are tried again when their time has come, whether their tasks are missing or labelled.
    """
    missing = set(truth.unlabelled) - job.state.scores.task_ids(version)
    if job.settings.subset:  # the rest of the pool was left out on purpose; only what came later joins
        missing = {task for task in missing if task > version.metrics.get("newest_task", 0)}
    now = job.state.now()
    if not missing and not any(image.retry_at <= now for image in job.state.tasks.broken_images(job.project.id)):
        return 0
    cache = open_images(job, truth, lambda phase, done, total: job.check())
    tasks = _with_image(cache, sorted(missing))
    if not tasks:
        return 0
    seed = cycle_seed(job.settings.seed, version.cycle)
    runtime = Runtime(device=job.device, seed=seed, progress=lambda phase, done, total: job.check())
    taken = np.array([answer.score for answer in job.state.scores.all(version)])
    learner = None if version.checkpoint is None else Learner.load(version.checkpoint, job.device)
    if learner is None or (learner.task, learner.frame) != (truth.spec.task, cache.frame):  # or the project changed
        scored = Pool(tasks, _by_rank(np.random.default_rng([seed, tasks[0]]).permutation(len(tasks))))
    else:
        scored = Pool.scored(learner, cache, tasks, runtime)
        keep_masks(job, learner, cache, scored.head(job.settings, seed), version.name, runtime)
    published = join_published(scored.acquisition, taken, seed)
    columns = (np.array(scored.tasks), published, scored.class_index, scored.confidence)
    job.state.scores.add(job.project.id, job.owner, version.id, *columns)
    log.info("Project %s: %d new tasks join %s", job.project.id, len(tasks), version.name)
    return len(tasks)


class Pool:
    """Scored tasks: ``tasks`` ids, ``acquisition`` (N,), and confidence (N,) where a net answered; the class index (N,)
    where it answered with a class."""

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
        index = answers.predicted if learner.task == "classification" else None
        return cls(tasks, acquisition, index, answers.confidence)

    def head(self, settings: Settings, seed: int) -> list[int]:
        """The tasks that get their answer with their score where that is large, a mask: the first ones of the order."""
        # as many as are served before the next order, and some more
        wanted = max(settings.preannotate, settings.budget + settings.shortlist)
        count = wanted if settings.preannotate else len(self.tasks)
        order = np.argsort(to_published(self.acquisition, seed))
        return [self.tasks[place] for place in order[:count]]


@dataclass(frozen=True)
class Labels:
    """What there is to learn from, of tasks whose image can be had.

    ``targets`` (L,) as :class:`models.data.CycleData` takes them: class indices, or rows of ``masks`` (K, H, W).
    ``problems``: what was drawn and cannot be used, in words for the project's owner.
    """

    tasks: list[int]
    targets: np.ndarray
    masks: np.ndarray | None = None
    problems: Sequence[str] = ()


def open_labels(job: Job, truth: Truth, cache: ImageCache, progress: Progress) -> Labels:
    """The targets of the labelled tasks; masks are drawn from their regions once, and kept.

    Raises:
        BackendError: not one can be used; says why.
    """
    tasks = _with_image(cache, list(truth.targets))
    if not tasks:
        raise BackendError("none of the labelled images can be read; `status` lists why")
    if truth.spec.task == "classification":
        classes = {name: index for index, name in enumerate(truth.spec.classes)}
        return Labels(tasks, np.array([classes[truth.targets[task]] for task in tasks], dtype=np.int64))
    kept, problems = open_masks(job, truth, cache, progress)
    rows = kept.rows(tasks)
    if not (rows >= 0).any():
        raise BackendError(": ".join(["none of the labelled images has a mask to learn from", *problems[:1]]))
    usable = [task for task, row in zip(tasks, rows.tolist(), strict=True) if row >= 0]
    return Labels(usable, rows[rows >= 0], kept.masks, problems)


def cycle_data(job: Job, truth: Truth, cache: ImageCache, labels: Labels, seed: int) -> tuple[CycleData, list[int]]:
    """Rows and targets of this cycle, and the pool: the unlabelled tasks to score, all or a random subset R."""
    pool = _with_image(cache, truth.unlabelled)
    if 0 < job.settings.subset < len(pool):
        pool = [pool[index] for index in random_subset(len(pool), job.settings.subset, seed)]
    data = CycleData(
        pixels=cache.pixels,
        labelled=cache.rows(labels.tasks),
        targets=labels.targets,
        unlabelled=cache.rows(pool),
        num_classes=len(truth.spec.classes) + (labels.masks is not None),  # of masks, 0 is the background
        masks=labels.masks,
    )
    return data, pool


def facts(truth: Truth, cache: ImageCache, problems: Sequence[str] = ()) -> dict[str, Any]:
    """What `status` tells of a cycle besides numbers."""
    found: dict[str, Any] = {"task": truth.spec.task, "frame": list(cache.frame)}
    if problems:
        found |= {"regions_unread": list(problems[:PROBLEMS_KEPT]), "regions_unread_count": len(problems)}
    return found


def store_version(
    job: Job, name: str, learner: Learner | None, scored: Pool, cycle: Recorded, learnt: Truth | None = None
) -> Version:
    """The row that points to checkpoint and masks, which are there by now; with it the truth that was ``learnt``."""
    job.check()
    return job.state.versions.add(
        job.project.id,
        job.owner,
        cycle=0 if learner is None else cycle.number,
        name=name,
        sampler=job.settings.sampler,
        checkpoint=None if learner is None else str(job.folder / "checkpoints" / f"{name}.pt"),
        classes=() if learner is None else learner.classes,
        metrics=cycle.metrics,
        task_ids=np.array(scored.tasks, dtype=np.int64),
        published=to_published(scored.acquisition, cycle.seed),
        class_index=scored.class_index,
        confidence=scored.confidence,
        seen=None if learnt is None else learnt.annotations,
        train_seen=None if learnt is None else learnt.train_seq,
    )


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
        job.state.cycles.finish(record, job.project.id, job.owner, status=status, error=words)
    except Exception as second:
        log.debug("Could not record the failure of cycle %s: %s", record, second)
