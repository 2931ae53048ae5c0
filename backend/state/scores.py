"""The priority scores of each version's tasks, and which of them Label Studio is known to hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from backend.state.database import CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.schema import StoredPrediction, Version, projects, scores, versions


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
        unknown: list[None] = [None] * len(task_ids)
        columns = zip(
            task_ids.tolist(),
            priority_score.tolist(),
            unknown if class_index is None else class_index.tolist(),
            unknown if confidence is None else confidence.tolist(),
            strict=True,
        )
        rows = [
            {"version_id": version_id, "task_id": task, "score": score, "class_index": index, "confidence": certainty}
            for task, score, index, certainty in columns
        ]
        for part in chunks(rows, CHUNK_ROWS):
            with self._db.owned(project_id, owner) as conn:
                self._db.upsert(conn, scores, part, ("score", "class_index", "confidence"))

    def drop(self, version: Version, owner: str) -> None:
        """Delete a version's scores and mark it as removed; its own row stays, as history."""
        with self._db.owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(status="removed"))
            conn.execute(scores.delete().where(scores.c.version_id == version.id))

    def unwritten(self, version: Version) -> list[StoredPrediction]:
        """The predictions that Label Studio is not known to hold yet, in the order of the queue."""
        return self._predictions(version, sa.not_(scores.c.written))

    def all(self, version: Version) -> list[StoredPrediction]:
        """Every prediction of a version, in the order of the queue."""
        return self._predictions(version)

    def mark_written(self, version: Version, owner: str, task_ids: Sequence[int] | None, written: bool = True) -> None:
        """Record whether Label Studio holds these predictions; ``task_ids`` None: all of the version's, in one
        statement."""
        mine = scores.c.version_id == version.id
        if task_ids is None:
            with self._db.owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.written != written).values(written=written))
            return
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.task_id.in_(part)).values(written=written))

    def has_rows(self, version: Version, *, written: bool) -> bool:
        """Whether ``version`` has any prediction that Label Studio is known to hold (``written``), or is not."""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id, scores.c.written == written)
        with self._db.reader.connect() as conn:
            return conn.scalar(query.limit(1)) is not None

    def task_ids(self, version: Version) -> set[int]:
        """The tasks that a version has scored."""
        with self._db.reader.connect() as conn:
            return set(conn.scalars(sa.select(scores.c.task_id).where(scores.c.version_id == version.id)))

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
