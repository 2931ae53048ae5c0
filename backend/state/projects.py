"""Connected projects: who is who, and what is known of each.

A project is identified by the address of its Label Studio and by its key there, "<number>.<created>", which no other
project of that Label Studio ever has. Nothing that a request claims replaces what is stored: only what Label Studio
itself confirmed does, and even then the old is set aside and kept. See :func:`backend.worker.identity.confirm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from backend.errors import OwnerError
from backend.state.database import AMONG, Database
from backend.state.identities import ACTIVE, Identity, allocated, folder_for, matching, named
from backend.state.records import ASIDE, CONNECTED, GONE, UNCHECKED, Project
from backend.state.schema import PER_PROJECT, projects, score_blocks, versions, written_predictions

_COLUMNS = [column for column in projects.c if column.name not in ("connected_at", "lease_seconds")]
_EVERY = sa.select(*_COLUMNS).order_by(projects.c.id)
_ALL, _KEPT, _THESE = _EVERY.where(ACTIVE), _EVERY.where(~ACTIVE), _EVERY.where(projects.c.id.in_(AMONG))

MOST_UNCHECKED = 100
"""Announced projects that wait for Label Studio to confirm them: anybody who reaches the port can announce some."""


class Projects:
    """The connected projects, and those that are kept."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def connect(
        self,
        number: int,
        key: str,
        label_config: str,
        extra_params: Mapping[str, Any] | None,
        url: str,
        token: str,
        *,
        studio: str | None = None,
        moved: bool = False,
    ) -> int:
        """Store a project that Label Studio has confirmed, and return its id.

        A project with the same number but another key at the same Label Studio is set aside: there it is no more.

        Args:
            studio: the address that it is identified by; None: ``url``.
            moved: the owner says where Label Studio is. A project that is known at another address only has moved.
        """
        identity = Identity(url if studio is None else studio, number, key)
        values = {
            "key": key,
            "label_config": label_config,
            "extra_params": dict(extra_params or {}),
            "url": url,
            "token": token,
        }
        try:
            return self._connect(identity, values, moved)
        except IntegrityError:  # Label Studio calls /setup twice, and the other call was faster
            return self._connect(identity, values, moved)

    def _connect(self, identity: Identity, values: dict[str, Any], moved: bool) -> int:
        with self._db.engine.begin() as conn:
            known = matching(conn, identity, moved=moved)
            if known is None:
                self._set_aside_others(conn, identity, keep=None)
                return self._insert(conn, identity, values, CONNECTED)
            if not (known.standing == CONNECTED and known.key == identity.key and known.studio == identity.studio):
                self._set_aside_others(conn, identity, keep=known.id)
                confirmed = {"studio": identity.studio, "standing": CONNECTED, "standing_reason": ""}
                kept_folder = known.folder or (known.key if known.key != identity.key else "")
                conn.execute(projects.update().where(projects.c.id == known.id).values(**confirmed, folder=kept_folder))
            changed = {name: value for name, value in values.items() if getattr(known, name) != value}
            if changed or known.standing != CONNECTED:
                # The owner changed something: try again at once instead of waiting for the end of the back-off.
                conn.execute(
                    projects.update()
                    .where(projects.c.id == known.id)
                    .values(**changed, refresh_seq=projects.c.refresh_seq + 1, retry_at=0.0)
                )
            return int(known.id)

    def announce(
        self,
        number: int,
        key: str,
        label_config: str,
        extra_params: Mapping[str, Any] | None,
        url: str,
        token: str,
        *,
        studio: str,
        moved: bool = False,
    ) -> int | None:
        """Store a project that Label Studio has not confirmed, because it did not respond in time: a worker asks again
        before anything else happens. What is known already stays as it is.

        Returns its id; None if there is no room for it.
        """
        identity = Identity(studio, number, key)
        values = {"key": key, "label_config": label_config, "extra_params": dict(extra_params or {}), "url": url}
        with self._db.engine.begin() as conn:
            known = matching(conn, identity, moved=moved)
            if known is not None:
                return int(known.id)
            query = sa.select(sa.func.count()).select_from(projects).where(projects.c.standing == UNCHECKED)
            if (conn.scalar(query) or 0) >= MOST_UNCHECKED:
                return None
            return self._insert(conn, identity, {**values, "token": token}, UNCHECKED)

    def _insert(self, conn: sa.Connection, identity: Identity, values: Mapping[str, Any], standing: str) -> int:
        number = allocated(conn, identity.number)
        row = {
            "id": number,
            "number": identity.number,
            "studio": identity.studio,
            "standing": standing,
            "standing_since": self._db.now_in(conn),
            "folder": folder_for(conn, identity),
        }
        conn.execute(projects.insert().values(**values, **row))
        return number

    def _set_aside_others(self, conn: sa.Connection, identity: Identity, keep: int | None) -> None:
        others = [projects.c.number == identity.number, projects.c.studio == identity.studio, ACTIVE]
        if keep is not None:
            others.append(projects.c.id != keep)
        reason = f"Label Studio at {identity.studio} has another project under number {identity.number} now"
        values = {"standing": ASIDE, "standing_since": self._db.now_in(conn), "standing_reason": reason}
        conn.execute(projects.update().where(*others).values(**values))

    def confirm(self, project: Project, key: str, studio: str) -> None:
        """Label Studio at ``studio`` has confirmed who the project is."""
        folder = project.folder or (project.key if project.key != key else "")
        values = {"key": key, "studio": studio, "standing": CONNECTED, "standing_reason": "", "folder": folder}
        with self._db.engine.begin() as conn:
            same = sa.select(projects.c.id).where(projects.c.studio == studio, projects.c.key == key)
            twin = conn.scalar(same.where(projects.c.id != project.id))
            if twin is None:
                conn.execute(projects.update().where(projects.c.id == project.id).values(**values))
            elif project.standing == UNCHECKED:
                drop_project(conn, project.id)  # an announcement of a project that is known: it holds nothing

    def set_aside(self, project_id: int, reason: str, *, gone: bool = False) -> None:
        """Keep everything of a project, and do no more work on it. ``gone``: Label Studio says that it does not
        exist."""
        with self._db.engine.begin() as conn:
            values = {"standing": GONE if gone else ASIDE, "standing_reason": reason}
            conn.execute(
                projects.update()
                .where(projects.c.id == project_id)
                .values(**values, standing_since=self._db.now_in(conn), lease_owner=None, lease_expires=0.0)
            )

    def get(self, project_id: int) -> Project | None:
        """A project by our id, whatever its standing; None if there is none."""
        found = self._db.rows_among(_THESE, Project, [project_id])
        return found[0] if found else None

    def identified(self, studio: str, number: int, key: str, *, moved: bool = False) -> Project | None:
        """The project of that Label Studio, whatever its standing: see :func:`backend.state.identities.matching`."""
        with self._db.reader.connect() as conn:
            found = matching(conn, Identity(studio, number, key), moved=moved)
        return None if found is None else self.get(found.id)

    def named(self, number: int, key: str = "") -> list[Project]:
        """The connected projects that Label Studio calls ``number``, and ``key`` if one is given: several where several
        Label Studios are connected."""
        query = sa.select(*_COLUMNS).where(*named(number, key))
        return self._db.rows(query.order_by(projects.c.id), Project)

    def all(self) -> list[Project]:
        """All connected projects, by id, also those that Label Studio has yet to confirm."""
        return self._db.rows(_ALL, Project)

    def kept(self) -> list[Project]:
        """The projects that are set aside or gone, by id."""
        return self._db.rows(_KEPT, Project)

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

    def remove(self, project_id: int) -> None:
        """Delete a project and everything stored for it."""
        with self._db.engine.begin() as conn:
            drop_project(conn, project_id)

    def find(self, text: str, *, kept: bool = False) -> Project:
        """The connected project that a person means by "27", "27.1700000000" or "27@http://host:8080"; with ``kept``,
        also one that is set aside or gone.

        Raises:
            OwnerError: there is none, or there are several; the message lists what there is.
        """
        name, _, studio = text.strip().partition("@")
        every = self.all() + (self.kept() if kept else [])
        found = [one for one in every if name in (str(one.number), one.key) and studio in ("", one.studio)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise OwnerError(f"Project {text} is not connected to this backend; `status` lists those that are.")
        names = " or ".join(f"{one.number}@{one.studio}" for one in found)
        raise OwnerError(f"Several Label Studios have a project {text} here: say {names}.")


def drop_project(conn: sa.Connection, project_id: int) -> None:
    """See :meth:`Projects.remove`."""
    mine = sa.select(versions.c.id).where(versions.c.project_id == project_id)
    for scored in (score_blocks, written_predictions):
        conn.execute(scored.delete().where(scored.c.version_id.in_(mine)))
    conn.execute(versions.delete().where(versions.c.project_id == project_id))
    for table in PER_PROJECT:
        conn.execute(table.delete().where(table.c.project_id == project_id))
    conn.execute(projects.delete().where(projects.c.id == project_id))
