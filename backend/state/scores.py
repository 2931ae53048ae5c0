"""The priority scores of each version's tasks, and which of them Label Studio is known to hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from backend.state.database import CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.schema import StoredPrediction, Version, projects, scores, tasks, versions


class Scores:
    """One row for each scored task of a version."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self,
        project_id: int,
        owner: str,
        version_id: int,
        task_ids: np.ndarray,
        priority_score: np.ndarray,
        class_index: np.ndarray | None,
        confidence: np.ndarray | None,
    ) -> None:
        """Add scored tasks to a version, (N,) each; a task that was there already is overwritten.

        Raises:
            LeaseLost: ``owner`` no longer holds the project. What was stored up to then stays.
        """
        for start in range(0, len(task_ids), CHUNK_ROWS):
            part = slice(start, start + CHUNK_ROWS)
            tasks = task_ids[part].tolist()
            unknown: list[None] = [None] * len(tasks)
            columns = zip(
                tasks,
                priority_score[part].tolist(),
                unknown if class_index is None else class_index[part].tolist(),
                unknown if confidence is None else confidence[part].tolist(),
                strict=True,
            )
            rows = [
                {"version_id": version_id, "task_id": task, "score": score, "class_index": index, "confidence": sure}
                for task, score, index, sure in columns
            ]
            with self._db.owned(project_id, owner) as conn:
                self._db.upsert(conn, scores, rows, ("score", "class_index", "confidence"))

    def drop(self, version: Version, owner: str) -> None:
        """Delete a version's scores and mark it as removed; its own row stays, as history."""
        self._db.delete_in_pieces(scores, [scores.c.version_id == version.id], version.project_id, owner)
        with self._db.owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(status="removed"))

    def to_write(self, version: Version, size: int | None) -> list[StoredPrediction]:
        """The predictions at the head of the order that Label Studio is not known to hold, in the order of the queue.

        The head are the first ``size`` tasks without any annotation; None: the whole order, and tasks with
        annotations too."""
        if size is None:
            return self._predictions(version, sa.not_(scores.c.written))
        last = self._last_of_head(version, size)
        within = () if last is None else (scores.c.score <= last,)
        free = ~self._annotated(version).exists()
        return self._predictions(version, sa.not_(scores.c.written), *within, free)

    def head(self, version: Version, size: int) -> tuple[int, int]:
        """Of the first ``size`` tasks of the order without any annotation: how many predictions Label Studio is known
        to hold, and how many it is not."""
        head = self._head(version, size).subquery()
        query = sa.select(head.c.written, sa.func.count()).group_by(head.c.written)
        with self._db.reader.connect() as conn:
            found = {bool(row[0]): int(row[1]) for row in conn.execute(query)}
        return found.get(True, 0), found.get(False, 0)

    def at_least(self, version: Version, count: int) -> bool:
        """Whether ``version`` has scored ``count`` tasks or more."""
        some = sa.select(scores.c.task_id).where(scores.c.version_id == version.id).limit(count).subquery()
        with self._db.reader.connect() as conn:
            return int(conn.scalar(sa.select(sa.func.count()).select_from(some)) or 0) >= count

    def written(self, version: Version) -> np.ndarray:
        """The tasks (M,) int64, ascending, whose prediction Label Studio is known to hold."""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id, scores.c.written)
        return self._db.integers(query.order_by(scores.c.task_id))[:, 0]

    def mark_written(self, version: Version, owner: str, task_ids: Sequence[int], written: bool = True) -> None:
        """Record whether Label Studio holds these predictions."""
        mine = scores.c.version_id == version.id
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.task_id.in_(part)).values(written=written))

    def has_rows(self, version: Version, *, written: bool) -> bool:
        """Whether ``version`` has any prediction that Label Studio is known to hold (``written``), or is not."""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id, scores.c.written == written)
        with self._db.reader.connect() as conn:
            return conn.scalar(query.order_by(scores.c.score).limit(1)) is not None

    def taken(self, version: Version, priority_score: np.ndarray) -> np.ndarray:
        """Those of the priority scores (N,) that some task of ``version`` has already."""
        found: list[float] = []
        with self._db.reader.connect() as conn:
            for part in chunks(priority_score.tolist(), READ_CHUNK):
                query = sa.select(scores.c.score).where(scores.c.version_id == version.id, scores.c.score.in_(part))
                found += conn.scalars(query)
        return np.array(found, dtype=np.float64)

    def order(self, version: Version) -> np.ndarray:
        """Every task (N,) int64 of a version, in the order of the queue."""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id).order_by(scores.c.score)
        return self._db.integers(query)[:, 0]

    def all(self, version: Version) -> list[StoredPrediction]:
        """Every prediction of a version, in the order of the queue. For small pools: see :meth:`order`."""
        return self._predictions(version)

    def of_tasks(self, project_id: int, task_ids: Sequence[int]) -> dict[int, StoredPrediction]:
        """By task id: the current version's predictions of those ``task_ids`` that it has scored."""
        current = sa.select(versions).join(projects, projects.c.current_version_id == versions.c.id)
        version = next(iter(self._db.rows(current.where(projects.c.id == project_id), Version)), None)
        if version is None:
            return {}
        found: dict[int, StoredPrediction] = {}
        for part in chunks(list(task_ids), READ_CHUNK):
            found.update((row.task_id, row) for row in self._predictions(version, scores.c.task_id.in_(part)))
        return found

    def _head(self, version: Version, size: int) -> sa.Select[Any]:
        """The rows of the first ``size`` tasks without any annotation."""
        query = sa.select(scores.c.score, scores.c.written).where(scores.c.version_id == version.id)
        free = ~self._annotated(version).exists()
        return query.where(free).order_by(scores.c.score).limit(size)

    def _last_of_head(self, version: Version, size: int) -> float | None:
        """The score of the last task of the head; None if the order ends before."""
        with self._db.reader.connect() as conn:
            last = conn.scalar(self._head(version, size).offset(size - 1).limit(1))
        return None if last is None else float(last)

    @staticmethod
    def _annotated(version: Version) -> sa.Select[Any]:
        mine = (tasks.c.project_id == version.project_id, tasks.c.task_id == scores.c.task_id)
        return sa.select(tasks.c.task_id).where(*mine, tasks.c.annotated).correlate(scores)

    def _predictions(self, version: Version, *where: sa.ColumnElement[bool]) -> list[StoredPrediction]:
        query = sa.select(scores).where(scores.c.version_id == version.id, *where).order_by(scores.c.score)
        classes = version.classes
        with self._db.reader.connect() as conn:
            return [
                StoredPrediction(
                    row.task_id,
                    version.name,
                    None if row.class_index is None else classes[row.class_index],
                    row.confidence,
                    row.score,
                )
                for row in conn.execute(query)
            ]
