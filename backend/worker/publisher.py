"""Publishes a scored version to Label Studio exactly once, even if the process is killed at any point.

What is published is the head of its order, or all of it: see :mod:`backend.head`. Write the shortlist (the next
K tasks, one by one), switch the project to the new version, then write the rest, which of a head is left to upkeep. So
annotators work in the new order long before everything is written, and at any moment the queue is ordered by one
complete shortlist, either the old or the new one.

A single write takes Label Studio a few hundredths of a second, and the rest is written while no annotator waits for it
(:mod:`backend.worker.gaps`). A bulk call recounts every task of the project, which in a large one takes seconds that
nobody can label in, whatever the size of the call. So there is one (or several of bounded size, if there are many
masks) only in small projects, or if the owner wants the whole pool published.

Label Studio does not deduplicate. So if the outcome of an earlier write is unknown (a kill, a timeout, a 5xx),
:mod:`backend.worker.reading_back` finds out which predictions of the version Label Studio holds, and only the others
are written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

from backend import head
from backend.errors import BackendError, LabelStudioUnavailable
from backend.events import UNCERTAINTY
from backend.head import WHOLE_POOL
from backend.labelstudio.records import ProjectInfo
from backend.state import StoredPrediction, Version
from backend.worker import reading_back
from backend.worker.gaps import Gaps
from backend.worker.job import Job
from backend.worker.results import Results

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a bulk call is tried that Label Studio refuses because tasks were deleted in the meantime."""

NUMBERS_A_CALL = 2_000_000
"""Limit of the numbers in one bulk call's masks, runs and coordinates together: about 9 MB of JSON, which Label Studio
stores in a second."""


def publish(
    job: Job,
    version: Version,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    whole: bool = True,
    info: ProjectInfo | None = None,
) -> Version:
    """Publish ``version``. Resumes what an earlier call began, and writes nothing twice.

    ``progress`` receives how many predictions are written, out of how many. Not ``whole``: leave the rest of a head to
    :func:`complete` as soon as enough tasks are ready to be labeled. ``info``: the project, if it was read just now.

    Raises:
        LabelStudioUnavailable: call again later; publishing continues where it stopped.
        LabelStudioRefused: the owner has to act.
    """
    job.check()
    if version.status == "scored":
        version = job.state.versions.update(version, job.owner, status="publishing")
        rows = reading_back.to_write(job, version)
    else:
        rows = reading_back.settle(job, version)
    total = len(rows)
    if job.reread().project.current_version_id != version.id:
        shortlist, rows = _shortlist(job, rows)
        write_singly(job, version, shortlist, info)
        switch(job, version, info)
    progress(total - len(rows), total)
    write_rest(job, version, rows, None if whole else lambda left: left >= job.settings.shortlist, info)
    progress(total, total)
    return job.state.versions.update(version, job.owner, status="current", writing_since=None)


def _shortlist(job: Job, rows: Sequence[StoredPrediction]) -> tuple[list[StoredPrediction], list[StoredPrediction]]:
    """The rows to write before the queue switches, and the others: the next K tasks, and as many of those that some
    annotators have labeled, which Label Studio serves to the others first."""
    served_first, size = job.state.labels.unfinished(job.project.id), job.settings.shortlist
    chosen: list[StoredPrediction] = []
    rest: list[StoredPrediction] = []
    room = {True: size, False: size}
    for row in rows:
        kind = row.task_id in served_first
        (chosen if room[kind] > 0 else rest).append(row)
        room[kind] -= 1
    return chosen, rest


def complete(
    job: Job,
    version: Version,
    enough: Callable[[int], bool] | None = None,
    only: Collection[int] | None = None,
) -> bool:
    """Write the predictions of the current version that Label Studio is not known to hold: those that fill up its head,
    those of tasks that joined it, or of an interrupted write; or ``only`` those of these tasks. Returns whether all of
    them are written: it ends before that if ``enough``, which is told how many tasks of the head are ready to be
    labeled."""
    rows = (
        reading_back.settle(job, version) if version.writing_since is not None else reading_back.to_write(job, version)
    )
    rows = rows if only is None else [row for row in rows if row.task_id in only]
    finished, info = True, None
    if rows:
        info = job.gateway.project(job.project.number)
        version = job.state.versions.update(version, job.owner, writing_since=job.state.now())
        finished = write_rest(job, version, rows, enough, info)
    if version.writing_since is not None:
        job.state.versions.update(version, job.owner, writing_since=None)
    if job.settings.manage_queue and rows:
        switch(job, version, info)  # Label Studio refused this version until now: it was published with an empty pool
    return finished


def names_taken(job: Job) -> set[str]:
    """The names that no new version may have: those of all versions that the state knows, and of all that Label Studio
    holds predictions of, also from before the state was lost. A task would have two predictions of one version."""
    return job.state.versions.names(job.project.id) | set(job.gateway.predictions.versions(job.project.number))


def switch(job: Job, version: Version, info: ProjectInfo | None = None) -> None:
    """Make ``version`` the one that orders the queue and serves ``/predict``.

    Label Studio refuses a version without predictions, so the version of an empty pool is set in Label Studio only once
    tasks join it.
    """
    job.check()
    if job.settings.manage_queue and job.state.scores.has_written(version):
        info = job.gateway.project(job.project.number) if info is None else info
        wanted = {"model_version": version.name, "sampling": UNCERTAINTY}
        changed = {key: value for key, value in wanted.items() if getattr(info, key) != value}
        if changed:
            job.gateway.update_project(job.project.number, **changed)
    job.state.versions.switch_to(version, job.owner)


def write_singly(job: Job, version: Version, rows: Sequence[StoredPrediction], info: ProjectInfo | None = None) -> None:
    """Write predictions one by one, those that an order begins with: people wait for them. Forgets tasks that were
    deleted in Label Studio."""
    results = Results.of(job, version, info)
    gaps = Gaps(job)
    for row in rows:
        job.check()
        gaps.step_aside()
        _write(job, version, row, results)


def _write_in_gaps(
    job: Job,
    version: Version,
    rows: Sequence[StoredPrediction],
    enough: Callable[[int], bool] | None,
    info: ProjectInfo | None,
) -> bool:
    """The same while no annotator waits for Label Studio: see :mod:`backend.worker.gaps`. Returns whether all of them
    are written: see :func:`complete`."""
    results = Results.of(job, version, info)
    left = head.tasks_left(job.state, job.settings, job.reread().project, version)
    gaps = Gaps(job, job.settings.shortlist if left is None else left)
    for row in rows:
        job.check()
        if left is not None and enough is not None and enough(gaps.in_stock):
            return False
        gaps.wait()
        _write(job, version, row, results)
    return True


def _write(job: Job, version: Version, row: StoredPrediction, results: Results) -> None:
    try:
        job.gateway.predictions.create(row.task_id, results(row), row.priority_score, version.name)
    except LabelStudioUnavailable:
        raise
    except BackendError as error:
        reading_back.drop_deleted(job, row.task_id, error)
    else:
        job.state.scores.mark_written(version, job.owner, [row.task_id])


def write_rest(
    job: Job,
    version: Version,
    rows: Sequence[StoredPrediction],
    enough: Callable[[int], bool] | None = None,
    info: ProjectInfo | None = None,
) -> bool:
    """Write the remaining predictions: one by one, or in one bulk call, or in as few as their masks allow. Returns
    whether all of them are written: see :func:`complete`. ``info``: the project, if it was read a moment ago."""
    small = job.state.tasks.count(job.project.id) <= WHOLE_POOL or job.settings.publish == "all"
    if len(rows) <= job.settings.shortlist or not small:
        return _write_in_gaps(job, version, rows, enough, info)
    results = Results.of(job, version, info)
    refused = 0
    while rows:
        items = _next_call(version, rows, results)
        job.check()
        version = job.state.versions.update(version, job.owner, writing_since=job.state.now())
        try:
            taken = job.gateway.predictions.create_many(job.project.number, items)
        except LabelStudioUnavailable as error:
            if not error.maybe_written:
                job.state.versions.update(version, job.owner, writing_since=None)
            raise  # if it may have been written, writing_since stays set, so that the next attempt reads back first
        except BackendError as error:  # refused before anything was written, most likely because a task was deleted
            job.state.versions.update(version, job.owner, writing_since=None)
            rows = reading_back.without_deleted(job, rows, error)
            refused += 1
            if refused == ATTEMPTS:
                message = "tasks were deleted faster than predictions could be written; trying again later"
                raise BackendError(message) from error
            continue
        written, rows = rows[: len(items)], rows[len(items) :]
        if taken < len(items):  # for example, the label config changed just now: the others are written in its terms
            reading_back.mark_held(job, version)
        else:
            job.state.scores.mark_written(version, job.owner, [row.task_id for row in written])
        job.state.versions.update(version, job.owner, writing_since=None)
    return True


def _next_call(version: Version, rows: Sequence[StoredPrediction], results: Results) -> list[dict[str, Any]]:
    """The predictions for the next bulk call: as many of the first ``rows`` as fit into one, at least one."""
    items: list[dict[str, Any]] = []
    numbers = 0
    for row in rows:
        result = results(row)
        numbers += results.kind.weight(result)
        if items and numbers > NUMBERS_A_CALL:
            break
        item = {"task": row.task_id, "result": result, "score": row.priority_score, "model_version": version.name}
        items.append(item)
    return items


def verify(job: Job, version: Version) -> None:
    """Compare how many predictions Label Studio holds with how many it should, and repair a difference (duplicates, or
    lost predictions)."""
    held = job.gateway.predictions.versions(job.project.number).get(version.name, 0)
    ours = len(job.state.scores.written(version))
    if held != ours:
        log.info(
            "Project %s: Label Studio holds %d predictions of %s, not %d", job.project.id, held, version.name, ours
        )
        reading_back.mark_held(job, version)
        complete(job, version)
