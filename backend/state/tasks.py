"""What Label Studio held when it was last read: tasks, labels and annotations; and the images that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from backend.state.database import AMONG, CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.records import BrokenImage, Version
from backend.state.schema import (
    asked_again,
    broken,
    changed_images,
    labels,
    pool_counts,
    projects,
    score_blocks,
    synthetic_tasks,
    tasks,
)
from backend.state.scores import Scores

WAIT_GROWTH, LONGEST_WAIT = 4, 86_400.0
"""An image that kills whoever decodes it waits this many times as long each time, up to a day."""


class Tasks:
    """What :mod:`backend.worker.sync` found in Label Studio at the last comparison."""

    def __init__(self, database: Database, scores: Scores) -> None:
        self._db, self._scores = database, scores

    def ids(self, project_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Every known task (N,) int64, ascending, and whether it is labeled (N,) bool."""
        query = sa.select(tasks.c.task_id, tasks.c.labelled).where(tasks.c.project_id == project_id)
        found = self._db.integers(query.order_by(tasks.c.task_id))
        return found[:, 0], found[:, 1].astype(bool)

    def count(self, project_id: int) -> int:
        """The number of known tasks."""
        query = sa.select(sa.func.count()).select_from(tasks).where(tasks.c.project_id == project_id)
        with self._db.reader.connect() as conn:
            return int(conn.scalar(query) or 0)

    def has_unlabeled(self, project_id: int, count: int) -> bool:
        """Whether ``count`` tasks or more are not labeled."""
        query = sa.select(tasks.c.task_id).where(tasks.c.project_id == project_id, sa.not_(tasks.c.labelled))
        with self._db.reader.connect() as conn:
            return conn.scalar(query.order_by(tasks.c.task_id).offset(count - 1).limit(1)) is not None

    def newest(self, project_id: int) -> int:
        """The highest id of a known task; 0 if there is none."""
        with self._db.reader.connect() as conn:
            query = sa.select(sa.func.max(tasks.c.task_id)).where(tasks.c.project_id == project_id)
            return int(conn.scalar(query) or 0)

    def sources(self, project_id: int, task_ids: Iterable[int]) -> dict[int, str]:
        """Task id → image source, of those of ``task_ids`` that are known, in the given order."""
        wanted = list(task_ids)
        if not wanted:
            return {}
        mine = (tasks.c.project_id == project_id, self._db.among(tasks.c.task_id, wanted))
        with self._db.reader.connect() as conn:
            found = {row.task_id: row.source for row in conn.execute(sa.select(tasks).where(*mine))}
        return {task: found[task] for task in wanted if task in found}

    def sources_between(self, project_id: int, after: int, upto: int | None) -> dict[int, str]:
        """Task id → image source, of the known tasks with ``after`` < id <= ``upto``; None: no upper limit."""
        query = sa.select(tasks.c.task_id, tasks.c.source)
        query = query.where(tasks.c.project_id == project_id, tasks.c.task_id > after)
        if upto is not None:
            query = query.where(tasks.c.task_id <= upto)
        with self._db.reader.connect() as conn:
            return {row.task_id: row.source for row in conn.execute(query)}

    def put(self, project_id: int, found: Mapping[int, str], changed: Iterable[int] = ()) -> None:
        """Add tasks, or update their image sources. The images of those ``changed`` have to be looked at again."""
        rows = [{"project_id": project_id, "task_id": task, "source": source} for task, source in found.items()]
        again = [{"project_id": project_id, "task_id": task} for task in changed]
        for part in chunks(again, CHUNK_ROWS):  # first, so that a kill in between cannot forget it
            with self._db.engine.begin() as conn:
                self._db.upsert(conn, changed_images, part, ("task_id",))
        for part_of_rows in chunks(rows, CHUNK_ROWS):
            with self._db.engine.begin() as conn:
                self._db.upsert(conn, tasks, part_of_rows, ("source",))
                forget_counts(conn, project_id)

    def remove(self, project_id: int, removed: Iterable[int]) -> None:
        """Delete tasks together with everything that is stored about them."""
        gone = list(removed)
        if gone:  # first, so that a task that is served has not been forgotten already
            self._scores.remove_tasks(project_id, gone)
        for part in chunks(gone, READ_CHUNK):
            with self._db.engine.begin() as conn:
                for table in (tasks, labels, changed_images, broken, synthetic_tasks, asked_again):
                    conn.execute(table.delete().where(table.c.project_id == project_id, table.c.task_id.in_(part)))
                forget_counts(conn, project_id)

    def unscored(self, project_id: int, version: Version, after: int = 0, *, unfinished: bool = True) -> np.ndarray:
        """The tasks (M,) int64, ascending, that ``version`` has not scored: those with an id above ``after`` that are
        not labeled, and those that are labeled but ``unfinished``. Those with a generated image are no part of a
        pool."""
        wanted = sa.and_(tasks.c.task_id > after, sa.not_(tasks.c.labelled))
        if unfinished:
            mine = (labels.c.project_id == project_id, labels.c.task_id == tasks.c.task_id, labels.c.unfinished)
            wanted = sa.or_(wanted, sa.select(labels.c.task_id).where(*mine).correlate(tasks).exists())
        query = sa.select(tasks.c.task_id).where(tasks.c.project_id == project_id, wanted, _is_real(project_id))
        return np.setdiff1d(self._db.integers(query)[:, 0], self._scores.tasks(version))

    def changed_images(self, project_id: int) -> list[int]:
        """The tasks whose image has to be looked at again."""
        with self._db.reader.connect() as conn:
            query = sa.select(changed_images.c.task_id).where(changed_images.c.project_id == project_id)
            return list(conn.scalars(query))

    def clear_changed_images(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Forget that the images of these tasks have to be looked at again."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.engine.begin() as conn:
                mine = (changed_images.c.project_id == project_id, changed_images.c.task_id.in_(part))
                conn.execute(changed_images.delete().where(*mine))

    def set_broken(self, project_id: int, found: Iterable[tuple[int, str, str]], retry_seconds: float) -> None:
        """Set images aside: (task id, source, reason) each. A task that is set aside already has its attempts
        incremented."""
        rows = [{"task_id": task, "source": source, "reason": reason} for task, source, reason in found]
        self._set_aside(project_id, rows, retry_seconds, {"attempts": broken.c.attempts + 1})

    def set_waiting(self, project_id: int, found: Iterable[tuple[int, str, str, float]]) -> None:
        """Let images wait that are not damaged: (task id, source, reason, seconds) each."""
        by_seconds: dict[float, list[dict[str, Any]]] = {}
        for task, source, reason, seconds in found:
            row = {"task_id": task, "source": source, "reason": reason, "waiting": True, "attempts": 0}
            by_seconds.setdefault(seconds, []).append(row)
        for seconds, rows in by_seconds.items():
            self._set_aside(project_id, rows, seconds, {})

    def set_deadly(self, project_id: int, found: Iterable[tuple[int, str]], retry_seconds: float) -> None:
        """Set images aside that a process was decoding when it died: (task id, source) each. The wait grows with each
        death."""
        before = {image.task_id: image.deaths for image in self.broken_images(project_id)}
        for task, source in found:
            deaths = before.get(task, 0) + 1
            times = "" if deaths == 1 else f", {deaths} times"
            reason = f"a process ended while it decoded this image{times}"
            row = {"task_id": task, "source": source, "reason": reason, "deaths": deaths}
            wait = min(max(LONGEST_WAIT, retry_seconds), retry_seconds * WAIT_GROWTH ** (deaths - 1))
            self._set_aside(project_id, [row], wait, {"attempts": broken.c.attempts + 1, "deaths": deaths})

    def _set_aside(
        self, project_id: int, rows: list[dict[str, Any]], retry_seconds: float, again: Mapping[str, Any]
    ) -> None:
        """``again``: what else changes if a task is set aside already."""
        with self._db.engine.begin() as conn:
            fixed = {"project_id": project_id, "retry_at": self._db.now_in(conn) + retry_seconds, "waiting": False}
            for part in chunks([fixed | row for row in rows], CHUNK_ROWS):
                self._db.upsert(conn, broken, part, ("source", "reason", "retry_at", "waiting"), again)

    def clear_broken(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Forget that the images of these tasks were set aside."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.engine.begin() as conn:
                conn.execute(broken.delete().where(broken.c.project_id == project_id, broken.c.task_id.in_(part)))

    def broken_images(self, project_id: int, limit: int | None = None) -> list[BrokenImage]:
        """The images that are set aside, by task id; with a ``limit``, the first ones."""
        columns = [c for c in broken.c if c.name != "project_id"]
        query = sa.select(*columns).where(broken.c.project_id == project_id).order_by(broken.c.task_id)
        return self._db.rows(query.limit(limit), BrokenImage)

    def counts(self, project_id: int) -> dict[str, int]:
        """``tasks``, ``labelled``, ``scored`` (by the current version), ``broken``, and ``waiting`` for their image.

        The first two do not count tasks with a generated image. They are those that :meth:`keep_counts` kept, or are
        counted where none are kept.
        """
        return self.counts_of([project_id])[project_id]

    def counts_of(self, project_ids: Sequence[int]) -> dict[int, dict[str, int]]:
        """The same of each of these projects, in one query for all of them."""
        found = {project_id: dict.fromkeys(_COUNTED, 0) for project_id in project_ids}
        with self._db.reader.connect() as conn:
            for part in chunks(project_ids, READ_CHUNK):
                for project_id, *numbers in conn.execute(_COUNTS, {AMONG.key: list(part)}):
                    found[project_id] = {name: int(number) for name, number in zip(_COUNTED, numbers, strict=True)}
        return found

    def keep_counts(self, project_id: int, owner: str, count: int, labeled: int) -> None:
        """Keep how many tasks there are, and how many of them are labeled, until any of them changes: then whoever asks
        counts them, which takes as long as there are tasks. Raises LeaseLost."""
        row = {"project_id": project_id, "tasks": count, "labelled": labeled}
        with self._db.owned(project_id, owner) as conn:
            self._db.upsert(conn, pool_counts, [row], ("tasks", "labelled"))


def _is_real(project: int | sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether a row of ``tasks`` is not one with a generated image."""
    generated = sa.select(synthetic_tasks.c.task_id).where(synthetic_tasks.c.project_id == project)
    return tasks.c.task_id.not_in(generated.correlate(projects))


def _counts() -> sa.Select[Any]:
    """The query of :meth:`Tasks.counts_of`: the id of each project, and :data:`_COUNTED` of it."""
    project, version = projects.c.id, projects.c.current_version_id
    count = sa.func.count()
    mine, set_aside = tasks.c.project_id == project, broken.c.project_id == project
    of_tasks = sa.select(count).select_from(tasks).where(mine, _is_real(project))
    of_broken = sa.select(count).select_from(broken).where(set_aside)
    kept = sa.select(pool_counts).where(pool_counts.c.project_id == project)
    found = {
        "tasks": (kept.with_only_columns(pool_counts.c.tasks), of_tasks),
        "labelled": (kept.with_only_columns(pool_counts.c.labelled), of_tasks.where(tasks.c.labelled)),
        "scored": (sa.select(sa.func.sum(score_blocks.c.rows)).where(score_blocks.c.version_id == version),),
        "broken": (of_broken.where(sa.not_(broken.c.waiting)),),
        "waiting": (of_broken.where(broken.c.waiting),),
    }
    # the first of several that has an answer: tasks are counted only where no count is kept
    columns = [[query.correlate(projects).scalar_subquery() for query in found[name]] for name in _COUNTED]
    return sa.select(project, *(sa.func.coalesce(*queries, 0) for queries in columns)).where(project.in_(AMONG))


_COUNTED = ("tasks", "labelled", "scored", "broken", "waiting")
_COUNTS = _counts()


def forget_counts(conn: sa.Connection, project_id: int) -> None:
    """The kept counts are no longer right: called in each transaction that changes the tasks or which are labeled."""
    conn.execute(pool_counts.delete().where(pool_counts.c.project_id == project_id))
