"""What a version leaves on disk besides its row: a checkpoint, and the masks that it predicted.

    checkpoints/<version>.pt    the network and the sampler
    answers/<version>/          masks: :mod:`backend.tasks.segmentation.predictions`

Both are there, whole, before the version's row is; what a kill in between leaves is swept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from backend.errors import BackendError
from backend.images.cache import ImageCache
from backend.learning.learner import Learner
from backend.state import Version
from backend.tasks.segmentation.predictions import answers_folder, sweep_answers, write_answers
from backend.worker.job import Job
from models.data import Runtime

log = logging.getLogger(__name__)


def save_learner(job: Job, learner: Learner, cycle: int) -> str:
    """The name of a version, ``<sampler>-c<cycle>-<digest of the weights>``, once its checkpoint is there, whole."""
    folder = job.folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"cycle-{cycle}.draft"
    name = f"{job.settings.sampler}-c{cycle}-{learner.save(draft)[:8]}"
    draft.replace(folder / f"{name}.pt")
    return name


def keep_masks(
    job: Job, learner: Learner, cache: ImageCache, tasks: Sequence[int], version_name: str, runtime: Runtime
) -> None:
    """Predict the masks of ``tasks`` in one pass, and keep them for publishing and `/predict`. Classes are kept with
    the scores."""
    if learner.task == "segmentation" and tasks:
        rows = cache.rows(tasks)
        batches = learner.masks(cache.pixels, rows, runtime)
        folder = answers_folder(job.folder, version_name)
        write_answers(folder, learner.classes, learner.frame, tasks, cache.sizes(rows), batches)


def sweep_leftovers(job: Job) -> None:
    """Delete checkpoints and masks that no version points to: of cycles that were killed before their version's row was
    in, and of removed versions. Safe because whoever holds the lease is the only one who writes them."""
    wanted = {version.name for version in job.state.versions.of_project(job.project.id) if version.status != "removed"}
    for path in (job.folder / "checkpoints").glob("*"):
        if path.suffix != ".pt" or path.stem not in wanted:
            log.info("Project %s: deleting %s, left over from a cycle that was cut off", job.project.id, path.name)
            path.unlink(missing_ok=True)
    sweep_answers(job.folder, wanted)


def last_learner(job: Job) -> Learner | None:
    """The model of the newest version that has one, for a warm start; None when it cannot be read any more."""
    for version in job.state.versions.of_project(job.project.id):
        if version.checkpoint:
            try:
                return Learner.load(version.checkpoint, job.device)
            except BackendError as error:
                log.warning("Project %s: training from scratch, %s", job.project.id, error)
                return None
    return None


def load_answerer(version: Version, device: str = "cpu") -> Learner:
    """The model of ``version``, to :meth:`~backend.learning.learner.Learner.answer` for tasks that it has not scored.

    Raises:
        BackendError: a cold-start version has no model, or its checkpoint cannot be read.
    """
    if version.checkpoint is None:
        raise BackendError(f"{version.name} was made before any label and has no model")
    return Learner.load(version.checkpoint, torch.device(device))
