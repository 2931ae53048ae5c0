"""Brings the state in line with Label Studio, the source of truth: tasks, annotations, label config and images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from backend.errors import ImageError, OwnerError
from backend.images.cache import ImageCache
from backend.images.source import fetch_image, sources
from backend.labelstudio.client import TaskRef
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind, Label
from backend.tasks.label_config import image_source
from backend.worker.job import Job
from models import ProgressFn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truth:
    """What Label Studio held at one moment.

    ``kind``: the kind of task that the label config asks for. ``sources``: task id → image source, for every task.
    ``labels``: task id → what its annotations say, in the terms of ``kind``, for every labeled task. ``annotations``:
    annotation id → its ``updated_at``, for every annotation that is a label. ``new_annotations``: how many of these are
    new or changed since the last cycle. ``refresh_seq``, ``train_seq`` and ``events`` are the hint counters, read
    *before* the comparison, so that hints which arrive during it stay unseen.
    """

    kind: AnyTaskKind
    sources: dict[int, str]
    labels: dict[int, Label]
    annotations: dict[int, str]
    new_annotations: int
    refresh_seq: int
    train_seq: int
    events: int

    @property
    def unlabeled(self) -> list[int]:
        """The tasks without a label."""
        return [task for task in self.sources if task not in self.labels]


def read_truth(job: Job, *, every_task: bool = False) -> Truth:
    """Read what changed in Label Studio, and update the state's tasks, labeled flags and counters.

    ``every_task``: read the known tasks again as well (0.4 s for 1,000). Label Studio does not report changes of a
    task's data, so they are looked for when they matter: in a cycle, and while an image is broken, which its owner may
    have fixed.

    Raises:
        LabelConfigError, SettingsError, LabelStudioRefused: the owner has to act.
        LabelStudioUnavailable: try again later.
    """
    job = job.reread()
    project, state, gateway = job.project, job.state, job.gateway
    info = gateway.project(project.id)
    kind = kind_of(info.label_config, job.settings)
    whole = info.label_config != project.label_config and kind.data_key != _data_key(job, project.label_config)
    whole = whole or every_task or bool(state.tasks.broken_images(project.id))
    known = {} if whole else state.tasks.sources(project.id)
    sources = _list_tasks(job, kind.data_key, known, info.task_number)
    job.check()
    before = state.tasks.sources(project.id)
    added = {task: source for task, source in sources.items() if before.get(task) != source}
    state.tasks.replace(project.id, added, before.keys() - sources.keys())

    labels, annotations = _read_labels(job, kind, sources)
    # What an order has to last for, and so how many of its tasks get more than a score, follows from the budget.
    kind.settings = replace(kind.settings, budget=kind.settings.budget_after(len(labels)))
    state.tasks.set_labeled(project.id, labels)
    seen = state.tasks.seen_annotations(project.id)
    new = sum(1 for number, stamp in annotations.items() if seen.get(number) != stamp)
    truth = Truth(
        kind,
        sources,
        labels,
        annotations,
        new,
        project.refresh_seq,
        project.train_seq,
        project.annotation_events,
    )
    _note_comparison(job, truth, info.title, info.label_config)
    return truth


def _read_labels(job: Job, kind: AnyTaskKind, sources: Mapping[int, str]) -> tuple[dict[int, Label], dict[int, str]]:
    """``labels`` and ``annotations`` as in :class:`Truth`."""
    labels: dict[int, Label] = {}
    annotations: dict[int, str] = {}
    for item in job.gateway.annotated(job.project.id, results=kind.reads_results, drawn=kind.draws):
        job.check()
        if item.task_id not in sources:
            continue
        label = kind.label_of(item.annotations, sources[item.task_id])
        if label is not None:
            labels[item.task_id] = label
            annotations.update(kind.counted(item.annotations))
    return labels, annotations


def _note_comparison(job: Job, truth: Truth, title: str, label_config: str) -> None:
    state, project = job.state, job.project
    state.projects.update(
        project.id,
        job.owner,
        title=title,
        label_config=label_config,
        checked_at=state.now(),
        new_annotations=truth.new_annotations,
    )
    state.projects.settle_events(project.id, truth.events)


def _list_tasks(job: Job, data_key: str, known: dict[int, str], expected: int) -> dict[int, str]:
    """The image source of every task. Reads only tasks newer than the last known one; if the number of tasks is then
    not ``expected``, because some were deleted, reads them all."""
    gateway, project_id = job.gateway, job.project.id
    sources = dict(known)
    last = max(known, default=0)
    sources.update(_sources(gateway.tasks(project_id, after_id=last), data_key))
    if len(sources) != expected and known:
        log.info("Project %s: %d tasks known, %d expected; listing them all", project_id, len(sources), expected)
        sources = _sources(gateway.tasks(project_id), data_key)
    return sources


def _sources(tasks: Iterable[TaskRef], data_key: str) -> dict[int, str]:
    return {task.id: image_source(task.data, data_key) or "" for task in tasks}


def _data_key(job: Job, label_config: str) -> str | None:
    try:
        return kind_of(label_config, job.settings).data_key
    except OwnerError:  # what was wrong with the old config no longer matters
        return None


def open_images(job: Job, truth: Truth, report: ProgressFn) -> ImageCache:
    """The project's image cache, filled with every image that can be fetched and decoded; the others are set aside.

    Broken images are tried again when they are due, or at once if their source changed.
    """
    project, state, settings = job.project, job.state, job.settings
    now = state.now()
    waiting = {
        item.task_id
        for item in state.tasks.broken_images(project.id)
        if item.retry_at > now and truth.sources.get(item.task_id) == item.source
    }
    wanted = [(task, source) for task, source in truth.sources.items() if task not in waiting]

    available = sources(job.gateway, settings)

    def fetch(task: int, source: str) -> bytes:
        job.check()
        if not source:
            raise ImageError(f'the task has no "{truth.kind.data_key}"')
        return fetch_image(source, task, available)

    cache = truth.kind.open_cache(job.folder, wanted, fetch, job.device.type)
    found = cache.sync(wanted, fetch, settings.download_workers, report)
    cache.forget(set(cache.task_ids()) - truth.sources.keys())
    broken_now = {item.task_id for item in found}
    if found:
        log.warning("Project %s: %d images set aside; first: %s", project.id, len(found), found[0].reason)
        state.tasks.set_broken(
            project.id, [(i.task_id, i.source, i.reason) for i in found], settings.retry_broken_seconds
        )
    fixed = {item.task_id for item in state.tasks.broken_images(project.id)} - broken_now - waiting
    state.tasks.clear_broken(project.id, fixed)
    return cache
