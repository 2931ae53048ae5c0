"""Trains, in upkeep and a piece at a time, what a project's sampler learns from the images alone: so cycles do not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from backend.worker.images import open_images
from backend.worker.job import Job
from backend.worker.truth import Truth
from samplers import SAMPLERS

log = logging.getLogger(__name__)

PIECE_SECONDS = 20.0
"""How long a project's upkeep trains before other work gets its turn."""

LOOK_SECONDS, NOTE_SECONDS = 0.5, 2.0
"""How often a piece looks whether other work is due, and notes how far it is."""

FEWEST_IMAGES = 2


def prepare(job: Job, truth: Truth, other_work: Callable[[], bool]) -> None:
    """One piece of the training, if any is due. If more is, the project's upkeep stays due.

    ``other_work``: whether something is due that this gives way to. Images that are still missing come first, too, and
    so does whatever else asks for the next upkeep.
    """
    kind, state, project_id = truth.kind, job.state, job.project.id
    if not SAMPLERS[kind.settings.sampler].prepares:
        _note(job, None)
        return
    if job.reread().project.refresh_seq > truth.refresh_seq or other_work():
        return
    from backend.learning import preparation  # here: it imports torch
    from backend.learning.learner import cycle_seed
    from models.data import Deadline, Runtime
    from models.training.task_network import TrainingDiverged

    real = np.setdiff1d(truth.tasks, truth.synthetic.tasks)
    key, is_ready = preparation.key_of(kind, job.device), preparation.is_ready(job.folder)
    if _is_settled(job.project.preparation, key, len(real), is_ready):
        return
    cache = open_images(job, truth, lambda phase, done, total: job.check(), seconds=0.0, wanted=truth.unlabeled[:0])
    rows = np.sort(cache.rows(cache.present(real)))
    if len(rows) < FEWEST_IMAGES or _is_settled(job.project.preparation, key, len(rows), is_ready):
        return
    watch = _Watch(job, key, other_work)
    try:
        with job.turn() as device:
            sampler = preparation.sampler_to_prepare(kind, max(cache.frame), device)
            deadline = Deadline.after(PIECE_SECONDS)
            runtime = Runtime(device, cycle_seed(job.settings.seed, 0), watch.progress, deadline=deadline)
            found = preparation.go_on(job.folder, sampler, cache.pixels, rows, runtime, watch.enough, job.check)
    except TrainingDiverged as error:  # again with the same settings, it would diverge again
        log.warning("Project %s: %s", job.project.name, error)
        _note(job, {"key": key, "over": True, "enough_for": len(rows), "error": str(error)})
        return
    over = found.ready is not None
    _note(job, watch.known | {"done": found.done, "total": found.total, "over": over, "enough_for": found.enough_for})
    if over:
        log.info("Project %s: what %s needs was learned from %d images", job.project.name, sampler.name, len(rows))
    else:
        state.hints.add(project_id, tasks=True)


def _is_settled(known: Mapping[str, Any] | None, key: str, images: int, is_ready: bool) -> bool:
    """Whether nothing is to be done until the settings change or the pool has grown."""
    if known is None or known["key"] != key or not known["over"] or images > known["enough_for"]:
        return False
    return is_ready or bool(known.get("error"))


class _Watch:
    """Notes how far a piece is, and looks whether it has to give way."""

    def __init__(self, job: Job, key: str, other_work: Callable[[], bool]) -> None:
        self._job, self._other_work = job, other_work
        self.known: dict[str, Any] = {"key": key, "phase": "", "done": 0, "total": 0, "over": False, "enough_for": 0}
        self._looked = self._noted = time.monotonic()

    def progress(self, phase: str, done: int, total: int) -> None:
        self._job.show(phase, done, total)
        self.known |= {"phase": phase, "done": done, "total": total}
        if time.monotonic() - self._noted >= NOTE_SECONDS:
            self._noted = time.monotonic()
            _note(self._job, self.known)

    def enough(self) -> bool:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        self._job.check()
        return self._other_work()


def _note(job: Job, known: dict[str, Any] | None) -> None:
    if known != job.project.preparation or known is not None:
        job.state.projects.update(job.project.id, job.owner, preparation=known)
