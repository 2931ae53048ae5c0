"""What Label Studio held when it was last read: tasks, labels and annotations; and the images that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from backend.state.database import CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.schema import BrokenImage, broken, projects, scores, seen_annotations, tasks, versions


class Tasks:
    """What :mod:`backend.worker.sync` found in Label Studio at the last comparison."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def sources(self, project_id: int) -> dict[int, str]:
        """Task id → image source, for every known task."""
        query = sa.select(tasks.c.task_id, tasks.c.source).where(tasks.c.project_id == project_id)
        with self._db.reader.connect() as conn:
            return {row.task_id: row.source for row in conn.execute(query)}

    def replace(self, project_id: int, added: Mapping[int, str], removed: Iterable[int]) -> None:
        """Add or update tasks, and delete removed ones together with their scores and broken images."""
        for part in chunks(list(removed), READ_CHUNK):
            with self._db.engine.begin() as conn:
                mine = sa.select(versions.c.id).where(versions.c.project_id == project_id)
                conn.execute(scores.delete().where(scores.c.version_id.in_(mine), scores.c.task_id.in_(part)))
                for table in (tasks, broken):
                    conn.execute(table.delete().where(table.c.project_id == project_id, table.c.task_id.in_(part)))
        rows = [{"project_id": project_id, "task_id": task, "source": source} for task, source in added.items()]
        for part_of_rows in chunks(rows, CHUNK_ROWS):
            with self._db.engine.begin() as conn:
                self._db.upsert(conn, tasks, part_of_rows, ("source",))

    def set_labeled(self, project_id: int, labeled: Iterable[int]) -> None:
        """Set which tasks are labeled: exactly those in ``labeled``."""
        mine = tasks.c.project_id == project_id
        with self._db.reader.connect() as conn:
            before = set(conn.scalars(sa.select(tasks.c.task_id).where(mine, tasks.c.labelled)))
        after = set(labeled)
        for flag, changed in ((True, after - before), (False, before - after)):
            for part in chunks(sorted(changed), READ_CHUNK):
                with self._db.engine.begin() as conn:
                    conn.execute(tasks.update().where(mine, tasks.c.task_id.in_(part)).values(labelled=flag))

    def seen_annotations(self, project_id: int) -> dict[int, str]:
        """Annotation id → its ``updated_at``, for the annotations that the newest model was trained on."""
        query = sa.select(seen_annotations).where(seen_annotations.c.project_id == project_id)
        with self._db.reader.connect() as conn:
            return {row.annotation_id: row.updated_at for row in conn.execute(query)}

    def set_broken(self, project_id: int, found: Iterable[tuple[int, str, str]], retry_seconds: float) -> None:
        """Set images aside: (task id, source, reason) each. A task that is set aside already has its attempts
        incremented."""
        with self._db.engine.begin() as conn:
            retry_at = self._db.now_in(conn) + retry_seconds
            rows = [
                {"project_id": project_id, "task_id": task, "source": source, "reason": reason, "retry_at": retry_at}
                for task, source, reason in found
            ]
            for part in chunks(rows, CHUNK_ROWS):
                again = {"attempts": broken.c.attempts + 1}
                self._db.upsert(conn, broken, part, ("source", "reason", "retry_at"), again)

    def clear_broken(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Forget that the images of these tasks were set aside."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.engine.begin() as conn:
                conn.execute(broken.delete().where(broken.c.project_id == project_id, broken.c.task_id.in_(part)))

    def broken_images(self, project_id: int) -> list[BrokenImage]:
        """The images that are set aside, by task id."""
        columns = [c for c in broken.c if c.name != "project_id"]
        query = sa.select(*columns).where(broken.c.project_id == project_id).order_by(broken.c.task_id)
        return self._db.rows(query, BrokenImage)

    def counts(self, project_id: int) -> dict[str, int]:
        """``tasks``, ``labelled``, ``scored`` (by the current version) and ``broken``."""
        mine = tasks.c.project_id == project_id
        version = sa.select(projects.c.current_version_id).where(projects.c.id == project_id).scalar_subquery()
        count = sa.func.count()
        queries = {
            "tasks": sa.select(count).select_from(tasks).where(mine),
            "labelled": sa.select(count).select_from(tasks).where(mine, tasks.c.labelled),
            "scored": sa.select(count).select_from(scores).where(scores.c.version_id == version),
            "broken": sa.select(count).select_from(broken).where(broken.c.project_id == project_id),
        }
        with self._db.reader.connect() as conn:
            return {name: int(conn.scalar(query) or 0) for name, query in queries.items()}


def record_seen(conn: sa.Connection, project_id: int, seen: Mapping[int, str]) -> None:
    """Count as new only annotations that are not in ``seen``: annotation id → its ``updated_at``."""
    conn.execute(seen_annotations.delete().where(seen_annotations.c.project_id == project_id))
    rows = [{"project_id": project_id, "annotation_id": number, "updated_at": stamp} for number, stamp in seen.items()]
    for part in chunks(rows, CHUNK_ROWS):
        conn.execute(seen_annotations.insert(), part)
    conn.execute(projects.update().where(projects.c.id == project_id).values(new_annotations=0))
