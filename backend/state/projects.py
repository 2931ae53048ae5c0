"""Connected projects, and the hints that webhooks leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from backend.state.database import Database
from backend.state.schema import PER_PROJECT, Project, projects, scores, versions

_COLUMNS = [column for column in projects.c if column.name != "connected_at"]


class Projects:
    """The connected projects, and the hints that work may be waiting for them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def connect(
        self, project_id: int, key: str, label_config: str, extra_params: Mapping[str, Any] | None, url: str, token: str
    ) -> None:
        """Store what came with ``/setup``. A different ``key`` means another project that reuses the id: the old one is
        removed."""
        values = {
            "key": key,
            "label_config": label_config,
            "extra_params": dict(extra_params or {}),
            "url": url,
            "token": token,
        }
        with self._db.engine.begin() as conn:
            known = conn.execute(sa.select(projects).where(projects.c.id == project_id)).mappings().first()
            if known is not None and known["key"] != key:
                drop_project(conn, project_id)
                known = None
            if known is None:
                try:
                    with conn.begin_nested():
                        conn.execute(projects.insert().values(id=project_id, **values))
                    return
                except IntegrityError:  # Label Studio calls /setup twice, and the other call was faster
                    known = conn.execute(sa.select(projects).where(projects.c.id == project_id)).mappings().one()
            changed = {name: value for name, value in values.items() if known[name] != value}
            if changed:
                # The owner changed something: try again at once instead of waiting for the end of the back-off.
                conn.execute(
                    projects.update()
                    .where(projects.c.id == project_id)
                    .values(**changed, refresh_seq=projects.c.refresh_seq + 1, retry_at=0.0)
                )

    def hint(
        self, project_id: int, *, annotations: int = 0, tasks: bool = False, config: bool = False, train: bool = False
    ) -> bool:
        """Note that something may have changed, in one small UPDATE. Returns False if the project is not connected."""
        change: dict[str, Any] = {"annotation_events": projects.c.annotation_events + annotations}
        if tasks or config or train:
            change["retry_at"] = 0.0
        if annotations:
            change["annotated_at"] = self._db.now()
        if tasks or config:
            change["refresh_seq"] = projects.c.refresh_seq + 1
        if train:
            change["train_seq"] = projects.c.train_seq + 1
        with self._db.engine.begin() as conn:
            found = conn.execute(projects.update().where(projects.c.id == project_id).values(**change))
            return bool(found.rowcount)

    def get(self, project_id: int) -> Project | None:
        """A project, or None if it is not connected."""
        found = self._db.rows(sa.select(*_COLUMNS).where(projects.c.id == project_id), Project)
        return found[0] if found else None

    def all(self) -> list[Project]:
        """All connected projects, by id."""
        return self._db.rows(sa.select(*_COLUMNS).order_by(projects.c.id), Project)

    def update(self, project_id: int, owner: str | None = None, **values: Any) -> None:
        """Set columns of a project. Raises LeaseLost unless ``owner``, if given, holds the project."""
        with self._db.owned(project_id, owner) as conn:
            conn.execute(projects.update().where(projects.c.id == project_id).values(**values))

    def forget_tokens(self) -> None:
        """Delete the tokens that came with ``/setup``: a key of our own is used in their place."""
        held = projects.c.token != ""
        with self._db.reader.connect() as conn:
            if not conn.scalar(sa.select(sa.exists().where(held))):
                return
        with self._db.engine.begin() as conn:
            conn.execute(projects.update().where(held).values(token=""))

    def settle_events(self, project_id: int, events: int) -> None:
        """Forget the first ``events`` annotation events, because their annotations have been counted. Later ones
        stay."""
        with self._db.engine.begin() as conn:
            left = projects.c.annotation_events - events
            conn.execute(
                projects.update()
                .where(projects.c.id == project_id)
                .values(annotation_events=sa.case((left > 0, left), else_=0))
            )

    def remove(self, project_id: int) -> None:
        """Delete a project and everything stored for it."""
        with self._db.engine.begin() as conn:
            drop_project(conn, project_id)


def drop_project(conn: sa.Connection, project_id: int) -> None:
    """See :meth:`Projects.remove`."""
    mine = sa.select(versions.c.id).where(versions.c.project_id == project_id)
    conn.execute(scores.delete().where(scores.c.version_id.in_(mine)))
    conn.execute(versions.delete().where(versions.c.project_id == project_id))
    for table in PER_PROJECT:
        conn.execute(table.delete().where(table.c.project_id == project_id))
    conn.execute(projects.delete().where(projects.c.id == project_id))
