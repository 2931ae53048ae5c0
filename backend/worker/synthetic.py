"""Generated images as tasks: planned in the state, imported into Label Studio once, asked for first, and removed.

Label Studio does not deduplicate. So the images of a version are stored before Label Studio is told of them, each with
a mark that also stands in its task's data (:mod:`backend.tasks.synthetic`). Whenever the outcome of an import is
unknown (a kill, a timeout, a 5xx), the tasks that have come since are read back first, and only what is missing is
sent. Should an import that was given up for lost arrive after all, the copy that nobody has annotated is deleted.

Only what carries our mark, stands in the state as planned, is what was planned to the last bit, and has neither an
annotation nor a draft, is ever deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.errors import BackendError, LabelStudioUnavailable, LeaseLost, Stopped
from backend.files import predictions_folder
from backend.images.encoding import encode_png, grid
from backend.settings.core import Settings
from backend.state import Mark, PlannedImage, SyntheticTask, Version
from backend.tasks.synthetic import BATCH, data_uri, digest_of, is_unchanged, mark_of, task_data
from backend.worker import connection, publisher
from backend.worker.gaps import Gaps
from backend.worker.job import Job
from backend.worker.results import project_kind
from backend.worker.truth import Truth
from models.files import replace_file
from samplers import SAMPLERS
from samplers.base import Answered, Generated

if TYPE_CHECKING:
    from backend.images.cache import ImageCache
    from backend.learning.learner import Learner
    from models.data import Runtime

log = logging.getLogger(__name__)

SETTLE_SECONDS = 20.0
"""How long Label Studio may go on with an import whose connection was lost."""

LOOK_SECONDS = 0.5

PICTURE = "generated.png"

PIECE_SECONDS = 30.0
"""How long a project's upkeep deletes tasks before other work gets its turn."""


def asked_for(settings: Settings) -> bool:
    """Whether the project's sampler generates images, and may import them."""
    return SAMPLERS[settings.sampler].generates and settings.allow_synthetic_tasks


# -- in a cycle --------------------------------------------------------------------------------------------------------


def generated(job: Job, truth: Truth, learner: Learner, cache: ImageCache, runtime: Runtime) -> Generated | None:
    """The images to ask for before the next cycle: those that still wait count toward their share. None: there are to
    be none, or the generator is not to be trusted."""
    settings = truth.kind.settings
    if not asked_for(settings) or learner.standin is not None:
        return None
    waiting = sum(task.served for task in job.state.synthetic.tasks(job.project.id))
    count = int(settings.synthetic_share * settings.budget + 1e-9) - waiting
    if count <= 0:
        return None
    answers = (np.array(list(tasks), dtype=np.int64) for tasks in (truth.to_learn, truth.synthetic.unrecognized))
    recognized, unrecognized = (cache.rows(cache.present(tasks)) for tasks in answers)
    return learner.sampler.generate(learner.net, cache.pixels, count, Answered(recognized, unrecognized), runtime)


def figures(truth: Truth, made: Generated | None) -> dict[str, Any]:
    """For the metrics of a cycle: how many generated images were answered before, and what was generated."""
    found: dict[str, Any] = {}
    if len(truth.synthetic.tasks):
        answers = {"synthetic_labels": truth.synthetic.labels, "synthetic_unrecognized": truth.synthetic.unrecognized}
        found |= {name: len(tasks) for name, tasks in answers.items()}
    if made is not None and len(made.seeds):
        means = {"synthetic_before": float(made.before.mean()), "synthetic_after": float(made.after.mean())}
        found |= {"synthetic_generated": len(made.seeds), **means}
    return found


def plan(job: Job, batch: str, made: Generated) -> None:
    """Store the images of the version ``batch``, whose row is not stored yet: a version is never without them. A
    picture of all of them lies beside its predictions."""
    if len(made.images):
        folder = predictions_folder(job.folder, batch)
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / PICTURE, encode_png(grid(made.images)))
    after = job.state.tasks.newest(job.project.id)
    images = []
    for place, (pixels, seed) in enumerate(zip(made.images, made.seeds.tolist(), strict=True)):
        address = data_uri(encode_png(pixels))
        images.append(PlannedImage(Mark(batch, seed), place, digest_of(address), address, after))
    job.state.synthetic.plan(job.project.id, job.owner, images)


def ask_first(job: Job, version: Version) -> None:
    """Import the images of ``version``, which is about to be published, and put all that wait at the beginning of its
    order, if the project is to have any. Where Label Studio does not respond, upkeep goes on with it."""
    if not asked_for(job.settings):
        return
    try:
        bring_in(job, version)
    except LabelStudioUnavailable as error:
        log.info("Project %s: generated images have to wait: %s", job.project.name, error)
    put_in_front(job, version)


# -- in upkeep ---------------------------------------------------------------------------------------------------------


def look_after(job: Job, truth: Truth, version: Version) -> None:
    """Bring what Label Studio holds of generated images in line with what it should: no image twice, those of the
    current ``version`` imported and asked for first, none again that showed nothing; or none that is not labeled, if
    the project's sampler is another by now, or may import none."""
    state, project_id = job.state, job.project.id
    unsent = state.synthetic.has_to_send(project_id)
    if not unsent and not len(truth.synthetic.tasks):
        return
    wanted = asked_for(truth.kind.settings)
    if unsent:
        state.synthetic.give_up(project_id, job.owner, keep=version.name if wanted else "")
    if not wanted:
        open_tasks = [task for task in state.synthetic.tasks(project_id) if not task.annotations]
        remove(job, open_tasks, truth.kind.data_key)
        return
    bring_in(job, version)
    remove(job, _copies(state.synthetic.tasks(project_id)), truth.kind.data_key)
    _withdraw(job, version, truth.synthetic.unrecognized)
    publisher.complete(job, version, only=put_in_front(job, version))
    _make_tab(job, truth.kind.data_key)


def bring_in(job: Job, version: Version) -> None:
    """Import those images of ``version`` that Label Studio does not hold.

    Raises:
        LabelStudioUnavailable: call again later; it goes on where it stopped.
    """
    state, project_id, number = job.state, job.project.id, job.project.number
    missing = _settled(job, version.name)
    if not missing:
        return
    data_key = project_kind(job).data_key
    job.check()
    state.synthetic.mark_sent(project_id, job.owner, version.name, state.now())
    try:
        job.gateway.own_tasks.create(number, [task_data(image, data_key) for image in missing])
    except LabelStudioUnavailable as error:
        if not error.maybe_written:
            state.synthetic.mark_sent(project_id, job.owner, version.name, None)
        raise
    except (LeaseLost, Stopped):
        raise
    except BackendError as error:
        state.synthetic.give_up(project_id, job.owner)
        connection.note(job, f"Label Studio does not take generated images as tasks: {error}")
        return
    _read_back(job, missing)
    if state.synthetic.has_to_send(project_id, version.name):  # better too few than any twice
        log.warning("Project %s: some generated images of %s cannot be found again", job.project.name, version.name)
        state.synthetic.give_up(project_id, job.owner)
    log.info("Project %s: %d generated images of %s are tasks now", job.project.name, len(missing), version.name)


def put_in_front(job: Job, version: Version) -> frozenset[int]:
    """Give all tasks with a generated image that are still to be labeled a place at the beginning of the order of
    ``version``, its own images first. Returns these tasks; their predictions are still to be written."""
    waiting = [task for task in job.state.synthetic.tasks(job.project.id) if task.served]
    waiting.sort(key=lambda task: (task.mark.batch != version.name, task.planned.place if task.planned else 0))
    tasks = np.array([task.task_id for task in waiting], dtype=np.int64)
    new = tasks[~np.isin(tasks, job.state.scores.tasks(version))] if len(tasks) else tasks
    if len(new):
        share = np.arange(1, len(new) + 1) / (len(new) + 1)
        scores = job.state.scores.lowest(version) * share
        job.state.scores.add(job.project.id, job.owner, version.id, new, scores, None, None)
    return frozenset(tasks.tolist())


def remove(job: Job, tasks: Iterable[SyntheticTask], data_key: str, seconds: float = PIECE_SECONDS) -> int:
    """Delete those of the ``tasks`` from Label Studio that are ours and that nobody has worked on, for ``seconds``; the
    rest has its turn in the next upkeep. Returns how many were deleted.

    Each is looked at just before it is deleted. One that somebody has begun to label stays.
    """
    until, gaps, deleted = time.monotonic() + seconds, Gaps(job), 0
    for task in tasks:
        if task.planned is None:
            continue
        if deleted and time.monotonic() >= until:
            job.state.hints.add(job.project.id, tasks=True)
            break
        gaps.wait()
        job.check()
        found = job.gateway.own_tasks.work_on(job.project.number, [task.task_id])
        if any(one.annotations or one.drafts or not is_unchanged(one.data, task.planned, data_key) for one in found):
            continue
        job.gateway.own_tasks.delete(task.task_id)
        job.state.tasks.remove(job.project.id, [task.task_id])
        deleted += 1
    if deleted:
        log.info("Project %s: %d tasks with generated images were removed", job.project.name, deleted)
    return deleted


# -- steps -------------------------------------------------------------------------------------------------------------


def _settled(job: Job, batch: str) -> list[PlannedImage]:
    """The images of ``batch`` that still have to be sent.

    Label Studio goes on with an import whose connection was lost. All its tasks appear at once, so if some were sent,
    wait until any have appeared, or until the import can no longer be running.
    """
    planned = job.state.synthetic.to_send(job.project.id, batch)
    sent = [image.sent_at for image in planned if image.sent_at is not None]
    if not sent:
        return planned
    until = min(*sent, job.state.now()) + SETTLE_SECONDS
    while True:
        _read_back(job, planned)
        left = job.state.synthetic.to_send(job.project.id, batch)
        if len(left) < len(planned) or job.state.now() >= until:
            return left
        job.check()
        time.sleep(LOOK_SECONDS)


def _read_back(job: Job, planned: Sequence[PlannedImage]) -> None:
    """Note which tasks with a generated image have come since these were planned."""
    after = min(image.after_task for image in planned)
    marks = {task.id: mark_of(task.data) for task in job.gateway.tasks(job.project.number, after_id=after)}
    job.check()
    job.state.synthetic.note(job.project.id, {task: mark for task, mark in marks.items() if mark is not None})


def _copies(tasks: Sequence[SyntheticTask]) -> list[SyntheticTask]:
    """Those without an annotation of whose image there is another task: an annotated one, or else an earlier one."""
    kept = {task.mark for task in tasks if task.annotations}
    copies = []
    for task in tasks:
        if task.annotations:
            continue
        if task.mark in kept:
            copies.append(task)
        kept.add(task.mark)
    return copies


def _withdraw(job: Job, version: Version, tasks: Iterable[int]) -> None:
    """Take tasks out of the order of ``version``, so that nobody else is asked for them."""
    gone = np.intersect1d(np.array(list(tasks), dtype=np.int64), job.state.scores.tasks(version))
    if not len(gone):
        return
    held = set(gone.tolist())
    for prediction in job.gateway.predictions.of_version(job.project.number, version.name):
        if prediction.task_id in held:
            job.check()
            job.gateway.predictions.delete(prediction.id)
    job.state.scores.remove_tasks(job.project.id, held)


def _make_tab(job: Job, data_key: str) -> None:
    """Create the tab of the generated images, once: from then on it belongs to the owner."""
    identity = digest_of(f"{job.project.key}@{job.project.studio}")  # our own ids are used again
    note = f"synthetic tab {identity[:16]}"
    if job.settings.manage_queue and not job.state.notes.get(note):
        job.gateway.queue_tab.ensure_synthetic(job.project.number, data_key, BATCH)
        job.state.notes.put(note, "made")
