"""Embeds a project's images, in the order in which they will be needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backend.images.cache import ImageCache
from backend.worker.job import Job
from backend.worker.truth import Truth
from models import ProgressFn

if TYPE_CHECKING:
    from backend.learning.features import Features


def open_features(
    job: Job, truth: Truth, cache: ImageCache, report: ProgressFn, seconds: float, wanted: np.ndarray | None = None
) -> Features:
    """The features of the project's images, with those of all labeled tasks, and then of others.

    Args:
        seconds: how long to go on with tasks that are not labeled. If some are left, the project's upkeep stays due,
            which goes on with them.
        wanted: tasks (M,) without a label; None: all, in an order drawn at random, so that those which are embedded
            first are a sample of the pool.
    """
    from backend.learning.features import Features  # here: it imports torch

    features = Features.open(truth.kind, cache, job.device, job.executor)
    if wanted is None:
        wanted = np.random.default_rng([job.settings.seed, len(truth.tasks)]).permutation(truth.unlabeled)
    features.fill(cache.present([*truth.to_learn, *truth.held_out]), report, idle=job.idle)
    if not features.fill(wanted, report, seconds, job.idle):
        job.state.hints.add(job.project.id, tasks=True)
    return features
