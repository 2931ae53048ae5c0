"""Put a scored version in front of the annotators, exactly once, whatever is killed in between.

Shortlist (the next K tasks, one by one) → switch the project's version → backfill the rest in one bulk call. Label
Studio's bulk call costs seconds whatever its size, a single write a few hundredths, so annotators work by the new
order long before the whole pool is written; and at every instant the queue is ordered by one complete shortlist, the
old one or the new one.

Label Studio does not deduplicate. So before any write whose predecessor's outcome is unknown (a kill, a time-out, a
5xx), :func:`_settle` reads back what Label Studio holds of this version, and only the rest is written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from backend.errors import BackendError, LabelStudioUnavailable
from backend.job import Job
from backend.labeling import LabelSpec, parse_label_config, to_region
from backend.state import Answer, Version

log = logging.getLogger(__name__)

UNCERTAINTY = "Uncertainty sampling"
SETTLE_SECONDS = 10.0
SETTLE_SECONDS_PER_ROW = 0.002
"""How long a bulk call that was cut off may still be at work inside Label Studio: about four times what was
measured."""


def publish(job: Job, version: Version, progress: Callable[[int, int], None] = lambda done, total: None) -> Version:
    """Bring ``version`` wholly into Label Studio. Resumes what an earlier call began, and writes nothing twice.

    Raises:
        LabelStudioUnavailable: try again later, from wherever this got to.
        LabelStudioRefused: the owner has to act.
    """
    job.check()
    if version.status == "scored":
        version = job.state.update_version(version, job.owner, status="publishing")
        rows = job.state.unwritten(version)
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
    return job.state.update_version(version, job.owner, status="current", writing_since=None)


def complete(job: Job, version: Version) -> None:
    """Write the rows of the current version that Label Studio is not known to hold: tasks that joined, or an
    interrupted write."""
    rows = _settle(job, version) if version.writing_since is not None else job.state.unwritten(version)
    if rows:
        version = job.state.update_version(version, job.owner, writing_since=job.state.now())
        write_rest(job, version, rows)
    if version.writing_since is not None:
        job.state.update_version(version, job.owner, writing_since=None)
    if job.settings.manage_queue and rows:
        switch(job, version)  # a version published to an empty project could not be made the project's until now


def switch(job: Job, version: Version) -> None:
    """Make ``version`` the one that orders the queue and answers requests.

    Label Studio refuses a version that has no predictions, so an empty pool's version stays ours alone until tasks
    join it.
    """
    job.check()
    if job.settings.manage_queue and job.state.has_rows(version, written=True):
        info = job.gateway.project(job.project.id)
        wanted = {"model_version": version.name, "sampling": UNCERTAINTY}
        changed = {key: value for key, value in wanted.items() if getattr(info, key) != value}
        if changed:
            job.gateway.update_project(job.project.id, **changed)
    job.state.switch_to(version, job.owner)


def write_singly(job: Job, version: Version, rows: Sequence[Answer]) -> None:
    spec = project_spec(job)
    for row in rows:
        job.check()
        try:
            job.gateway.create_prediction(row.task_id, _result(spec, row), row.score, version.name)
        except LabelStudioUnavailable:
            raise
        except BackendError as error:
            _drop_deleted(job, row.task_id, error)
        else:
            job.state.mark_written(version, job.owner, [row.task_id])


def write_rest(job: Job, version: Version, rows: Sequence[Answer]) -> None:
    """Everything else in one call. A few rows go one by one: cheaper, and no call that recounts every task."""
    if len(rows) <= job.settings.shortlist:
        write_singly(job, version, rows)
        return
    spec = project_spec(job)
    for _attempt in range(3):
        job.check()
        version = job.state.update_version(version, job.owner, writing_since=job.state.now())
        items = [
            {"task": row.task_id, "result": _result(spec, row), "score": row.score, "model_version": version.name}
            for row in rows
        ]
        try:
            taken = job.gateway.import_predictions(job.project.id, items)
        except LabelStudioUnavailable as error:
            if not error.maybe_written:
                job.state.update_version(version, job.owner, writing_since=None)
            raise  # else the outcome is unknown: writing_since stays, and the next attempt looks first
        except BackendError as error:  # refused before anything was written: most likely a task was deleted meanwhile
            job.state.update_version(version, job.owner, writing_since=None)
            there = {task.id for task in job.gateway.tasks(job.project.id)}
            gone = [row.task_id for row in rows if row.task_id not in there]
            if not gone:
                raise
            log.info("Project %s: %d tasks were deleted during publishing (%s)", job.project.id, len(gone), error)
            job.state.replace_tasks(job.project.id, {}, gone)
            rows = [row for row in rows if row.task_id in there]
            continue
        if taken == len(items):
            job.state.mark_written(version, job.owner, None)
        else:  # the label config changed at this moment, say: the rest is written by the new one
            _read_back(job, version)
        job.state.update_version(version, job.owner, writing_since=None)
        return
    raise BackendError("tasks were deleted faster than predictions could be written; trying again later")


def remove_superseded(job: Job) -> int:
    """Take the predictions of superseded versions out of Label Studio, and drop their scores and checkpoints."""
    removed = 0
    current = job.state.current_version(job.project.id)
    keep = {current.checkpoint} if current else set()
    there = job.gateway.model_versions(job.project.id)
    for version in job.state.versions(job.project.id, removed=False):
        if version.status != "superseded":
            continue
        job.check()
        if there.get(version.name):
            job.gateway.delete_version(job.project.id, version.name)
        job.state.drop_scores(version, job.owner)
        if version.checkpoint and version.checkpoint not in keep:
            (job.folder / "checkpoints" / f"{version.name}.pt").unlink(missing_ok=True)
        removed += 1
    return removed


def verify(job: Job, version: Version) -> None:
    """Compare the number of predictions Label Studio holds with ours, and mend a difference (doubles, or lost ones)."""
    held = job.gateway.model_versions(job.project.id).get(version.name, 0)
    ours = len(job.state.scored_task_ids(version))
    if held != ours:
        log.info(
            "Project %s: Label Studio holds %d predictions of %s, not %d", job.project.id, held, version.name, ours
        )
        _read_back(job, version)
        complete(job, version)


def _settle(job: Job, version: Version) -> list[Answer]:
    """What is still to be written after an attempt whose outcome is unknown.

    A bulk call that was cut off goes on inside Label Studio. Its rows appear together, so wait until they have, or
    until it can no longer be running.
    """
    if version.writing_since is not None:
        expected = len(job.state.all_scores(version))
        until = version.writing_since + SETTLE_SECONDS + SETTLE_SECONDS_PER_ROW * expected
        while job.state.now() < until and job.gateway.model_versions(job.project.id).get(version.name, 0) < expected:
            job.check()
            time.sleep(0.5)
    _read_back(job, version)
    return job.state.unwritten(version)


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
    ours = job.state.scored_task_ids(version)
    # In this order a kill in between leaves no row that is held and counts as unwritten: it would be written twice.
    job.state.mark_written(version, job.owner, sorted(ours & held))
    job.state.mark_written(version, job.owner, sorted(ours - held), written=False)


def _drop_deleted(job: Job, task_id: int, error: BackendError) -> None:
    """A refused prediction is fine when its task was deleted meanwhile; anything else is for the owner to know."""
    if any(task.id == task_id for task in job.gateway.tasks(job.project.id, after_id=task_id - 1)):
        raise error
    job.state.replace_tasks(job.project.id, {}, [task_id])


def project_spec(job: Job) -> LabelSpec:
    """The label config as it is now: Label Studio refuses answers to a question that is no longer asked."""
    return parse_label_config(job.gateway.project(job.project.id).label_config)


def _result(spec: LabelSpec, row: Answer) -> list[dict[str, object]]:
    if row.label is None or row.label not in spec.classes:
        return []
    return to_region(spec, row.label, row.confidence if row.confidence is not None else row.score)
