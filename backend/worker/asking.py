"""Tasks that the owner asks again: one more annotator is served them, first of all.

Label Studio serves a task until as many people as its ``overlap`` have annotated it, and never to the same person
twice. So the overlap of such a task is raised above the number of people that it has, and it gets the first place in
the order. Its annotations stay as they are. When another one comes, Label Studio counts the task as finished by itself.
"""

from __future__ import annotations

import logging

from backend.errors import BackendError, LabelStudioUnavailable
from backend.labelstudio.records import TaskAnnotations
from backend.state import Version
from backend.state.team import Asked
from backend.tasks.votes import annotator_of
from backend.worker import connection
from backend.worker.job import Job

log = logging.getLogger(__name__)


def reopen(job: Job) -> None:
    """Have Label Studio serve the tasks that are asked again, those that it does not serve yet. What it was before is
    noted first, for :func:`take_back`.

    Raises:
        LabelStudioUnavailable: call again later; it goes on where it stopped.
    """
    state, project = job.state, job.project
    served = state.labels.unfinished(project.id)
    for one in state.team.asked(project.id):
        if one.task_id in served:
            continue
        job.check()
        try:
            found = _read(job, one)
            if found is None:  # it was deleted: the next comparison forgets it
                continue
            people = max(project.overlap, 1 + len({annotator_of(annotation) for annotation in found.annotations}))
            before = None if _is_open(one, found) else (found.overlap, found.is_labeled)
            if not state.team.note_opening(project.id, one.task_id, people, before):
                continue
            job.gateway.team.reopen(one.task_id, people)
        except LabelStudioUnavailable:
            raise
        except BackendError as error:
            state.team.drop(project.id, one.task_id)
            connection.note(job, f"Label Studio does not serve task {one.task_id} again: {error}")
        else:
            state.labels.reopen(project.id, one.task_id)
            log.info("Project %s: task %d is asked again", project.name, one.task_id)


def take_back(job: Job) -> None:
    """Have Label Studio serve the tasks that were asked again by mistake as it did before, in one write each.

    Raises:
        LabelStudioUnavailable: call again later; it goes on where it stopped.
    """
    state, project = job.state, job.project
    for one in state.team.withdrawn(project.id):
        job.check()
        state.labels.reopen(project.id, one.task_id, unfinished=False)  # first: asked again now, it is opened again
        try:
            if (found := _read(job, one)) is not None:
                finished = found.is_labeled
                if one.overlap is not None and _is_open(one, found):
                    finished = _was_finished(one, one.overlap, found)
                    job.gateway.team.serve(one.task_id, one.overlap, finished=finished)
                state.labels.reopen(project.id, one.task_id, unfinished=not finished and project.overlap > 1)
        except LabelStudioUnavailable:
            raise
        except BackendError as error:
            connection.note(job, f"Label Studio does not take task {one.task_id} back: {error}")
        else:
            log.info("Project %s: task %d is asked again no more", project.name, one.task_id)
        state.team.forget_withdrawn(project.id, one.task_id)


def _read(job: Job, one: Asked) -> TaskAnnotations | None:
    return next(iter(job.gateway.annotations_of(job.project.number, [one.task_id], results=False)), None)


def _was_finished(one: Asked, overlap: int, found: TaskAnnotations) -> bool:
    """Whether Label Studio would count it as finished by its ``overlap`` of before, with the annotations of now: as it
    did then, unless some were deleted."""
    submitted = sum(not annotation.get("was_cancelled") for annotation in found.annotations)
    return submitted >= overlap or (bool(one.finished) and len(found.annotations) >= one.annotations)


def _is_open(one: Asked, found: TaskAnnotations) -> bool:
    """Whether Label Studio serves the task because it was opened, and nobody has changed that since."""
    return one.opened_for is not None and one.opened_for == found.overlap


def put_in_front(job: Job, version: Version) -> bool:
    """Give the tasks that are asked again the first places in the order of ``version``, those that have a place in it.
    Returns whether any moved: their predictions are still to be written."""
    state, project = job.state, job.project
    waiting = [one.task_id for one in state.team.asked(project.id) if one.placed_in != version.id]
    there = state.scores.among(version, waiting)
    moved = [task for task in waiting if task in there]
    if not moved:
        return False
    written = set(state.scores.written(version).tolist()) & set(moved)
    if written:  # with another score, which Label Studio does not replace
        for prediction in job.gateway.predictions.of_version(project.number, version.name):
            if prediction.task_id in written:
                job.check()
                job.gateway.predictions.delete(prediction.id)
        state.scores.mark_written(version, job.owner, sorted(written), written=False)
    state.scores.put_first(version, job.owner, moved)
    state.team.place(project.id, version.id, moved)
    return True
