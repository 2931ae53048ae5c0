"""Tasks that join a published order: new ones, and those that some annotators have labeled and others are still to
label."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from backend.files import predictions_folder
from backend.learning import device_memory
from backend.learning.checkpoints import last_learner
from backend.learning.control_order import in_drawn_places
from backend.learning.features import Features
from backend.learning.learner import Learner, cycle_seed
from backend.learning.pool import ScoredPool
from backend.learning.scores import joining_priority_scores
from backend.state import Version
from backend.worker import storing
from backend.worker.features import open_features
from backend.worker.images import open_images
from backend.worker.job import Job
from backend.worker.mapping import draw_first_map
from backend.worker.truth import Truth
from models import ProgressFn
from samplers import SAMPLERS

log = logging.getLogger(__name__)

UPKEEP_SECONDS = 20.0
"""How long images of unlabeled tasks are waited for in each upkeep, and then their features."""


def join_new_tasks(job: Job, version: Version, truth: Truth) -> int:
    """Score the tasks that are missing from ``version`` although somebody is still to label them, with its own model,
    and add them to its order.

    Also fetches images that are still missing, for some seconds, retries broken ones that are due to be tried again,
    and draws the map of a first order.

    Returns:
        The number of tasks added.
    """
    after = version.metrics.get("newest_task", 0) if job.settings.subset else 0  # the others were left out on purpose
    missing = job.state.tasks.unscored(job.project.id, version, after)
    seed = cycle_seed(job.settings.seed, version.cycle)
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(truth.unlabeled, missing))
    wanted = np.concatenate([missing, rest])
    check: ProgressFn = lambda phase, done, total: job.check()  # noqa: E731
    cache = open_images(job, truth, check, seconds=UPKEEP_SECONDS, wanted=wanted)
    features = open_features(job, truth, cache, check, UPKEEP_SECONDS, wanted)
    if not version.labels:
        draw_first_map(job, truth, features, version)
    scored = _score_joining(job, version, truth, features, missing, seed)
    if not len(scored.tasks):
        return 0
    arm = truth.control.arm
    if version.metrics.get("control_fraction") and len(arm.of(scored.tasks)):
        scored = in_drawn_places(scored, arm, job.state.scores.in_order(version), seed)
    _add(job, version, truth, scored, seed)
    log.info("Project %s: %d new tasks join %s", job.project.id, len(scored.tasks), version.name)
    return len(scored.tasks)


def add_unfinished(job: Job, version: Version, truth: Truth, features: Features, learner: Learner) -> None:
    """Add to a new ``version`` the labeled tasks that Label Studio still serves, to further annotators, so that these
    find a prediction too. They are not part of the pool that its sampler chose from."""
    cache, tasks = features.cache, features.present(truth.unfinished)
    if not len(tasks):
        return
    seed = cycle_seed(job.settings.seed, version.cycle)
    with job.turn() as device:
        if device != learner.device:
            learner = last_learner(job.folder, [version], device) or learner
        runtime = learner.runtime(seed, lambda phase, done, total: job.check())
        runtime = replace(runtime, features=features.rows_for(learner), idle=job.idle, executor=job.executor)
        scored = device_memory.scored(learner, cache, tasks, runtime)
        truth.kind.keep_predictions(learner, cache, scored, predictions_folder(job.folder, version.name), runtime)
    storing.store_files(job)
    _add(job, version, truth, scored, seed)


def _add(job: Job, version: Version, truth: Truth, scored: ScoredPool, seed: int) -> None:
    priority_score = _free_scores(job, version, scored.acquisition, seed)
    columns = (scored.tasks, priority_score, truth.kind.class_index(scored), scored.confidence)
    job.state.scores.add(job.project.id, job.owner, version.id, *columns)


def _score_joining(
    job: Job, version: Version, truth: Truth, features: Features, missing: np.ndarray, seed: int
) -> ScoredPool:
    """Score those of the ``missing`` tasks that have an image with the model of ``version``; or at random if it has
    none that can be read, or the project's kind of task or image size has changed since. Behind a first order that was
    made from a sample of the images, they have the second half of the scale."""
    if version.checkpoint is None and not SAMPLERS[version.sampler].spreads_first:
        return ScoredPool.shuffled(missing, seed)
    cache = features.cache
    tasks = cache.present(missing)
    if version.checkpoint is None or not len(tasks):
        return ScoredPool.shuffled(tasks, seed, (0.5, 1.0) if version.checkpoint is None else (0.0, 1.0))
    with job.turn() as device:
        learner = last_learner(job.folder, [version], device)
        if learner is None or (learner.task, learner.frame) != (truth.kind.name, cache.frame):
            return ScoredPool.shuffled(tasks, seed)
        kept = features.rows_for(learner)
        tasks = tasks if kept is None else features.present(tasks)
        runtime = learner.runtime(seed, lambda phase, done, total: job.check())
        runtime = replace(runtime, features=kept, idle=job.idle, executor=job.executor)
        scored = device_memory.scored(learner, cache, tasks, runtime)
        truth.kind.keep_predictions(learner, cache, scored, predictions_folder(job.folder, version.name), runtime)
    storing.store_files(job)
    return scored


def _free_scores(job: Job, version: Version, acquisition: np.ndarray, seed: int) -> np.ndarray:
    """Priority scores of joining tasks (N,), none of which a task of ``version`` has."""
    taken = np.empty(0)
    while True:
        scores = joining_priority_scores(acquisition, taken, seed)
        found = job.state.scores.taken(version, scores)
        if not len(found):
            return scores
        taken = np.concatenate([taken, found])
