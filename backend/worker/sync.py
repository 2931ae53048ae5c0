"""Brings the state in line with Label Studio, the source of truth: tasks, annotations and label config.

A comparison reads only what changed since the one before. Whatever such a read can miss (a bulk change that leaves no
trace, a deletion) shows in Label Studio's own counts; then, after a restart, and from time to time, everything is read
again. Everything else works on the state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from backend.control import Arm, first_annotations, history_after
from backend.labelstudio.records import ChangedTask, ProjectInfo, TaskAnnotations, TaskRef
from backend.state import StoredLabel
from backend.tasks import kind_of
from backend.tasks.base import AnyTaskKind
from backend.tasks.label_config import image_source
from backend.tasks.records import Label
from backend.tasks.synthetic import mark_of
from backend.tasks.votes import answers_from
from backend.worker import agreement, consensus
from backend.worker.job import Job
from backend.worker.stored_labels import stored_label
from backend.worker.truth import ControlTruth, SyntheticTruth, Truth

log = logging.getLogger(__name__)

OVERLAP_SECONDS = 60.0
"""How far a read reaches back before the one before: longer than a transaction of Label Studio may stay open."""

WHOLE_SECONDS = 6 * 3600.0
"""How often everything is read although nothing seems to be missing."""

ATTEMPTS = 3
"""How often changes are read again while Label Studio's counts do not fit, because people go on annotating."""

FORMAT = 3
"""Increased whenever annotations are understood differently, so that all of them are read again."""


def read_truth(job: Job, *, whole: bool = False) -> Truth:
    """Read what changed in Label Studio, and update the state's tasks, labels and counters.

    ``whole``: read everything. That takes 0.3 ms for each task and 1.7 ms for each label, in pages with pauses.

    Raises:
        LabelConfigError, SettingsError, LabelStudioRefused: the owner has to act.
        LabelStudioUnavailable: try again later.
    """
    started = time.monotonic()
    job = job.reread()
    project, state = job.project, job.state
    info = job.gateway.project(project.number)
    kind = kind_of(info.label_config, job.settings)
    under = _read_under(info, job)
    now = state.now()
    whole = whole or project.read_from is None or project.read_under != under
    clock = now if info.clock is None else info.clock
    whole = whole or not 0 <= now - project.read_whole_at < WHOLE_SECONDS or (project.read_from or 0.0) > clock
    asked = frozenset(one.task_id for one in state.team.asked(project.id))
    comparison = Comparison(job, kind, info.overlap, asked)
    misfit = None if whole else project.misfit
    if whole:
        comparison.of_everything()
    elif not comparison.of_changes(info):
        log.info("Project %s: Label Studio's counts do not fit what is known; reading everything", project.id)
        whole = True
        comparison.of_everything()
        misfit = comparison.misfit(job.gateway.project(project.number))
    stored = consensus.decided(job, kind, state.labels.all(project.id))
    agreement.keep_agreement(job, kind, stored, fresh=whole)
    state.team.forget_answered(project.id)
    truth = _truth_of_state(job, kind, stored, started)
    state.tasks.keep_counts(project.id, job.owner, len(truth.unlabeled) + len(truth.labels), len(truth.labels))
    # What an order has to last for, and so how many of its tasks get more than a score, follows from the budget.
    kind.settings = replace(kind.settings, budget=kind.settings.budget_after(len(truth.labels)))
    state.projects.update(
        project.id,
        job.owner,
        title=info.title,
        label_config=info.label_config,
        overlap=info.overlap,
        checked_at=state.now(),
        new_annotations=truth.new_annotations,
        read_from=clock - OVERLAP_SECONDS,
        read_under=under,
        misfit=misfit,
        control=truth.control.arm.history or None,
        read_whole_at=now if whole else project.read_whole_at,
    )
    state.hints.settle(project.id, truth.events)
    return truth


def _read_under(info: ProjectInfo, job: Job) -> str:
    """A digest of everything that decides what annotations mean. If it changes, all of them are read again."""
    decisive = [FORMAT, info.label_config, sorted(job.settings.options().items()), info.overlap, info.cohort]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _truth_of_state(job: Job, kind: AnyTaskKind, stored: Sequence[StoredLabel], started: float) -> Truth:
    state, project = job.state, job.project
    tasks, labeled = state.tasks.ids(project.id)
    annotations = {int(number): str(stamp) for one in stored for number, stamp, *_ in one.counted}
    generated = state.synthetic.ids(project.id)
    apart = frozenset(generated.tolist())
    real = [one for one in stored if one.task_id not in apart and one.label is not None]
    control = _control(job, real, max(annotations, default=0))
    only_measures = 0 < len(real) == len(control.held_out)
    return Truth(
        kind,
        tasks,
        np.setdiff1d(tasks[~labeled], generated),
        np.array([one.task_id for one in real if one.unfinished], dtype=np.int64),
        {one.task_id: kind.label_from(one.label) for one in real},
        annotations,
        # labels that only measure make no cycle due: it would have nothing to learn
        0 if only_measures else consensus.new_annotations(stored, state.labels.seen(project.id)),
        project.refresh_seq,
        project.train_seq,
        project.annotation_events,
        time.monotonic() - started,
        _of_generated(kind, generated, [one for one in stored if one.task_id in apart]),
        label_seconds(real),
        control,
        consensus.stamps(stored),
        {one.task_id: answers_from(one.answers) for one in real if one.answers},
    )


def label_seconds(stored: Sequence[StoredLabel]) -> float | None:
    """The median of what Label Studio measured for an annotation: somebody who leaves a task open over lunch does not
    count for more than others. None where it measured none, as of annotations that were imported or made by its API."""
    known = [float(more[0]) for one in stored for _, _, *more in one.counted if more and more[0] is not None]
    return median(known) if known else None


def _control(job: Job, labeled: Sequence[StoredLabel], newest: int) -> ControlTruth:
    """What counts as drawn by chance, going by the order in use. ``newest``: the highest id of an annotation."""
    current = job.state.versions.current(job.project.id)
    history = job.project.control or []
    if current is not None:
        history = history_after(history, current.metrics.get("control_fraction", 0.0), newest)
    arm = Arm(job.project.folder_key, job.settings.control_fraction, history)
    return ControlTruth.of(arm, first_annotations((one.task_id, one.counted) for one in labeled))


def _of_generated(kind: AnyTaskKind, tasks: np.ndarray, stored: Sequence[StoredLabel]) -> SyntheticTruth:
    labels: dict[int, Label] = {}
    unrecognized = []
    for one in stored:
        label = None if one.label is None else kind.label_from(one.label)
        if label is not None and not kind.shows_nothing(label):
            labels[one.task_id] = label
        elif label is not None or one.skipped:
            unrecognized.append(one.task_id)
    return SyntheticTruth(tasks, labels, unrecognized)


@dataclass(frozen=True)
class Comparison:
    """One comparison of the state with Label Studio."""

    job: Job
    kind: AnyTaskKind
    overlap: int = 1
    asked: frozenset[int] = frozenset()
    """The tasks that one more annotator is to label, whatever the overlap of the project is."""

    def of_changes(self, before: ProjectInfo) -> bool:
        """Read what changed since the last comparison. Returns whether the state then has as many tasks and annotations
        as Label Studio. ``before``: the project as it was a moment ago."""
        for attempt in range(ATTEMPTS):
            self._read_changes()
            if self._fits(before, before):
                return True
            after = self.job.gateway.project(before.id)
            if self._fits(before, after):
                return True
            if attempt == 0 and self._tasks_are_missing(after):
                return False
            before = after
        return False

    def of_everything(self) -> None:
        """Read every task and every annotation."""
        job, state, project_id = self.job, self.job.state, self.job.project.id
        after = 0
        page: dict[int, str] = {}
        for task in job.gateway.tasks(job.project.number):
            page[task.id] = self._source(task)
            if len(page) == 500:
                after = self._compare_tasks(page, after, max(page))
                page = {}
        self._compare_tasks(page, after, None)
        annotated: set[int] = set()
        batch: list[TaskAnnotations] = []
        for item in job.gateway.annotated(job.project.number, results=self.kind.reads_results, drawn=self.kind.draws):
            annotated.add(item.task_id)
            batch.append(item)
            if len(batch) == 100:
                self._store(batch)
                batch = []
        self._store(batch)
        gone = {one.task_id for one in state.labels.all(project_id)} - annotated
        state.labels.remove(project_id, sorted(gone))

    def _read_changes(self) -> None:
        job, state, project = self.job, self.job.state, self.job.project
        assert project.read_from is not None
        found: dict[int, str] = {}
        annotated: list[int] = []
        for task in job.gateway.changed(project.number, project.read_from, state.tasks.newest(project.id)):
            found[task.id] = self._source(task)
            if task.annotations:
                annotated.append(task.id)
        self._put_tasks(found, state.tasks.sources(project.id, found))
        # Label Studio's count is no reason to forget a label: see backend.labelstudio.client.
        doubted = state.labels.among(project.id, found.keys() - annotated)
        wanted = [*annotated, *doubted]
        items = list(job.gateway.annotations_of(project.number, wanted, results=self.kind.reads_results))
        state.labels.remove(project.id, doubted - {item.task_id for item in items if item.annotations})
        self._store(item for item in items if item.annotations)

    def misfit(self, info: ProjectInfo) -> list[int]:
        """By how much Label Studio's counts of tasks, submitted and skipped annotations exceed those of the state
        although everything was read. Then that is no reason to read everything again."""
        return [0 if theirs == -1 else theirs - own for own, theirs in zip(self._counts(), _counts(info), strict=True)]

    def _fits(self, before: ProjectInfo, after: ProjectInfo) -> bool:
        """Whether the state's counts are those of Label Studio, or between those at two moments around the read; or
        whether they differ as they did when everything had been read."""
        counts = [_counts(info) for info in (before, after)]
        return any(
            all(
                min(first, last) <= own + excess <= max(first, last) or -1 in (first, last)
                for own, excess, first, last in zip(self._counts(), misfit, *counts, strict=True)
            )
            for misfit in ([0, 0, 0], self.job.project.misfit or [0, 0, 0])
        )

    def _counts(self) -> tuple[int, int, int]:
        state, project_id = self.job.state, self.job.project.id
        return (state.tasks.count(project_id), *state.labels.totals(project_id))

    def _tasks_are_missing(self, info: ProjectInfo) -> bool:
        """Whether tasks were deleted: reading changes again would not show which."""
        return info.task_number < self.job.state.tasks.count(self.job.project.id)

    def _compare_tasks(self, found: dict[int, str], after: int, upto: int | None) -> int:
        """Bring the tasks with ``after`` < id <= ``upto`` in line with those ``found``. Returns ``upto``."""
        known = self.job.state.tasks.sources_between(self.job.project.id, after, upto)
        self._put_tasks(found, known)
        self.job.check()
        self.job.state.tasks.remove(self.job.project.id, sorted(known.keys() - found.keys()))
        return after if upto is None else upto

    def _source(self, task: TaskRef | ChangedTask) -> str:
        """The source of the task's image. One with a generated image is noted before it is known as a task, so that it
        is never taken for a part of the pool."""
        if mark := mark_of(task.data):
            self.job.check()
            self.job.state.synthetic.note(self.job.project.id, {task.id: mark})
        return image_source(task.data, self.kind.data_key) or ""

    def _put_tasks(self, found: dict[int, str], known: dict[int, str]) -> None:
        self.job.check()
        different = {task: source for task, source in found.items() if known.get(task) != source}
        self.job.state.tasks.put(self.job.project.id, different, changed=different.keys() & known.keys())

    def _store(self, annotated: Iterable[TaskAnnotations]) -> None:
        """Store what annotations say."""
        job, state, project_id = self.job, self.job.state, self.job.project.id
        items = list(annotated)
        job.check()
        sources = state.tasks.sources(project_id, [item.task_id for item in items])
        generated = state.synthetic.among(project_id, sources)
        found = [
            stored_label(self.kind, item, sources[item.task_id], item.task_id in generated, self._unfinished(item))
            for item in items
            if item.task_id in sources
        ]
        state.labels.put(project_id, found)

    def _unfinished(self, item: TaskAnnotations) -> bool:
        """Whether Label Studio serves the task to further annotators. With an overlap of 1, a task that is not labeled
        was skipped: it keeps its place in the order."""
        return (self.overlap > 1 or item.task_id in self.asked) and not item.is_labeled


def _counts(info: ProjectInfo) -> tuple[int, int, int]:
    """Label Studio's counts of tasks, submitted and skipped annotations; -1: it does not tell."""
    return info.task_number, info.submitted, info.skipped
