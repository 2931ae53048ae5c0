"""The priority scores of each version's tasks, and which of them Label Studio is known to hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa

from backend.state.database import READ_CHUNK, Database, chunks
from backend.state.records import StoredPrediction, Version
from backend.state.schema import labels, projects, versions, written_predictions
from backend.state.score_blocks import ScoreBlocks
from backend.state.score_rows import as_rows, in_order


class Scores:
    """The scored tasks of every version."""

    def __init__(self, database: Database) -> None:
        self._db, self._blocks = database, ScoreBlocks(database)

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
        self._blocks.remove_tasks(project_id, owner, version_id, task_ids)
        self._blocks.add(project_id, owner, version_id, as_rows(task_ids, priority_score, class_index, confidence))

    def drop(self, version: Version, owner: str) -> None:
        """Delete a version's scores and mark it as removed; its own row stays, as history."""
        self.drop_rows(version.project_id, owner, version.id)
        with self._db.owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(status="removed"))

    def drop_rows(self, project_id: int, owner: str | None, version_id: int) -> None:
        """Delete all that is stored of the scores of a version."""
        self._blocks.drop(project_id, owner, version_id)
        mine = [written_predictions.c.version_id == version_id]
        self._db.delete_in_pieces(written_predictions, mine, project_id, owner)

    def put_first(self, version: Version, owner: str, task_ids: Sequence[int]) -> None:
        """Give tasks of a version the first places in its order, in theirs. Raises LeaseLost."""
        rows = self._blocks.of_tasks(version.id, task_ids)
        place = {task: number for number, task in enumerate(task_ids)}
        rows = rows[np.argsort([place[task] for task in rows["task"].tolist()])]
        scores = self.lowest(version) * np.arange(1, len(rows) + 1) / (len(rows) + 1)
        columns = (rows["task"].copy(), scores, rows["class_index"].copy(), rows["confidence"].copy())
        self.add(version.project_id, owner, version.id, *columns)

    def remove_tasks(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Delete the scores of these tasks in all versions of a project."""
        gone = np.array(list(task_ids), dtype=np.int64)
        mine = sa.select(versions.c.id).where(versions.c.project_id == project_id, versions.c.status != "removed")
        with self._db.reader.connect() as conn:
            found = list(conn.scalars(mine))
        for version_id in found:
            self._blocks.remove_tasks(project_id, None, version_id, gone)
            for part in chunks(gone.tolist(), READ_CHUNK):
                with self._db.engine.begin() as conn:
                    conn.execute(written_predictions.delete().where(*_written(version_id, part)))

    def to_write(self, version: Version, size: int | None) -> list[StoredPrediction]:
        """The predictions at the head of the order that Label Studio is not known to hold, in the order of the queue.

        The head are the first ``size`` tasks without any annotation, and as many unfinished ones, which Label Studio
        serves to further annotators first; None: the whole order, and tasks with annotations too."""
        if size is None:
            rows = self._blocks.rows(version.id)
        else:
            rows = in_order(np.concatenate([self._head(version, size), self._unfinished(version)[:size]]))
        return _predictions(version, rows[~np.isin(rows["task"], self.written(version))])

    def head(self, version: Version, size: int) -> tuple[int, int]:
        """Of the first ``size`` tasks of the order without any annotation: how many predictions Label Studio is known
        to hold, and how many it is not."""
        head = self._head(version, size)["task"]
        held = int(np.isin(head, self.written(version)).sum())
        return held, len(head) - held

    def first(self, version: Version, size: int) -> list[StoredPrediction]:
        """The predictions of the first ``size`` tasks of the order without any annotation, in the order of the
        queue."""
        return _predictions(version, self._head(version, size))

    def count(self, version: Version) -> int:
        """How many tasks ``version`` has scored."""
        return self._blocks.count(version.id)

    def tasks(self, version: Version) -> np.ndarray:
        """The tasks (N,) int64, ascending, that ``version`` has scored."""
        return self._blocks.tasks(version.id)

    def among(self, version: Version, task_ids: Sequence[int]) -> set[int]:
        """Those of ``task_ids`` that ``version`` has scored."""
        return set(self._blocks.of_tasks(version.id, task_ids)["task"].tolist()) if task_ids else set()

    def written(self, version: Version) -> np.ndarray:
        """The tasks (M,) int64, ascending, whose prediction Label Studio is known to hold."""
        query = sa.select(written_predictions.c.task_id).where(written_predictions.c.version_id == version.id)
        return self._db.integers(query.order_by(written_predictions.c.task_id))[:, 0]

    def mark_written(self, version: Version, owner: str, task_ids: Sequence[int], written: bool = True) -> None:
        """Record whether Label Studio holds the predictions of these tasks, all of which ``version`` has scored."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.owned(version.project_id, owner) as conn:
                if written:
                    rows = [{"version_id": version.id, "task_id": task} for task in part]
                    self._db.upsert(conn, written_predictions, rows, ("task_id",))
                else:
                    conn.execute(written_predictions.delete().where(*_written(version.id, part)))

    def has_unwritten(self, version: Version) -> bool:
        """Whether ``version`` has any prediction that Label Studio is not known to hold."""
        return self.count(version) > self._written_count(version)

    def has_written(self, version: Version) -> bool:
        """Whether Label Studio is known to hold any prediction of ``version``."""
        return self._written_count(version) > 0

    def taken(self, version: Version, priority_score: np.ndarray) -> np.ndarray:
        """Those of the priority scores (N,) that some task of ``version`` has already."""
        parts = [np.intersect1d(rows["score"], priority_score) for _, rows in self._blocks.each(version.id)]
        return np.concatenate([np.empty(0), *parts])

    def lowest(self, version: Version) -> float:
        """The score of the first task in the order; 1 if there is none."""
        return next((float(lowest) for lowest, _ in self._blocks.each(version.id)), 1.0)

    def in_order(self, version: Version) -> np.ndarray:
        """The priority scores (N,) float64 of a version, ascending."""
        return self._blocks.rows(version.id)["score"].copy()

    def order(self, version: Version) -> np.ndarray:
        """Every task (N,) int64 of a version, in the order of the queue."""
        return self._blocks.rows(version.id)["task"].copy()

    def all(self, version: Version) -> list[StoredPrediction]:
        """Every prediction of a version, in the order of the queue. For small pools: see :meth:`order`."""
        return _predictions(version, self._blocks.rows(version.id))

    def of_tasks(self, project_id: int, task_ids: Sequence[int]) -> dict[int, StoredPrediction]:
        """By task id: the current version's predictions of those ``task_ids`` that it has scored."""
        current = sa.select(versions).join(projects, projects.c.current_version_id == versions.c.id)
        version = next(iter(self._db.rows(current.where(projects.c.id == project_id), Version)), None)
        if version is None:
            return {}
        return {row.task_id: row for row in _predictions(version, self._blocks.of_tasks(version.id, task_ids))}

    def _head(self, version: Version, size: int) -> np.ndarray:
        """The rows of the first ``size`` tasks without any annotation."""
        query = sa.select(labels.c.task_id).where(labels.c.project_id == version.project_id)
        return self._blocks.first(version.id, size, self._db.integers(query)[:, 0])

    def _unfinished(self, version: Version) -> np.ndarray:
        """The rows of tasks that were annotated, and that Label Studio serves to further annotators."""
        mine = (labels.c.project_id == version.project_id, labels.c.unfinished)
        tasks = self._db.integers(sa.select(labels.c.task_id).where(*mine))[:, 0]
        return in_order(self._blocks.of_tasks(version.id, tasks.tolist()))

    def _written_count(self, version: Version) -> int:
        mine = written_predictions.c.version_id == version.id
        with self._db.reader.connect() as conn:
            return int(conn.scalar(sa.select(sa.func.count()).select_from(written_predictions).where(mine)) or 0)


def _written(version_id: int, task_ids: Sequence[int]) -> tuple[sa.ColumnElement[bool], ...]:
    return written_predictions.c.version_id == version_id, written_predictions.c.task_id.in_(task_ids)


def _predictions(version: Version, rows: np.ndarray) -> list[StoredPrediction]:
    columns = zip(*(rows[name].tolist() for name in ("task", "score", "class_index", "confidence")), strict=True)
    return [
        StoredPrediction(
            task,
            version.name,
            None if index < 0 else version.classes[index],
            None if confidence != confidence else confidence,  # NaN
            score,
        )
        for task, score, index, confidence in columns
    ]
