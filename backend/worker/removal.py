"""Removes superseded versions from Label Studio, so slowly that nobody notices, and then from here.

Label Studio removes a whole version in one transaction, which takes 5 to 7 ms a prediction and lets nobody label in
the meantime. So predictions are deleted one by one, with pauses, and only for some seconds at a time.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial

from backend.files import checkpoint_path, predictions_folder
from backend.state import Version
from backend.worker import publisher
from backend.worker.gaps import Gaps
from backend.worker.job import Job

log = logging.getLogger(__name__)

WITHOUT_VERSION = ("", "null", "None", "undefined")
"""What Label Studio counts predictions under that have no version."""

PIECE_SECONDS = 30.0
"""How long a project's upkeep removes predictions before other work gets its turn."""

LOOK_EVERY = 20
"""Deletions, a second or two, after which to look whether the version has come into use meanwhile."""


def remove_superseded(job: Job, seconds: float = PIECE_SECONDS) -> bool:
    """Delete the predictions of superseded versions from Label Studio, and their scores, checkpoints and kept
    predictions here. Returns whether anything was deleted; after ``seconds``, the rest stays due.

    The version that Label Studio's project names is never removed, because its queue would be without an order.
    """
    until = time.monotonic() + seconds
    any_deleted = False
    current = job.state.versions.current(job.project.id)
    keep = {current.checkpoint} if current else set()
    held = job.gateway.predictions.versions(job.project.number)
    for version in reversed(job.state.versions.of_project(job.project.id, removed=False)):
        if version.status != "superseded":
            continue
        job.check()
        if held.get(version.name):
            if _is_in_use(job, version, current):
                continue
            any_deleted = True
            if not delete_predictions(job, version.name, until, partial(_is_in_use, job, version, current)):
                break
        if version.checkpoint and version.checkpoint not in keep:
            checkpoint_path(job.folder, version.name).unlink(missing_ok=True)
        shutil.rmtree(predictions_folder(job.folder, version.name), ignore_errors=True)
        job.state.scores.drop(version, job.owner)
        any_deleted = True
    return any_deleted


def remove_empty(job: Job, seconds: float = PIECE_SECONDS) -> int:
    """Delete the empty predictions of no version that Label Studio stored, on *Retrieve predictions*, for tasks for
    which there was none yet; those that are left after ``seconds`` have their turn in the next upkeep. Returns how many
    were deleted."""
    if not any(version in WITHOUT_VERSION for version in job.gateway.predictions.versions(job.project.number)):
        return 0
    until = time.monotonic() + seconds
    gaps = Gaps(job)
    deleted = 0
    for prediction in job.gateway.predictions.empty(job.project.number):
        if deleted and time.monotonic() >= until:
            break
        job.check()
        gaps.wait()
        job.gateway.predictions.delete(prediction)
        deleted += 1
    if deleted:
        log.info("Project %s: %d empty predictions of no version were removed", job.project.name, deleted)
    return deleted


def _is_in_use(job: Job, version: Version, current: Version | None) -> bool:
    """Whether Label Studio orders its queue by ``version``, for example because its settings page was saved with what
    it had loaded earlier. Where the queue is ours to manage, it is switched back to ``current`` first."""
    if job.gateway.project(job.project.number).model_version != version.name:
        return False
    if current is None or not job.settings.manage_queue:
        return True
    log.info("Project %s: Label Studio names %s again, switching to %s", job.project.id, version.name, current.name)
    publisher.switch(job, current)
    return False


def delete_predictions(job: Job, version_name: str, until: float, in_use: Callable[[], bool] = lambda: False) -> bool:
    """Delete the predictions of that version until the monotonic time ``until``, but at least one. Returns whether none
    is left; also ends if the version comes into use meanwhile."""
    gaps = Gaps(job)
    for place, prediction in enumerate(job.gateway.predictions.of_version(job.project.number, version_name)):
        if place and time.monotonic() >= until:
            return False
        if place and place % LOOK_EVERY == 0 and in_use():
            return False
        job.check()
        gaps.wait()
        job.gateway.predictions.delete(prediction.id)
    return True
