"""Generated images: those that are to become tasks of Label Studio, and the tasks that have become of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import sqlalchemy as sa

from backend.state.database import CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.records import Mark, PlannedImage, SyntheticTask
from backend.state.schema import labels, planned_images, synthetic_tasks


class Synthetic:
    """What is planned is stored before Label Studio is told of it, and stays: so whatever turns up there, however late,
    is known as ours, and nothing is sent twice. See :mod:`backend.worker.synthetic`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- what is planned ---------------------------------------------------------------------------------------------

    def plan(self, project_id: int, owner: str, images: Sequence[PlannedImage]) -> None:
        """Store images that are to become tasks. Raises LeaseLost unless ``owner`` holds the project."""
        rows = [
            {
                "project_id": project_id,
                "batch": image.mark.batch,
                "seed": image.mark.seed,
                "place": image.place,
                "digest": image.digest,
                "image": image.image,
                "after_task": image.after_task,
            }
            for image in images
        ]
        with self._db.owned(project_id, owner) as conn:
            if rows:
                conn.execute(planned_images.insert(), rows)

    def to_send(self, project_id: int, batch: str) -> list[PlannedImage]:
        """The images of ``batch`` that are not known to be in Label Studio, in their order."""
        query = sa.select(planned_images).where(*_unsent(project_id), planned_images.c.batch == batch)
        with self._db.reader.connect() as conn:
            return [_planned(row) for row in conn.execute(query.order_by(planned_images.c.place)).mappings()]

    def has_to_send(self, project_id: int, batch: str | None = None) -> bool:
        """Whether there is any such image, of ``batch`` if one is given."""
        where = [*_unsent(project_id), *([] if batch is None else [planned_images.c.batch == batch])]
        with self._db.reader.connect() as conn:
            return conn.scalar(sa.select(planned_images.c.seed).where(*where).limit(1)) is not None

    def mark_sent(self, project_id: int, owner: str, batch: str, at: float | None) -> None:
        """Note, before they are sent, when those of ``batch`` were; None: nothing can have arrived."""
        where = (*_unsent(project_id), planned_images.c.batch == batch)
        with self._db.owned(project_id, owner) as conn:
            conn.execute(planned_images.update().where(*where).values(sent_at=at))

    def give_up(self, project_id: int, owner: str, keep: str = "") -> None:
        """Send no more images, but those of the batch ``keep``. What was sent may still turn up."""
        where = (*_unsent(project_id), planned_images.c.batch != keep)
        with self._db.owned(project_id, owner) as conn:
            conn.execute(planned_images.delete().where(*where, planned_images.c.sent_at.is_(None)))
            conn.execute(planned_images.update().where(*where).values(image=""))

    # -- what Label Studio holds -------------------------------------------------------------------------------------

    def note(self, project_id: int, found: Mapping[int, Mark]) -> None:
        """Note tasks that show a generated image, by their id."""
        rows = [
            {"project_id": project_id, "task_id": task, "batch": mark.batch, "seed": mark.seed}
            for task, mark in sorted(found.items())
        ]
        for part in chunks(rows, CHUNK_ROWS):
            with self._db.engine.begin() as conn:
                self._db.upsert(conn, synthetic_tasks, part, ("batch", "seed"))
                for row in part:
                    same = (planned_images.c[name] == row[name] for name in ("project_id", "batch", "seed"))
                    first = sa.func.coalesce(planned_images.c.task_id, row["task_id"])
                    conn.execute(planned_images.update().where(*same).values(image="", task_id=first))

    def ids(self, project_id: int) -> np.ndarray:
        """The tasks (S,) int64, ascending, that show a generated image."""
        query = sa.select(synthetic_tasks.c.task_id).where(synthetic_tasks.c.project_id == project_id)
        return self._db.integers(query.order_by(synthetic_tasks.c.task_id))[:, 0]

    def among(self, project_id: int, task_ids: Iterable[int]) -> frozenset[int]:
        """Those of the tasks that show a generated image."""
        found: set[int] = set()
        for part in chunks(list(task_ids), READ_CHUNK):
            query = sa.select(synthetic_tasks.c.task_id)
            mine = (synthetic_tasks.c.project_id == project_id, synthetic_tasks.c.task_id.in_(part))
            found.update(self._db.integers(query.where(*mine))[:, 0].tolist())
        return frozenset(found)

    def tasks(self, project_id: int) -> list[SyntheticTask]:
        """All of them, by their id."""
        same = [synthetic_tasks.c[name] == planned_images.c[name] for name in ("project_id", "batch", "seed")]
        labeled = [synthetic_tasks.c[name] == labels.c[name] for name in ("project_id", "task_id")]
        columns = [planned_images.c[name] for name in ("place", "digest", "image", "after_task", "sent_at")]
        columns += [labels.c.submitted, labels.c.skipped, labels.c.unfinished, labels.c.label]
        query = sa.select(synthetic_tasks, planned_images.c.task_id.label("first"), *columns)
        query = query.select_from(
            synthetic_tasks.outerjoin(planned_images, sa.and_(*same)).outerjoin(labels, sa.and_(*labeled))
        )
        query = query.where(synthetic_tasks.c.project_id == project_id).order_by(synthetic_tasks.c.task_id)
        with self._db.reader.connect() as conn:
            return [_task(row) for row in conn.execute(query).mappings()]

    def counts(self, project_id: int) -> dict[str, int]:
        """How many tasks with a generated image were ``labeled`` or ``skipped``, and how many are ``waiting``."""
        found = self.tasks(project_id)
        labeled = sum(task.labeled for task in found)
        waiting = sum(not task.annotations for task in found)
        return {"labeled": labeled, "skipped": len(found) - labeled - waiting, "waiting": waiting}


def _unsent(project_id: int) -> tuple[sa.ColumnElement[bool], ...]:
    mine = planned_images.c.project_id == project_id
    return mine, planned_images.c.image != "", planned_images.c.task_id.is_(None)


def _planned(row: sa.RowMapping, task_id: str = "task_id") -> PlannedImage:
    mark = Mark(row["batch"], int(row["seed"]))
    values = (row[name] for name in ("place", "digest", "image", "after_task", "sent_at", task_id))
    return PlannedImage(mark, *values)


def _task(row: sa.RowMapping) -> SyntheticTask:
    annotations, labeled = (row["submitted"] or 0) + (row["skipped"] or 0), row["label"] is not None
    served = not annotations or bool(row["unfinished"] and labeled)
    planned, mark = None if row["place"] is None else _planned(row, "first"), Mark(row["batch"], int(row["seed"]))
    return SyntheticTask(int(row["task_id"]), mark, planned, annotations, labeled, served)
