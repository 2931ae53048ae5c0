"""Reads back what Label Studio holds of a version, after a write whose outcome is unknown or that it refused.

Label Studio does not deduplicate, and does not say what became of a call that was interrupted. So before anything is
written again, the ``written`` flags are set to what it holds, duplicates are deleted there, and tasks that were deleted
there are forgotten here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from backend.errors import BackendError
from backend.head import size_to_write
from backend.state import StoredPrediction, Version
from backend.worker.gaps import Gaps
from backend.worker.job import Job

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
SETTLE_SECONDS_PER_ROW = 0.002
"""How long Label Studio may go on with a bulk call whose connection was lost: about four times what was measured."""


def to_write(job: Job, version: Version) -> list[StoredPrediction]:
    """The predictions that should be in Label Studio and are not known to be, in the order of the queue."""
    return job.state.scores.to_write(version, size_to_write(job.state, job.settings, job.reread().project, version))


def settle(job: Job, version: Version) -> list[StoredPrediction]:
    """The predictions that still have to be written after an attempt whose outcome is unknown.

    Label Studio goes on with a bulk call whose connection was lost. All its rows appear at once, so wait until they
    have appeared, or until the call can no longer be running.
    """
    if version.writing_since is not None:
        expected = len(job.state.scores.written(version)) + len(to_write(job, version))
        until = min(version.writing_since, job.state.now()) + SETTLE_SECONDS + SETTLE_SECONDS_PER_ROW * expected
        while (
            job.state.now() < until
            and job.gateway.predictions.versions(job.project.number).get(version.name, 0) < expected
        ):
            job.check()
            time.sleep(0.5)
    mark_held(job, version)
    return to_write(job, version)


def mark_held(job: Job, version: Version) -> None:
    """Set the ``written`` flags of all predictions to what Label Studio holds, and delete duplicates there."""
    held: set[int] = set()
    duplicates = []
    for prediction in job.gateway.predictions.of_version(job.project.number, version.name):
        if prediction.task_id in held:
            duplicates.append(prediction.id)
        held.add(prediction.task_id)
    gaps = Gaps(job)
    for prediction_id in duplicates:
        job.check()
        gaps.wait()
        job.gateway.predictions.delete(prediction_id)
    # In this order: a kill in between must not leave a held prediction marked as unwritten, or it is written twice.
    ours = np.intersect1d(np.array(sorted(held), dtype=np.int64), job.state.scores.tasks(version))
    job.state.scores.mark_written(version, job.owner, ours.tolist())
    lost = np.setdiff1d(job.state.scores.written(version), ours)
    job.state.scores.mark_written(version, job.owner, lost.tolist(), written=False)


def without_deleted(job: Job, rows: Sequence[StoredPrediction], refusal: BackendError) -> Sequence[StoredPrediction]:
    """``rows`` without those whose task was deleted in Label Studio, which are forgotten. Raises ``refusal`` if there
    are none, because then it has another cause."""
    existing = {task.id for task in job.gateway.tasks(job.project.number)}
    deleted = [row.task_id for row in rows if row.task_id not in existing]
    if not deleted:
        raise refusal
    log.info("Project %s: %d tasks were deleted during publishing (%s)", job.project.id, len(deleted), refusal)
    job.state.tasks.remove(job.project.id, deleted)
    return [row for row in rows if row.task_id in existing]


def drop_deleted(job: Job, task_id: int, error: BackendError) -> None:
    """Forget the task of a refused prediction if it was deleted in Label Studio; otherwise raise ``error``."""
    following = next(job.gateway.tasks(job.project.number, after_id=task_id - 1), None)
    if following is not None and following.id == task_id:
        raise error
    job.state.tasks.remove(job.project.id, [task_id])
