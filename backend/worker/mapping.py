"""Draws, in a cycle, the map of the pool that the page of a project shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backend.reporting import pool_map
from backend.reporting.pool_map import PoolMap
from backend.worker.job import Job
from backend.worker.truth import Truth

if TYPE_CHECKING:
    from backend.learning.features import Features
    from backend.learning.learner import Learner
    from backend.learning.pool import ScoredPool


def draw_map(job: Job, truth: Truth, features: Features, learner: Learner, scored: ScoredPool, seed: int) -> int | None:
    """How many images are on the map; None where nothing is kept of them that one could be drawn from."""
    kept = features.kept
    if kept is None:
        pool_map.forget(job.folder)
        return None
    width = learner.net.feature_channels
    labeled = kept.present(np.array(sorted(truth.labels), dtype=np.int64))
    found = pool_map.drawn(
        lambda tasks: kept.rows[kept.cache.rows(tasks), :width],
        learner.net_config.feature_key,
        kept.present(truth.unlabeled),
        labeled,
        np.array(scored.head(pool_map.QUEUE, seed), dtype=np.int64),
        PoolMap.kept(job.folder),
    )
    if found is None:
        pool_map.forget(job.folder)
        return 0
    job.check()
    found.keep(job.folder)
    return len(found.tasks)
