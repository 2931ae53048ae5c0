"""Compare the state with Label Studio, which alone knows the truth: tasks, annotations, label config."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.errors import ImageError, OwnerError
from backend.images.cache import ImageCache
from backend.labelstudio.client import TaskRef
from backend.settings.core import Settings
from backend.tasks.classification import countable, image_source, target_of
from backend.tasks.kinds import Spec, question_of
from backend.tasks.segmentation.config import SegmentationSpec
from backend.tasks.segmentation.masks import truth_of
from backend.worker.job import Job, Progress

log = logging.getLogger(__name__)

LARGEST_FRAME = {"cpu": 256, "cuda": 1024}
"""Longer side of whole images in pixels where ``image_size`` leaves it open, by type of device."""

Annotation = Mapping[str, Any]


@dataclass(frozen=True)
class Truth:
    """What Label Studio held at one moment.

    ``sources``: task id → image source, of every task. ``targets``: of every task with a label, task id → its class
    name; where masks are asked for the :func:`mask_digest` of what its mask is made of. ``annotations``: annotation id
    → its ``updated_at``, of every annotation that is a label. ``refresh_seq``, ``train_seq`` and ``events`` are the
    hint counters as read *before* the comparison: later hints stay unseen.
    """

    spec: Spec
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
        LabelConfigError, SettingsError, LabelStudioRefused: the owner has to act.
        LabelStudioUnavailable: later.
    """
    job = job.reread()
    project, state, gateway = job.project, job.state, job.gateway
    info = gateway.project(project.id)
    spec = question_of(info.label_config, job.settings)
    whole = info.label_config != project.label_config and spec.data_key != _data_key(job, project.label_config)
    whole = whole or every_task or bool(state.tasks.broken_images(project.id))
    known = {} if whole else state.tasks.sources(project.id)
    sources = _list_tasks(job, spec, known, info.task_number)
    job.check()
    before = state.tasks.sources(project.id)
    added = {task: source for task, source in sources.items() if before.get(task) != source}
    state.tasks.replace(project.id, added, before.keys() - sources.keys())

    targets, annotations = _read_labels(job, spec, sources)
    state.tasks.set_labeled(project.id, targets)
    seen = state.tasks.seen_annotations(project.id)
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


def _read_labels(job: Job, spec: Spec, sources: Mapping[int, str]) -> tuple[dict[int, str], dict[int, str]]:
    """Targets and annotations, as in :class:`Truth`."""
    targets: dict[int, str] = {}
    annotations: dict[int, str] = {}
    masks = isinstance(spec, SegmentationSpec)
    # Results of masks are large: they are asked for only where it counts what is in them.
    results = not isinstance(spec, SegmentationSpec) or spec.asks_more or job.settings.unlabelled == "ignore"
    for item in job.gateway.annotated(job.project.id, results=results, drawn=masks):
        job.check()
        if item.task_id not in sources:
            continue
        if isinstance(spec, SegmentationSpec):
            labels = drawn_annotations(item.annotations, spec, job.settings)
            made_of = decisive_annotation(item.annotations, spec, job.settings)
            target = None
            if made_of is not None:
                target = mask_digest(made_of, sources[item.task_id], spec, job.settings)
        else:
            labels = countable(item.annotations, spec)
            target = target_of(item.annotations, spec)
        if target is not None:
            targets[item.task_id] = target
            annotations.update(labels)
    return targets, annotations


def decisive_annotation(
    annotations: Sequence[Annotation], spec: SegmentationSpec, settings: Settings
) -> Annotation | None:
    """The annotation that a task's mask is made of, or None: it has no label.

    One without regions says that all is background; where pixels without a region are ignored it says nothing. One that
    answers other controls of the label config only is none of ours.
    """
    decisive = truth_of([one for one in map(_with_result, annotations) if _is_ours(one, spec)])
    return decisive if decisive is not None and _says_something(decisive, spec, settings) else None


def drawn_annotations(
    annotations: Sequence[Annotation], spec: SegmentationSpec, settings: Settings
) -> list[tuple[int, str]]:
    """(annotation id, ``updated_at``) of those annotations that are labels: what a budget counts."""
    submitted = [_with_result(one) for one in annotations if not one.get("was_cancelled")]
    return [
        (int(one["id"]), str(one.get("updated_at") or ""))
        for one in submitted
        if isinstance(one["result"], list) and _is_ours(one, spec) and _says_something(one, spec, settings)
    ]


def mask_digest(annotation: Annotation, source: str, spec: SegmentationSpec, settings: Settings) -> str:
    """32 hex digits that change whenever the mask of a task may: its annotation, its image, how both are read."""
    drawn = [(control.kind, control.labels) for control in spec.controls]
    reading = [spec.to_name, spec.classes, drawn, settings.unlabelled, settings.rectangles]
    made_of = [int(annotation["id"]), str(annotation.get("updated_at") or ""), source, *reading]
    return hashlib.blake2b(json.dumps(made_of).encode(), digest_size=16).hexdigest()


def _with_result(annotation: Annotation) -> Annotation:
    """As if it had no region, where the result was not asked for or is null."""
    return {**annotation, "result": annotation.get("result") or []}


def _is_ours(annotation: Annotation, spec: SegmentationSpec) -> bool:
    result = annotation["result"]
    return not isinstance(result, list) or not result or any(spec.kind_of(region) for region in result)


def _says_something(annotation: Annotation, spec: SegmentationSpec, settings: Settings) -> bool:
    return settings.unlabelled != "ignore" or any(spec.kind_of(region) for region in annotation["result"])


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


def _list_tasks(job: Job, spec: Spec, known: dict[int, str], expected: int) -> dict[int, str]:
    """Only the tasks after the last known one when the count then agrees; else (some were deleted) all of them."""
    gateway, project_id = job.gateway, job.project.id
    sources = dict(known)
    last = max(known, default=0)
    sources.update(_sources(gateway.tasks(project_id, after_id=last), spec))
    if len(sources) != expected and known:
        log.info("Project %s: %d tasks known, %d there; listing them all", project_id, len(sources), expected)
        sources = _sources(gateway.tasks(project_id), spec)
    return sources


def _sources(tasks: Iterable[TaskRef], spec: Spec) -> dict[int, str]:
    return {task.id: image_source(task.data, spec) or "" for task in tasks}


def _data_key(job: Job, label_config: str) -> str | None:
    try:
        return question_of(label_config, job.settings).data_key
    except OwnerError:  # whatever was wrong with the old config, it no longer matters
        return None


def open_images(job: Job, truth: Truth, progress: Progress) -> ImageCache:
    """The project's image cache with every task in it whose image can be had; the others are set aside and listed.

    Broken images are tried again when their time has come, and at once when their source changed.
    """
    project, state, settings = job.project, job.state, job.settings
    now = state.now()
    waiting = {
        item.task_id
        for item in state.tasks.broken_images(project.id)
        if item.retry_at > now and truth.sources.get(item.task_id) == item.source
    }
    wanted = [(task, source) for task, source in truth.sources.items() if task not in waiting]

    def fetch(task: int, source: str) -> bytes:
        job.check()
        if not source:
            raise ImageError(f'the task has no "{truth.spec.data_key}"')
        return job.gateway.fetch_image(source, task)

    if truth.spec.task == "segmentation":
        largest = LARGEST_FRAME[job.device.type]
        cache = ImageCache.open_whole(job.folder, settings.image_size, wanted, fetch, largest)
    else:
        cache = ImageCache.open_auto(job.folder, settings.image_size, wanted, fetch)
    found = cache.sync(wanted, fetch, settings.download_workers, progress)
    cache.forget(set(cache.task_ids()) - truth.sources.keys())
    broken_now = {item.task_id for item in found}
    if found:
        log.warning("Project %s: %d images set aside; first: %s", project.id, len(found), found[0].reason)
        state.tasks.set_broken(
            project.id, [(i.task_id, i.source, i.reason) for i in found], settings.retry_broken_seconds
        )
    mended = {item.task_id for item in state.tasks.broken_images(project.id)} - broken_now - waiting
    state.tasks.clear_broken(project.id, mended)
    return cache
