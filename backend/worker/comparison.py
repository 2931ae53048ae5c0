"""Compares the tasks and annotations of the state with those of Label Studio, and brings them in line.

A comparison reads only what changed since the one before. Whatever such a read can miss (a bulk change that leaves no
trace, a deletion) shows in Label Studio's own counts; then, after a restart, and from time to time, everything is read
again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from backend.labelstudio.records import ChangedTask, ProjectInfo, TaskAnnotations, TaskRef
from backend.tasks.base import AnyTaskKind
from backend.tasks.label_config import image_source
from backend.tasks.synthetic import mark_of
from backend.worker import acceptance
from backend.worker.job import Job
from backend.worker.stored_labels import stored_label

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often changes are read again while Label Studio's counts do not fit, because people go on annotating."""

_DRAWN_AT_A_TIME = 10
"""Tasks whose drawn regions, with those of their predictions, are in memory at once."""


@dataclass(frozen=True)
class Comparison:
    """One comparison of the state with Label Studio."""

    job: Job
    kind: AnyTaskKind
    overlap: int = 1
    asked: frozenset[int] = frozenset()
    """The tasks that one more annotator is to label, whatever the overlap of the project is."""

    def run(self, info: ProjectInfo, whole: bool) -> tuple[bool, list[int] | None]:
        """Read what changed, or everything: if that is asked for (``whole``), or if Label Studio's counts say that the
        changes are not all. ``info``: the project as it was a moment ago.

        Returns whether everything was read, and the misfit to keep: see :meth:`_misfit`.
        """
        if whole:
            self._read_everything()
            return True, None
        if self._read_until_it_fits(info):
            return False, self.job.project.misfit
        log.info("Project %s: Label Studio's counts do not fit what is known; reading everything", self.job.project.id)
        before = self.job.gateway.project(info.id)
        self._read_everything()
        return True, self._misfit(before, self.job.gateway.project(info.id))

    def read_annotations(self, info: ProjectInfo) -> bool:
        """Read only what was annotated since the last comparison, a small part of what changed: that is mostly the
        predictions that were written. Returns whether the state then has as many tasks and annotations as Label Studio,
        so that no label is missing or too many; images may have been exchanged. ``info``: the project as it was a
        moment ago."""
        job, seen = self.job, self.job.seen
        assert job.project.read_from is not None
        found = job.gateway.annotated_since(job.project.number, job.project.read_from)
        if found is None or len(job.state.tasks.sources(job.project.id, found)) < len(found):
            return False  # there is more than that, or tasks are new, and others may be gone
        wanted = [task for task, changed_at in found.items() if seen.get(task) != changed_at]
        self._store(
            item for item in job.gateway.annotations_of(job.project.number, wanted, **self._wanted) if item.annotations
        )
        seen.clear()
        seen.update(found)
        return self._fits(info, info) or self._fits(info, job.gateway.project(info.id))

    def _read_until_it_fits(self, before: ProjectInfo) -> bool:
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

    def _read_everything(self) -> None:
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
        for item in job.gateway.annotated(job.project.number, **self._wanted, drawn=self.kind.draws):
            annotated.add(item.task_id)
            batch.append(item)
            if len(batch) == 100:
                self._store_all(batch)
                batch = []
        self._store_all(batch)
        gone = {one.task_id for one in state.labels.all(project_id)} - annotated
        state.labels.remove(project_id, sorted(gone))

    @property
    def _wanted(self) -> dict[str, bool]:
        """What to read of each annotation."""
        return {"results": self.kind.reads_results, "shown": bool(self.kind.compares)}

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
        items = [one for one in job.gateway.annotations_of(project.number, wanted, **self._wanted) if one.annotations]
        state.labels.remove(project.id, doubted - {item.task_id for item in items})
        self._store(items)
        if self.kind.draws:
            self._compare_drawn(items)

    def _misfit(self, before: ProjectInfo, after: ProjectInfo) -> list[int]:
        """By how much Label Studio's counts of tasks, submitted and skipped annotations exceed those of the state
        although everything was read between ``before`` and ``after``. Then that is no reason to read everything again.
        If tasks were added or deleted meanwhile, that may be the difference, which the next comparison has to find."""
        tasks, *annotations = [
            0 if theirs == -1 else theirs - own for own, theirs in zip(self._counts(), _counts(after), strict=True)
        ]
        return [tasks if before.task_number == after.task_number else 0, *annotations]

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
        before = state.labels.preannotated(project_id, sources)
        found = [
            stored_label(self.kind, item, sources[task], task in generated, self._unfinished(item), before.get(task))
            for item in items
            if (task := item.task_id) in sources
        ]
        state.labels.put(project_id, found)

    def _store_all(self, items: Sequence[TaskAnnotations]) -> None:
        """The same where everything is read: what is drawn is read again only where it was compared before."""
        self._store(items)
        if self.kind.draws:
            known = self.job.state.labels.preannotated(self.job.project.id, [item.task_id for item in items])
            self._compare_drawn([item for item in items if item.task_id in known])

    def _compare_drawn(self, items: Sequence[TaskAnnotations]) -> None:
        """Of labels that were begun from a prediction: whether they were accepted. What is drawn is large, so it is
        read in small parts, and only where that is not known."""
        job, project = self.job, self.job.project
        before = job.state.labels.preannotated(project.id, [item.task_id for item in items])
        unread = iter(acceptance.to_be_read(self.kind, items, before))
        while tasks := list(islice(unread, _DRAWN_AT_A_TIME)):
            self._store(job.gateway.annotations_of(project.number, tasks, results=True, shown=True))

    def _unfinished(self, item: TaskAnnotations) -> bool:
        """Whether Label Studio serves the task to further annotators. With an overlap of 1, a task that is not labeled
        was skipped: it keeps its place in the order."""
        return (self.overlap > 1 or item.task_id in self.asked) and not item.is_labeled


def _counts(info: ProjectInfo) -> tuple[int, int, int]:
    """Label Studio's counts of tasks, submitted and skipped annotations; -1: it does not tell."""
    return info.task_number, info.submitted, info.skipped
