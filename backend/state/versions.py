"""Versions, their scores, and which of them Label Studio is known to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from backend.state.database import CHUNK_ROWS, READ_CHUNK, Database, chunks
from backend.state.last_seen import record_seen
from backend.state.schema import Answer, Version, broken, projects, scores, tasks, versions


class Versions(Database):
    """Orders of the pool: drafted, scored, being published, current, superseded, removed."""

    def add_version(
        self,
        project_id: int,
        owner: str,
        *,
        cycle: int,
        name: str,
        sampler: str,
        checkpoint: str | None,
        classes: Sequence[str],
        metrics: Mapping[str, Any],
        task_ids: np.ndarray,
        published: np.ndarray,
        class_index: np.ndarray | None,
        confidence: np.ndarray | None,
        seen: Mapping[int, str] | None = None,
        train_seen: int | None = None,
    ) -> Version:
        """A new version with its scores, (N,) each. It stays a draft until the last row is in: a process killed half
        way leaves a draft, which :meth:`drop_drafts` removes.

        ``seen`` and ``train_seen`` are the truth it was learnt from. They are recorded in the transaction that makes
        the draft a version: whoever is killed later only publishes it, and never learns from the same labels again.
        """
        with self._owned(project_id, owner) as conn:
            values = {
                "project_id": project_id,
                "cycle": cycle,
                "name": name,
                "sampler": sampler,
                "checkpoint": checkpoint,
                "classes": list(classes),
                "metrics": dict(metrics),
            }
            made = conn.execute(versions.insert().values(**values, status="draft", created_at=self._now(conn)))
            number = int(made.inserted_primary_key[0])  # type: ignore[index]
        self.add_scores(project_id, owner, number, task_ids, published, class_index, confidence)
        with self._owned(project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == number).values(status="scored"))
            if seen is not None:
                record_seen(conn, project_id, seen)
            if train_seen is not None:
                conn.execute(projects.update().where(projects.c.id == project_id).values(train_seen=train_seen))
        version = self.version(number)
        assert version is not None
        return version

    def add_scores(
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
            with self._owned(project_id, owner) as conn:
                self._upsert(conn, scores, part, ("score", "class_index", "confidence"))

    def drop_drafts(self, project_id: int, owner: str) -> None:
        with self._owned(project_id, owner) as conn:
            drafts = sa.select(versions.c.id).where(versions.c.project_id == project_id, versions.c.status == "draft")
            conn.execute(scores.delete().where(scores.c.version_id.in_(drafts)))
            conn.execute(versions.delete().where(versions.c.project_id == project_id, versions.c.status == "draft"))

    def version(self, version_id: int) -> Version | None:
        found = self._rows(sa.select(versions).where(versions.c.id == version_id), Version)
        return found[0] if found else None

    def versions(self, project_id: int, *, removed: bool = True) -> list[Version]:
        """Newest first; drafts are nobody's business. ``removed=False``: without the history, which grows for ever."""
        hidden = ("draft",) if removed else ("draft", "removed")
        query = sa.select(versions).where(versions.c.project_id == project_id, versions.c.status.not_in(hidden))
        return self._rows(query.order_by(versions.c.id.desc()), Version)

    def current_version(self, project_id: int) -> Version | None:
        query = sa.select(versions).join(projects, projects.c.current_version_id == versions.c.id)
        found = self._rows(query.where(projects.c.id == project_id), Version)
        return found[0] if found else None

    def unpublished_version(self, project_id: int) -> Version | None:
        """The newest version that is scored but not yet wholly published."""
        for version in self.versions(project_id, removed=False):
            if version.status in ("scored", "publishing"):
                return version
            if version.status == "current":
                return None
        return None

    def update_version(self, version: Version, owner: str, **values: Any) -> Version:
        with self._owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(**values))
        fresh = self.version(version.id)
        assert fresh is not None
        return fresh

    def switch_to(self, version: Version, owner: str) -> None:
        """From now on this version answers ``/predict``. The older ones are superseded, the backfill may still
        follow."""
        with self._owned(version.project_id, owner) as conn:
            older = (versions.c.project_id == version.project_id, versions.c.id != version.id)
            live = versions.c.status.in_(("scored", "publishing", "current"))
            conn.execute(versions.update().where(*older, live).values(status="superseded"))
            conn.execute(versions.update().where(versions.c.id == version.id).values(published_at=self._now(conn)))
            conn.execute(
                projects.update().where(projects.c.id == version.project_id).values(current_version_id=version.id)
            )

    def drop_scores(self, version: Version, owner: str) -> None:
        """A removed version keeps its row, as history, and loses its scores."""
        with self._owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(status="removed"))
            conn.execute(scores.delete().where(scores.c.version_id == version.id))

    def unwritten(self, version: Version) -> list[Answer]:
        """What Label Studio is not known to hold yet, in the order in which it is to be served."""
        return self._answers(version, sa.not_(scores.c.written))

    def all_scores(self, version: Version) -> list[Answer]:
        return self._answers(version)

    def mark_written(
        self, version: Version, owner: str, task_ids: Sequence[int] | None, written: bool = True
    ) -> None:
        """``None``: every row of the version, in one statement."""
        mine = scores.c.version_id == version.id
        if task_ids is None:
            with self._owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.written != written).values(written=written))
            return
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._owned(version.project_id, owner) as conn:
                conn.execute(scores.update().where(mine, scores.c.task_id.in_(part)).values(written=written))

    def has_rows(self, version: Version, *, written: bool) -> bool:
        """Is there any score of ``version`` that Label Studio is known to hold (``written``), or not known to hold?"""
        query = sa.select(scores.c.task_id).where(scores.c.version_id == version.id, scores.c.written == written)
        with self.reader.connect() as conn:
            return conn.scalar(query.limit(1)) is not None

    def scored_task_ids(self, version: Version) -> set[int]:
        with self.reader.connect() as conn:
            return set(conn.scalars(sa.select(scores.c.task_id).where(scores.c.version_id == version.id)))

    def answers(self, project_id: int, task_ids: Sequence[int]) -> dict[int, Answer]:
        """The current version's answers for those of ``task_ids`` that it has scored."""
        version = self.current_version(project_id)
        if version is None:
            return {}
        found: dict[int, Answer] = {}
        for part in chunks(list(task_ids), READ_CHUNK):
            found.update((answer.task_id, answer) for answer in self._answers(version, scores.c.task_id.in_(part)))
        return found

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
        with self.reader.connect() as conn:
            return {name: int(conn.scalar(query) or 0) for name, query in queries.items()}

    def _answers(self, version: Version, *where: sa.ColumnElement[bool]) -> list[Answer]:
        query = sa.select(scores).where(scores.c.version_id == version.id, *where).order_by(scores.c.score)
        classes = version.classes
        with self.reader.connect() as conn:
            return [
                Answer(
                    row.task_id,
                    version.name,
                    None if row.class_index is None else classes[row.class_index],
                    row.confidence,
                    row.score,
                )
                for row in conn.execute(query)
            ]
