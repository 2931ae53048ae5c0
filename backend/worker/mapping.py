"""Draws the map of the pool that the page of a project shows: with the first order, and in each cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backend.reporting import pool_map
from backend.reporting.pool_map import PoolMap
from backend.state import Version
from backend.worker.job import Job
from backend.worker.truth import Truth

if TYPE_CHECKING:
    from backend.images.features import FeatureCache
    from backend.learning.features import Features
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool


def draw_map(job: Job, truth: Truth, features: Features, learner: Learner, scored: ScoredPool, seed: int) -> int | None:
    """How many images are on the map; None where nothing is kept of them that one could be drawn from."""
    if features.kept is None:
        pool_map.forget(job.folder)
        return None
    queue = np.array(scored.head(pool_map.QUEUE, seed), dtype=np.int64)
    pool, labeled = _there(features.kept, truth)
    return _drawn(job, features, learner.net.feature_channels, pool, labeled, queue, PoolMap.kept(job.folder))


def draw_first_map(job: Job, truth: Truth, features: Features, version: Version) -> None:
    """Draw it for a first order, which no network was trained for; again while more images are embedded."""
    if features.kept is None:
        pool_map.forget(job.folder)
        return
    pool, labeled = _there(features.kept, truth)
    before = PoolMap.kept(job.folder)
    if (
        before is not None
        and before.key == features.config.feature_key
        and not before.outgrown(len(pool) + len(labeled))
    ):
        return
    queue = [one.task_id for one in job.state.scores.first(version, pool_map.QUEUE)]
    there = features.kept.present(np.array(queue, dtype=np.int64))
    _drawn(job, features, features.width, pool, labeled, there, before)


def _there(kept: FeatureCache, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """The tasks whose features are there: those without a label, and those with one."""
    return kept.present(truth.unlabeled), kept.present(np.array(sorted(truth.labels), dtype=np.int64))


def _drawn(
    job: Job,
    features: Features,
    width: int,
    pool: np.ndarray,
    labeled: np.ndarray,
    queue: np.ndarray,
    before: PoolMap | None,
) -> int:
    """How many images are on it. ``width``: how many of the kept numbers of an image are its features."""
    kept = features.kept
    assert kept is not None
    found = pool_map.drawn(
        lambda tasks: kept.rows[kept.cache.rows(tasks), :width],
        features.config.feature_key,
        pool,
        labeled,
        queue,
        before,
    )
    if found is None:
        pool_map.forget(job.folder)
        return 0
    job.check()
    found.keep(job.folder)
    return len(found.tasks)
