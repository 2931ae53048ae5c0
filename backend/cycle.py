"""One cycle, from the annotations in Label Studio to a new order of its queue. Read :func:`run_cycle` first: it is the
whole story."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from backend import joining
from backend.control import history_after
from backend.errors import BackendError, NoLabels
from backend.files import checkpoint_path, predictions_folder
from backend.head import SMALL_FIRST_ORDER
from backend.images.cache import ImageCache
from backend.learning import device_memory
from backend.learning.candidates import Candidates, asks_network
from backend.learning.checkpoints import last_learner, save_learner
from backend.learning.control_figures import control_figures
from backend.learning.control_order import with_drawn
from backend.learning.doubts import judged_figures
from backend.learning.features import Features
from backend.learning.first_order import first_order
from backend.learning.health import checked
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool, predicted_shares
from backend.learning.preparation import ready_state
from backend.learning.relabeling import relabeling_figures
from backend.reporting import outlook
from backend.settings.core import Settings
from backend.state import Version
from backend.tasks.records import TrainingLabels
from backend.worker import asking, connection, publisher, storing, synthetic
from backend.worker.features import open_features
from backend.worker.images import open_images
from backend.worker.job import Job
from backend.worker.mapping import draw_first_map, draw_map
from backend.worker.recording import CycleRecord, recorded
from backend.worker.sync import read_truth
from backend.worker.topping_up import kept_full
from backend.worker.training_labels import held_out_labels, training_labels
from backend.worker.truth import Truth
from models.data import SCORE_DTYPES, CycleData, Runtime
from samplers import SAMPLERS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PROBLEMS_KEPT = 20
"""How many of the problems with annotated regions are kept in the history of a cycle."""

LONGEST_SAMPLE_SECONDS = 30.0
"""How long to go on before the first order where so few images arrive that it would be rebuilt soon."""

SAMPLE_SECONDS, CYCLE_SECONDS = 5.0, 20.0
"""How long images of unlabeled tasks are waited for, before the first order and in each cycle. Those that are missing
then join the order later."""

FIRST_FEATURE_SECONDS, FEATURE_SECONDS = 15.0, 20.0
"""The same for their features."""


NO_LABELS = "There are no labels to learn from yet: label a few tasks first."
NOTHING_TO_LEARN = "All labels so far are kept out of training, to measure (control_fraction): label a few more tasks."


def run_cycle(job: Job, truth: Truth | None = None) -> Version:
    """Compare with Label Studio (unless ``truth`` was read just now), train on all labels, score the pool, publish the
    new order, and record all of this.

    A cycle that ends before its version's row is committed leaves only its record, as interrupted or failed, and the
    same work is due again. Once that row is committed, the labels count as seen, and publishing is resumed by
    :func:`backend.worker.publisher.publish` without training again.

    Raises:
        OwnerError: the owner has to act (no labels yet, label config, API key); HandsOff if the project is not ours to
            work on any more, in which case its order is published once it is.
        LabelStudioUnavailable, LeaseLost, …: see :mod:`backend.errors`.
    """
    with recorded(job) as cycle:
        report, seed = cycle.report, cycle.seed
        report("read", 0, 1)
        if truth is None:
            truth = read_truth(job)
        else:
            report.seconds["read"] = truth.seconds
        if not truth.real_to_learn:
            raise NoLabels(NOTHING_TO_LEARN if truth.labels else NO_LABELS)
        kind, settings = truth.kind, truth.kind.settings
        with kept_full(job):
            cache = open_images(job, truth, report, seconds=CYCLE_SECONDS)
            labels = training_labels(job, truth, cache, report)
            held_out = held_out_labels(job, truth, cache, report)
            features = open_features(job, truth, cache, report, FEATURE_SECONDS)
            with job.turn() as device:
                report("train", 0, 1)
                versions = job.state.versions.of_project(job.project.id)
                wanted = settings.warm_start or asks_network(settings)
                previous = last_learner(job.folder, versions, device, cycle.metrics) if wanted else None
                runtime = runtime_of(job, settings, features, cycle, device)
                candidates = Candidates.among(features, labels.tasks, settings, previous, runtime)
                pool, drawn = candidates.of_pool(truth.unlabeled, truth.control.arm)
                data = cycle_data(cache, labels, pool, truth)
                counted = {"labels": len(data.real.labeled), "sampler": settings.sampler}
                job.state.cycles.report(report.cycle_id, "train", 0, 1, **counted)
                learner, metrics = device_memory.trained(settings, kind.classes, data, runtime, previous)
                cycle.metrics.update(metrics | judged_figures(learner, labels.tasks, data))
                if truth.control.arm.fraction:
                    order = (truth.control.chosen, truth.control.drawn)
                    cycle.metrics["control"] = control_figures(learner, cache, labels, held_out, order, runtime)
                report("score", 0, len(pool))
                scored = device_memory.scored(learner, cache, pool, runtime)
                learner, scored, cycle.metrics["health"] = checked(learner, scored, metrics, data, settings, runtime)
                others = device_memory.scored(learner, cache, drawn, runtime)
                scored = with_drawn(scored, others, truth.control.arm.fraction, seed)
                cycle.metrics["predicted"] = predicted_shares(learner, scored)
                budget = settings.budget_after(len(data.real.labeled))
                told = (labels.tasks, data, truth.answers, scored, budget)
                cycle.metrics.update(relabeling_figures(learner, *told))
                counts = {"labels": len(data.real.labeled), "pool": len(scored.tasks), "newest_task": newest(truth)}
                cycle.metrics.update(counts | facts(truth, cache, labels.problems))
                cycle.metrics.update(prospects(job, truth, cycle))
                cycle.metrics["mapped"] = draw_map(job, truth, features, learner, scored, cycle.seed)
                made = synthetic.generated(job, truth, learner, cache, runtime)
                cycle.metrics.update(synthetic.figures(truth, made))
                name = save_learner(job.folder, learner, cycle.number, publisher.names_taken(job))
                kind.keep_predictions(learner, cache, scored, predictions_folder(job.folder, name), runtime)
            storing.store_files(job)
            if made is not None:
                synthetic.plan(job, name, made)
            version = store_version(job, truth, scored, cycle, name, learner)
            joining.add_unfinished(job, version, truth, features, learner)

        standing = connection.require(job)
        report("publish", 0, len(pool))
        synthetic.ask_first(job, version)
        asking.put_in_front(job, version)
        version = publisher.publish(job, version, partial(report, "publish"), whole=False, info=standing.info)
    log.info("Project %s: version %s is published: %s", job.project.id, version.name, cycle.metrics["seconds"])
    return version


def runtime_of(job: Job, settings: Settings, features: Features, cycle: CycleRecord, device: torch.device) -> Runtime:
    """Where and how the cycle computes, with what is kept for it: features, and what was prepared between cycles."""
    dtype = SCORE_DTYPES[settings.score_dtype]
    prepared = ready_state(job.folder, device) if SAMPLERS[settings.sampler].prepares else None
    runtime = Runtime(device, cycle.seed, cycle.report, score_dtype=dtype, features=features.rows, prepared=prepared)
    return replace(runtime, index=features.neighbors, idle=job.idle, executor=job.executor)


def cold_start(job: Job, truth: Truth, *, whole: bool = False) -> Version:
    """Publish the first order, before any training: for most samplers images first that together are near to all of
    the pool; for the others a random order, which needs no image.

    An order by images is made from a sample of the pool, those that arrive in the first seconds. The others join it.
    ``whole``: see :func:`backend.worker.publisher.publish`.
    """
    with recorded(job) as cycle:
        report, sampler, arm = cycle.report, truth.kind.settings.sampler, truth.control.arm
        features = None
        job.state.cycles.report(report.cycle_id, "images", 0, 1, sampler=sampler)
        if SAMPLERS[sampler].spreads_first:
            scored, cache, features = _spread_first(job, truth, cycle)
            cycle.metrics.update(facts(truth, cache))
            if features is not None and features.kept is None:
                cycle.metrics["mapped"] = None
        else:
            drawn = arm.of(truth.unlabeled)
            scored = ScoredPool.shuffled(np.setdiff1d(truth.unlabeled, drawn), cycle.seed)
            scored = with_drawn(scored, ScoredPool.unordered(drawn), arm.fraction, cycle.seed)
            cycle.metrics["task"] = truth.kind.name
        cycle.metrics.update({"pool": len(scored.tasks), "newest_task": newest(truth)})
        version = store_version(job, truth, scored, cycle, _new_name(job, f"{sampler}-c0"))
        info = connection.require(job).info
        report("publish", 0, len(scored.tasks))
        version = publisher.publish(job, version, partial(report, "publish"), whole=whole, info=info)
        if not whole and not truth.annotations and arm.fraction:  # all labels to come are given in this order
            job.state.projects.update(job.project.id, job.owner, control=history_after([], arm.fraction, 0))
    if features is not None:  # last: nobody who labels waits for it
        draw_first_map(job, truth, features, version)
    return version


def _new_name(job: Job, prefix: str) -> str:
    """A name for a version that has no checkpoint to be named after."""
    taken = publisher.names_taken(job)
    while True:
        name = f"{prefix}-{secrets.token_hex(4)}"
        if name not in taken:
            return name


def _spread_first(job: Job, truth: Truth, cycle: CycleRecord) -> tuple[ScoredPool, ImageCache, Features | None]:
    """The sample in the first half of the scale, in the order of :func:`first_order`; its images, and its features
    where there are any images."""
    report = cycle.report
    report("images", 0, 1)
    until = time.monotonic() + LONGEST_SAMPLE_SECONDS
    enough, before = min(SMALL_FIRST_ORDER, len(truth.unlabeled)), -1
    while True:
        cache = open_images(job, truth, report, seconds=SAMPLE_SECONDS)
        pool = cache.present(truth.unlabeled)
        if len(pool) >= enough or len(pool) == before or time.monotonic() >= until:
            break
        before = len(pool)
    report("score", 0, len(pool))
    if not len(pool):
        return ScoredPool.ranked(pool, np.arange(0)), cache, None
    # Drawn by chance: tasks often stand in the order of their classes, and time may not suffice for all of them.
    wanted = np.random.default_rng(cycle.seed).permutation(pool)
    features = open_features(job, truth, cache, report, FIRST_FEATURE_SECONDS, wanted)
    arm = truth.control.arm
    drawn = arm.of(pool)
    rest = np.setdiff1d(pool, drawn)
    chosen = ScoredPool.unordered(rest)
    if len(rest):
        with job.turn() as device:
            runtime = Runtime(device, cycle.seed, report)
            chosen = first_order(features, rest, cache.present(truth.real_to_learn), runtime)
    return with_drawn(chosen, ScoredPool.unordered(drawn), arm.fraction, cycle.seed), cache, features


def prospects(job: Job, truth: Truth, cycle: CycleRecord) -> dict[str, Any]:
    """What more labels would bring, by the curve that this cycle is the last point of; and how long a label takes."""
    earlier = job.state.cycles.recent(job.project.id, outlook.CURVE_CYCLES)
    labels, target = cycle.metrics["labels"], truth.kind.settings.target_accuracy
    found = outlook.prospects(earlier, cycle.metrics, labels, target, truth.label_seconds)
    return {"label_seconds": truth.label_seconds, "outlook": found}


def newest(truth: Truth) -> int:
    """The highest id of a task; 0 if there is none."""
    return int(truth.tasks[-1]) if len(truth.tasks) else 0


def cycle_data(cache: ImageCache, labels: TrainingLabels, pool: np.ndarray, truth: Truth) -> CycleData:
    """The rows and targets that this cycle trains on and scores. Raises BackendError if all of them are of generated
    images."""
    of_generated = np.isin(labels.tasks, truth.synthetic.tasks)
    if of_generated.all():
        raise BackendError("none of the labeled images that were not generated can be read; `status` lists why")
    return CycleData(
        pixels=cache.pixels,
        labeled=cache.rows(labels.tasks),
        unlabeled=cache.rows(pool),
        targets=labels.targets,
        num_classes=labels.num_classes,
        synthetic=of_generated if of_generated.any() else None,
    )


def facts(truth: Truth, cache: ImageCache, problems: Sequence[str] = ()) -> dict[str, Any]:
    """What ``status`` shows of a cycle besides its metrics."""
    found: dict[str, Any] = {"task": truth.kind.name, "frame": list(cache.frame)}
    if problems:
        found |= {"regions_unread": list(problems[:PROBLEMS_KEPT]), "regions_unread_count": len(problems)}
    return found


def store_version(
    job: Job, truth: Truth, scored: ScoredPool, cycle: CycleRecord, name: str, learner: Learner | None = None
) -> Version:
    """Store the version's row; its checkpoint and predictions must be on disk already. With a ``learner``, the
    annotations of ``truth``, which it was trained on, count as seen from now on."""
    job.check()
    cycle.metrics["control_fraction"] = truth.control.arm.fraction
    return job.state.versions.add(
        job.project.id,
        job.owner,
        cycle=0 if learner is None else cycle.number,
        name=name,
        sampler=truth.kind.settings.sampler,
        checkpoint=None if learner is None else str(checkpoint_path(job.folder, name)),
        classes=() if learner is None else learner.classes,
        metrics=cycle.metrics,
        task_ids=scored.tasks,
        priority_score=scored.priority_scores(cycle.seed),
        class_index=truth.kind.class_index(scored),
        confidence=scored.confidence,
        seen=None if learner is None else truth.stamps,
        train_seen=None if learner is None else truth.train_seq,
    )
