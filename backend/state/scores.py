"""The published scores of versions, and which of them Label Studio is known to hold."""

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
        published: np.ndarray,
        class_index: np.ndarray | None,
        confidence: np.ndarray | None,
    ) -> None:
        """Scores of a version, (N,) each."""
        nothing: list[None] = [None] * len(task_ids)
        rows = [
            {"version_id": version_id, "task_id": task, "score": score, "class_index": index, "confidence": sure}
            for task, score, index, sure in zip(
                task_ids.tolist(),
                published.tolist(),
                nothing if class_index is None else class_index.tolist(),
                nothing if confidence is None else confidence.tolist(),
                strict=True,
            )
        ]
        for part in chunks(rows, CHUNK_ROWS):
            with self._db.owned(project_id, owner) as conn:
                self._db.upsert(conn, scores, part, ("score", "class_index", "confidence"))

    def drop(self, version: Version, owner: str) -> None:
        """A removed version keeps its row, as history, and loses its scores."""
        with self._db.owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(status="removed"))
            conn.execute(scores.delete().where(scores.c.version_id == version.id))

    def unwritten(self, version: Version) -> list[StoredPrediction]:
        """What Label Studio is not known to hold yet, in the order in which it is to be served."""
        return self._answers(version, sa.not_(scores.c.written))

    def all(self, version: Version) -> list[StoredPrediction]:
        return self._answers(version)

    def mark_written(self, version: Version, owner: str, task_ids: Sequence[int] | None, written: bool = True) -> None:
        """``None``: every row of the version, in one statement."""
        mine = scores.c.version_id == version.id
        if task_ids is None:
            with self._db.owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.written != written).values(written=written))
            return
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.task_id.in_(part)).values(written=written))

    def has_rows(self, version: Version, *, written: bool) -> bool:
        """Is there any score of ``version`` that Label Studio is known to hold (``written``), or not known to hold?"""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id, scores.c.written == written)
        with self._db.reader.connect() as conn:
            return conn.scalar(query.limit(1)) is not None

    def task_ids(self, version: Version) -> set[int]:
        with self._db.reader.connect() as conn:
            return set(conn.scalars(sa.select(scores.c.task_id).where(scores.c.version_id == version.id)))

    def of_tasks(self, project_id: int, task_ids: Sequence[int]) -> dict[int, StoredPrediction]:
        """The current version's answers for those of ``task_ids`` that it has scored."""
        current = sa.select(versions).join(projects, projects.c.current_version_id == versions.c.id)
        version = next(iter(self._db.rows(current.where(projects.c.id == project_id), Version)), None)
        if version is None:
            return {}
        found: dict[int, StoredPrediction] = {}
        for part in chunks(list(task_ids), READ_CHUNK):
            found.update((answer.task_id, answer) for answer in self._answers(version, scores.c.task_id.in_(part)))
        return found

    def _answers(self, version: Version, *where: sa.ColumnElement[bool]) -> list[StoredPrediction]:
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
