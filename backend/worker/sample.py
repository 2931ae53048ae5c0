"""A sample of a large project, for its first order."""

from __future__ import annotations

import random
import time

import numpy as np

from backend.tasks import kind_of
from backend.tasks.label_config import image_source
from backend.tasks.synthetic import mark_of
from backend.worker.job import Job
from backend.worker.truth import Truth

SAMPLED_PROJECT = 5_000
"""A project of so many tasks gets its first order from a sample of them."""

SAMPLE_SECONDS, FEWEST_SAMPLED = 3.0, 2_000
"""How long that sample is read for, but at least so many tasks."""


def read_sample(job: Job) -> Truth | None:
    """Of a large project that nothing is known of yet: the tasks without annotations that Label Studio lists in the
    first seconds, drawn at random, so that the first order does not wait until all are listed.

    Returns None where :func:`backend.worker.sync.read_truth` is to be asked, as for everything but a first order.

    Raises: as that does.
    """
    started = time.monotonic()
    job = job.reread()
    project, state = job.project, job.state
    if project.read_from is not None or project.current_version_id is not None:
        return None
    info = job.gateway.project(project.number)
    if info.task_number < SAMPLED_PROJECT:
        return None
    kind = kind_of(info.label_config, job.settings)
    found: dict[int, str] = {}
    rng = random.Random(job.settings.seed)
    for task in job.gateway.some_tasks(project.number, info.task_number, rng):
        if not task.annotations and mark_of(task.data) is None:
            found[task.id] = image_source(task.data, kind.data_key) or ""
        if len(found) >= FEWEST_SAMPLED and time.monotonic() - started >= SAMPLE_SECONDS:
            break
    if not found:
        return None
    job.check()
    state.tasks.put(project.id, found)
    tasks = np.sort(np.fromiter(found, np.int64, len(found)))
    hints = (project.refresh_seq, project.train_seq, project.annotation_events)
    return Truth(kind, tasks, tasks, tasks[:0], {}, {}, 0, *hints, time.monotonic() - started)
