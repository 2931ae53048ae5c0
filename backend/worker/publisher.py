"""Put a scored version in front of the annotators, exactly once, whatever is killed in between.

Shortlist (the next K tasks, one by one) → switch the project's version → backfill the rest in one bulk call. Label
Studio's bulk call costs seconds whatever its size, a single write a few hundredths, so annotators work by the new
order long before the whole pool is written; and at every instant the queue is ordered by one complete shortlist, the
old one or the new one. Only where the rest carries many masks it takes several calls, each of bounded size.

Label Studio does not deduplicate. So before any write whose predecessor's outcome is unknown (a kill, a time-out, a
5xx), :func:`_settle` reads back what Label Studio holds of this version, and only the rest is written.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backend.errors import BackendError, LabelStudioUnavailable
from backend.files import checkpoint_path, predictions_folder
from backend.state import StoredPrediction, Version
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind, Result
from backend.worker.job import Job

log = logging.getLogger(__name__)

UNCERTAINTY = "Uncertainty sampling"
SETTLE_SECONDS = 10.0
SETTLE_SECONDS_PER_ROW = 0.002
"""How long a bulk call that was cut off may still be at work inside Label Studio: about four times what was
measured."""

ATTEMPTS = 3
"""At a bulk call that Label Studio refuses because tasks were deleted meanwhile."""

NUMBERS_A_CALL = 2_000_000
"""Of the masks in one bulk call, runs and points together: some 9 MB of JSON, which Label Studio writes in a second."""


def publish(job: Job, version: Version, progress: Callable[[int, int], None] = lambda done, total: None) -> Version:
    """Bring ``version`` wholly into Label Studio. Resumes what an earlier call began, and writes nothing twice.

    Raises:
        LabelStudioUnavailable: try again later, from wherever this got to.
        LabelStudioRefused: the owner has to act.
    """
    job.check()
    if version.status == "scored":
        version = job.state.versions.update(version, job.owner, status="publishing")
        rows = job.state.scores.unwritten(version)
    else:
        rows = _settle(job, version)
    total = len(rows)
    if job.reread().project.current_version_id != version.id:
        shortlist = rows[: job.settings.shortlist]
        rows = rows[len(shortlist) :]
        write_singly(job, version, shortlist)
        switch(job, version)
    progress(total - len(rows), total)
    write_rest(job, version, rows)
    progress(total, total)
    return job.state.versions.update(version, job.owner, status="current", writing_since=None)


def complete(job: Job, version: Version) -> None:
    """Write the rows of the current version that Label Studio is not known to hold: tasks that joined, or an
    interrupted write."""
    rows = _settle(job, version) if version.writing_since is not None else job.state.scores.unwritten(version)
    if rows:
        version = job.state.versions.update(version, job.owner, writing_since=job.state.now())
        write_rest(job, version, rows)
    if version.writing_since is not None:
        job.state.versions.update(version, job.owner, writing_since=None)
    if job.settings.manage_queue and rows:
        switch(job, version)  # a version published to an empty project could not be made the project's until now


def switch(job: Job, version: Version) -> None:
    """Make ``version`` the one that orders the queue and answers requests.

    Label Studio refuses a version that has no predictions, so an empty pool's version stays ours alone until tasks
    join it.
    """
    job.check()
    if job.settings.manage_queue and job.state.scores.has_rows(version, written=True):
        info = job.gateway.project(job.project.id)
        wanted = {"model_version": version.name, "sampling": UNCERTAINTY}
        changed = {key: value for key, value in wanted.items() if getattr(info, key) != value}
        if changed:
            job.gateway.update_project(job.project.id, **changed)
    job.state.versions.switch_to(version, job.owner)


def write_singly(job: Job, version: Version, rows: Sequence[StoredPrediction]) -> None:
    results = Results.of(job, version)
    for row in rows:
        job.check()
        try:
            job.gateway.create_prediction(row.task_id, results(row), row.priority_score, version.name)
        except LabelStudioUnavailable:
            raise
        except BackendError as error:
            _drop_deleted(job, row.task_id, error)
        else:
            job.state.scores.mark_written(version, job.owner, [row.task_id])


def write_rest(job: Job, version: Version, rows: Sequence[StoredPrediction]) -> None:
    """Everything else in one call, or in as few as its masks allow. A few rows go one by one: cheaper, and no call that
    recounts every task."""
    if len(rows) <= job.settings.shortlist:
        write_singly(job, version, rows)
        return
    results = Results.of(job, version)
    whole, refused = True, 0
    while rows:
        items = _next_call(version, rows, results)
        job.check()
        version = job.state.versions.update(version, job.owner, writing_since=job.state.now())
        try:
            taken = job.gateway.import_predictions(job.project.id, items)
        except LabelStudioUnavailable as error:
            if not error.maybe_written:
                job.state.versions.update(version, job.owner, writing_since=None)
            raise  # else the outcome is unknown: writing_since stays, and the next attempt looks first
        except BackendError as error:  # refused before anything was written: most likely a task was deleted meanwhile
            job.state.versions.update(version, job.owner, writing_since=None)
            rows = _without_deleted(job, rows, error)
            refused += 1
            if refused == ATTEMPTS:
                words = "tasks were deleted faster than predictions could be written; trying again later"
                raise BackendError(words) from error
            continue
        written, rows = rows[: len(items)], rows[len(items) :]
        whole = whole and taken == len(items)
        if taken < len(items):  # the label config changed at this moment, say: the rest is written by the new one
            _read_back(job, version)
        else:
            every_row = whole and not rows  # one statement, however many
            job.state.scores.mark_written(version, job.owner, None if every_row else [row.task_id for row in written])
        job.state.versions.update(version, job.owner, writing_since=None)


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


def _without_deleted(job: Job, rows: Sequence[StoredPrediction], refusal: BackendError) -> Sequence[StoredPrediction]:
    """``rows`` without those whose task is gone from Label Studio; they are forgotten. Raises ``refusal`` when that
    explains nothing."""
    there = {task.id for task in job.gateway.tasks(job.project.id)}
    gone = [row.task_id for row in rows if row.task_id not in there]
    if not gone:
        raise refusal
    log.info("Project %s: %d tasks were deleted during publishing (%s)", job.project.id, len(gone), refusal)
    job.state.tasks.replace(job.project.id, {}, gone)
    return [row for row in rows if row.task_id in there]


def remove_superseded(job: Job) -> int:
    """Take the predictions of superseded versions out of Label Studio, and drop their scores, checkpoints and kept
    predictions."""
    removed = 0
    current = job.state.versions.current(job.project.id)
    keep = {current.checkpoint} if current else set()
    there = job.gateway.model_versions(job.project.id)
    for version in job.state.versions.of_project(job.project.id, removed=False):
        if version.status != "superseded":
            continue
        job.check()
        if there.get(version.name):
            job.gateway.delete_version(job.project.id, version.name)
        job.state.scores.drop(version, job.owner)
        if version.checkpoint and version.checkpoint not in keep:
            checkpoint_path(job.folder, version.name).unlink(missing_ok=True)
        shutil.rmtree(predictions_folder(job.folder, version.name), ignore_errors=True)
        removed += 1
    return removed


def verify(job: Job, version: Version) -> None:
    """Compare the number of predictions Label Studio holds with ours, and mend a difference (doubles, or lost ones)."""
    held = job.gateway.model_versions(job.project.id).get(version.name, 0)
    ours = len(job.state.scores.task_ids(version))
    if held != ours:
        log.info(
            "Project %s: Label Studio holds %d predictions of %s, not %d", job.project.id, held, version.name, ours
        )
        _read_back(job, version)
        complete(job, version)


def _settle(job: Job, version: Version) -> list[StoredPrediction]:
    """What is still to be written after an attempt whose outcome is unknown.

    A bulk call that was cut off goes on inside Label Studio. Its rows appear together, so wait until they have, or
    until it can no longer be running.
    """
    if version.writing_since is not None:
        expected = len(job.state.scores.all(version))
        until = version.writing_since + SETTLE_SECONDS + SETTLE_SECONDS_PER_ROW * expected
        while job.state.now() < until and job.gateway.model_versions(job.project.id).get(version.name, 0) < expected:
            job.check()
            time.sleep(0.5)
    _read_back(job, version)
    return job.state.scores.unwritten(version)


def _read_back(job: Job, version: Version) -> None:
    """Make the ``written`` flags say what Label Studio holds, and delete doubles."""
    held: set[int] = set()
    doubles = []
    for prediction in job.gateway.predictions(job.project.id, version.name):
        if prediction.task_id in held:
            doubles.append(prediction.id)
        held.add(prediction.task_id)
    for number in doubles:
        job.check()
        job.gateway.delete_prediction(number)
    ours = job.state.scores.task_ids(version)
    # In this order a kill in between leaves no row that is held and counts as unwritten: it would be written twice.
    job.state.scores.mark_written(version, job.owner, sorted(ours & held))
    job.state.scores.mark_written(version, job.owner, sorted(ours - held), written=False)


def _drop_deleted(job: Job, task_id: int, error: BackendError) -> None:
    """A refused prediction is fine when its task was deleted meanwhile; anything else is for the owner to know."""
    if any(task.id == task_id for task in job.gateway.tasks(job.project.id, after_id=task_id - 1)):
        raise error
    job.state.tasks.replace(job.project.id, {}, [task_id])


def project_kind(job: Job) -> AnyTaskKind:
    """By the label config as it is now: Label Studio refuses predictions of what is no longer asked."""
    return kind_of(job.gateway.project(job.project.id).label_config, job.settings)


@dataclass(frozen=True)
class Results:
    """The ``result`` of each prediction of a version, in the words of the label config as it is now. Large ones are
    built when they are asked for, one after the other."""

    kind: AnyTaskKind
    kept: Any

    @classmethod
    def of(cls, job: Job, version: Version) -> Results:
        kind = project_kind(job)
        return cls(kind, kind.open_kept(predictions_folder(job.folder, version.name)))

    def __call__(self, stored: StoredPrediction) -> Result:
        return self.kind.result(stored, self.kept)
