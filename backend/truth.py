"""Compare the state with Label Studio, which alone knows the truth: tasks, annotations, label config."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from backend.errors import ImageError, LabelConfigError
from backend.images import ImageCache
from backend.job import Job, Progress
from backend.labeling import LabelSpec, countable, image_source, parse_label_config, target_of
from backend.labelstudio import TaskRef

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truth:
    """What Label Studio held at one moment.

    ``sources``: task id → image source, of every task. ``targets``: task id → class name, of every task with a label.
    ``annotations``: annotation id → its ``updated_at``, of every annotation that is a label. ``refresh_seq``,
    ``train_seq`` and ``events`` are the hint counters as read *before* the comparison: later hints stay unseen.
    """

    spec: LabelSpec
    sources: dict[int, str]
    targets: dict[int, str]
    annotations: dict[int, str]
    new_annotations: int
    refresh_seq: int
    train_seq: int
    events: int

    @property
    def unlabelled(self) -> list[int]:
        return [task for task in self.sources if task not in self.targets]


def read_truth(job: Job, *, every_task: bool = False) -> Truth:
    """List what changed in Label Studio, and bring the state's tasks, labelled flags and counters up to date.

    ``every_task``: read the known tasks again too (0.4 s for 1,000). Label Studio reports no change of a task's data,
    so it is looked for where it matters: in a cycle, and while an image is broken that may have been put right.

    Raises:
        LabelConfigError, LabelStudioRefused: the owner has to act.
        LabelStudioUnavailable: later.
    """
    job = job.reread()
    project, state, gateway = job.project, job.state, job.gateway
    info = gateway.project(project.id)
    spec = parse_label_config(info.label_config)
    whole = info.label_config != project.label_config and spec.data_key != _data_key(project.label_config)
    whole = whole or every_task or bool(state.broken_images(project.id))
    known = {} if whole else state.known_tasks(project.id)
    sources = _list_tasks(job, spec, known, info.task_number)
    job.check()
    before = state.known_tasks(project.id)
    added = {task: source for task, source in sources.items() if before.get(task) != source}
    state.replace_tasks(project.id, added, before.keys() - sources.keys())

    targets: dict[int, str] = {}
    annotations: dict[int, str] = {}
    for item in gateway.annotated(project.id):
        target = target_of(item.annotations, spec)
        if target is not None and item.task_id in sources:
            targets[item.task_id] = target
            annotations.update(countable(item.annotations, spec))
    state.set_labelled(project.id, targets)
    seen = state.seen_annotations(project.id)
    new = sum(1 for number, stamp in annotations.items() if seen.get(number) != stamp)
    truth = Truth(
        spec,
        sources,
        targets,
        annotations,
        new,
        project.refresh_seq,
        project.train_seq,
        project.annotation_events,
    )
    _note_comparison(job, truth, info.title, info.label_config)
    return truth


def _note_comparison(job: Job, truth: Truth, title: str, label_config: str) -> None:
    state, project = job.state, job.project
    state.update_project(
        project.id,
        job.owner,
        title=title,
        label_config=label_config,
        checked_at=state.now(),
        new_annotations=truth.new_annotations,
    )
    state.settle_events(project.id, truth.events)


def _list_tasks(job: Job, spec: LabelSpec, known: dict[int, str], expected: int) -> dict[int, str]:
    """Only the tasks after the last known one when the count then agrees; else (some were deleted) all of them."""
    gateway, project_id = job.gateway, job.project.id
    sources = dict(known)
    last = max(known, default=0)
    sources.update(_sources(gateway.tasks(project_id, after_id=last), spec))
    if len(sources) != expected and known:
        log.info("Project %s: %d tasks known, %d there; listing them all", project_id, len(sources), expected)
        sources = _sources(gateway.tasks(project_id), spec)
    return sources


def _sources(tasks: Iterable[TaskRef], spec: LabelSpec) -> dict[int, str]:
    return {task.id: image_source(task.data, spec) or "" for task in tasks}


def _data_key(label_config: str) -> str | None:
    try:
        return parse_label_config(label_config).data_key
    except LabelConfigError:  # whatever was wrong with the old config, it no longer matters
        return None


def open_images(job: Job, truth: Truth, progress: Progress) -> ImageCache:
    """The project's image cache with every task in it whose image can be had; the others are set aside and listed.

    Broken images are tried again when their time has come, and at once when their source changed.
    """
    project, state, settings = job.project, job.state, job.settings
    now = state.now()
    waiting = {
        item.task_id
        for item in state.broken_images(project.id)
        if item.retry_at > now and truth.sources.get(item.task_id) == item.source
    }
    wanted = [(task, source) for task, source in truth.sources.items() if task not in waiting]

    def fetch(task: int, source: str) -> bytes:
        job.check()
        if not source:
            raise ImageError(f'the task has no "{truth.spec.data_key}"')
        return job.gateway.fetch_image(source, task)

    cache = ImageCache.open_auto(job.folder, settings.image_size, wanted, fetch)
    found = cache.sync(wanted, fetch, settings.download_workers, progress)
    cache.forget(set(cache.task_ids()) - truth.sources.keys())
    broken_now = {item.task_id for item in found}
    if found:
        log.warning("Project %s: %d images set aside; first: %s", project.id, len(found), found[0].reason)
        state.set_broken(project.id, [(i.task_id, i.source, i.reason) for i in found], settings.retry_broken_seconds)
    mended = {item.task_id for item in state.broken_images(project.id)} - broken_now - waiting
    state.clear_broken(project.id, mended)
    return cache
