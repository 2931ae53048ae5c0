"""Versions: the orders of a project's pool, current, coming and past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from backend.state.database import AMONG, Database
from backend.state.labels import Labels, record_seen
from backend.state.records import Version
from backend.state.schema import projects, versions
from backend.state.scores import Scores


class Versions:
    """The orders of each pool. A version's status is draft, scored, publishing, current, superseded or removed."""

    def __init__(self, database: Database, scores: Scores, labels: Labels) -> None:
        self._db, self._scores, self._labels = database, scores, labels

    def add(
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
        priority_score: np.ndarray,
        class_index: np.ndarray | None,
        confidence: np.ndarray | None,
        seen: Mapping[int, str] | None = None,
        train_seen: int | None = None,
    ) -> Version:
        """Store a new version with its scored tasks, (N,) each.

        It is a draft until the last row is stored: a process that is killed before leaves a draft, which
        :meth:`drop_drafts` deletes. ``seen`` and ``train_seen`` describe the labels it was trained on. They are stored
        in the transaction that turns the draft into a version, so that after a later kill the version only has to be
        published, and never trains on the same labels again.

        Raises:
            LeaseLost: ``owner`` no longer holds the project.
        """
        with self._db.owned(project_id, owner) as conn:
            values = {
                "project_id": project_id,
                "cycle": cycle,
                "name": name,
                "sampler": sampler,
                "checkpoint": checkpoint,
                "classes": list(classes),
                "metrics": dict(metrics),
            }
            draft = conn.execute(versions.insert().values(**values, status="draft", created_at=self._db.now_in(conn)))
            version_id = int(draft.inserted_primary_key[0])  # type: ignore[index]
        self._scores.add(project_id, owner, version_id, task_ids, priority_score, class_index, confidence)
        before = {} if seen is None else self._labels.seen(project_id)
        with self._db.owned(project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version_id).values(status="scored"))
            if seen is not None:
                record_seen(self._db, conn, project_id, before, seen)
            if train_seen is not None:
                conn.execute(projects.update().where(projects.c.id == project_id).values(train_seen=train_seen))
        version = self.get(version_id)
        assert version is not None
        return version

    def drop_drafts(self, project_id: int, owner: str) -> None:
        """Delete the drafts that killed processes left behind."""
        drafts = (versions.c.project_id == project_id, versions.c.status == "draft")
        with self._db.reader.connect() as conn:
            found = list(conn.scalars(sa.select(versions.c.id).where(*drafts)))
        for version_id in found:
            self._scores.drop_rows(project_id, owner, version_id)
        if found:
            with self._db.owned(project_id, owner) as conn:
                conn.execute(versions.delete().where(*drafts))

    def get(self, version_id: int) -> Version | None:
        """The version with this id, drafts included."""
        found = self._db.rows(sa.select(versions).where(versions.c.id == version_id), Version)
        return found[0] if found else None

    def of_project(self, project_id: int, *, removed: bool = True) -> list[Version]:
        """A project's versions, newest first, without drafts. ``removed=False`` also leaves out removed versions, whose
        number grows forever."""
        return self.of_projects([project_id], removed=removed)[project_id]

    def of_projects(self, project_ids: Sequence[int], *, removed: bool = True) -> dict[int, list[Version]]:
        """The same of each of these projects, in one query for all of them."""
        found: dict[int, list[Version]] = {project_id: [] for project_id in project_ids}
        for version in self._db.rows_among(_EVERY if removed else _KEPT, Version, project_ids):
            found[version.project_id].append(version)
        return found

    def names_by_cycle(self, project_id: int, limit: int) -> dict[int, str]:
        """Cycle → the name of its version, of a project's last versions, removed ones included, without drafts."""
        query = sa.select(versions.c.cycle, versions.c.name).where(versions.c.project_id == project_id)
        query = query.where(versions.c.status != "draft").order_by(versions.c.id.desc()).limit(limit)
        with self._db.reader.connect() as conn:
            return {row.cycle: row.name for row in conn.execute(query)}

    def names(self, project_id: int) -> set[str]:
        """The names of all versions that a project ever had, drafts and removed ones included."""
        return set(self.cycles_by_name(project_id))

    def cycles_by_name(self, project_id: int) -> dict[str, int]:
        """The name of each of them → its cycle, 0 of a first order."""
        query = sa.select(versions.c.name, versions.c.cycle).where(versions.c.project_id == project_id)
        with self._db.reader.connect() as conn:
            return {row.name: row.cycle for row in conn.execute(query)}

    def current(self, project_id: int) -> Version | None:
        """The version that orders the project's queue and serves ``/predict``."""
        query = sa.select(versions).join(projects, projects.c.current_version_id == versions.c.id)
        found = self._db.rows(query.where(projects.c.id == project_id), Version)
        return found[0] if found else None

    def learned(self, project_id: int) -> int:
        """How many labels the model of the current version learned from; 0 if there is none."""
        current = self.current(project_id)
        return current.labels if current else 0

    def unpublished(self, project_id: int) -> Version | None:
        """The newest version that is scored but not yet completely published."""
        for version in self.of_project(project_id, removed=False):
            if version.status in ("scored", "publishing"):
                return version
            if version.status == "current":
                return None
        return None

    def update(self, version: Version, owner: str, **values: Any) -> Version:
        """Set columns of a version. Returns the version as it is then. Raises LeaseLost."""
        with self._db.owned(version.project_id, owner) as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(**values))
        fresh = self.get(version.id)
        assert fresh is not None
        return fresh

    def move_checkpoint(self, version: Version, path: str) -> None:
        """Record where a version's checkpoint is now."""
        with self._db.engine.begin() as conn:
            conn.execute(versions.update().where(versions.c.id == version.id).values(checkpoint=path))

    def switch_to(self, version: Version, owner: str) -> None:
        """Make this the current version, which serves ``/predict``, and mark older ones as superseded. The rest of its
        predictions may still have to be written."""
        with self._db.owned(version.project_id, owner) as conn:
            older = (versions.c.project_id == version.project_id, versions.c.id < version.id)
            live = versions.c.status.in_(("scored", "publishing", "current"))
            conn.execute(versions.update().where(*older, live).values(status="superseded"))
            conn.execute(
                versions.update().where(versions.c.id == version.id).values(published_at=self._db.now_in(conn))
            )
            conn.execute(
                projects.update().where(projects.c.id == version.project_id).values(current_version_id=version.id)
            )


_OF_THEM = sa.select(versions).where(versions.c.project_id.in_(AMONG)).order_by(versions.c.id.desc())
_EVERY = _OF_THEM.where(versions.c.status != "draft")
_KEPT = _OF_THEM.where(versions.c.status.not_in(("draft", "removed")))
