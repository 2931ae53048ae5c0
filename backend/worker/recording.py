"""A cycle in the history: begun, and closed however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from backend.errors import Stopped, message_of
from backend.worker.job import Job, Reporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CycleRecord:
    """A cycle that is being recorded in the history: its number, its seed, and the metrics to keep."""

    number: int
    seed: int
    report: Reporter
    metrics: dict[str, Any] = field(default_factory=dict)


@contextmanager
def recorded(job: Job) -> Iterator[CycleRecord]:
    """Record a cycle in the history, however the block ends: done (with its metrics), failed or interrupted."""
    from backend.learning.learner import cycle_seed  # here: it imports torch

    number = job.state.cycles.next_number(job.project.id)
    seed = cycle_seed(job.settings.seed, number)
    row = job.state.cycles.start(job.project.id, job.owner, number, job.settings.sampler, seed)
    cycle = CycleRecord(number, seed, Reporter(job, row))
    try:
        yield cycle
    except BaseException as error:
        _close(job, row, error)
        raise
    cycle.report.end_phase()
    cycle.metrics["seconds"] = {phase: round(spent, 3) for phase, spent in cycle.report.seconds.items()}
    job.state.cycles.finish(row, job.project.id, job.owner, status="done", metrics=cycle.metrics)


def _close(job: Job, record: int, error: BaseException) -> None:
    """Record why a cycle ended early. If that fails too, whoever takes the lease next marks it as interrupted."""
    status = "interrupted" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
    try:
        job.state.cycles.finish(record, job.project.id, job.owner, status=status, error=message_of(error))
    except Exception as second:
        log.debug("Could not record the failure of cycle %s: %s", record, second)
