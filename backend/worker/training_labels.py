"""The labels of a cycle, in the form of its network's targets: those to learn from, and those that only measure."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from backend.errors import BackendError, LabelStudioUnavailable
from backend.images.cache import ImageCache
from backend.tasks.records import Label, TrainingLabels
from backend.worker.job import Job
from backend.worker.truth import Truth
from models import ProgressFn

log = logging.getLogger(__name__)


def training_labels(job: Job, truth: Truth, cache: ImageCache, report: ProgressFn) -> TrainingLabels:
    """The labels to train on, those of generated images included.

    Raises:
        BackendError: none of them can be used; the message says why.
    """
    return _labels(job, truth, truth.to_learn, cache, report)


def held_out_labels(job: Job, truth: Truth, cache: ImageCache, report: ProgressFn) -> TrainingLabels | None:
    """The labels that only measure; None if there are none that can be used."""
    wanted = truth.held_out
    if not len(cache.present(wanted)):
        return None
    try:
        return _labels(job, truth, wanted, cache, report)
    except LabelStudioUnavailable:
        raise
    except BackendError as error:
        log.info("Project %s: the labels that were kept out of training cannot be used: %s", job.project.id, error)
        return None


def _labels(
    job: Job, truth: Truth, wanted: Mapping[int, Label], cache: ImageCache, report: ProgressFn
) -> TrainingLabels:
    sources = job.state.tasks.sources(job.project.id, wanted)
    return truth.kind.training_labels(
        wanted, sources, cache, lambda tasks: job.gateway.annotations_of(job.project.number, tasks), report
    )
