"""The leases that workers hold on projects, as stored. A worker's own view: :mod:`backend.worker.leases`."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from backend.state.database import Database
from backend.state.schema import cycles, projects

CLOCK_SECONDS = 5.0
"""How far two readings of one clock may be out of order."""

UNKNOWN_SECONDS = 3600.0
"""For how long a lease may have been taken whose holder did not say: the longest that the settings allow."""


@dataclass(frozen=True)
class Holder:
    """Who holds a project: until ``expires``, and for ``seconds`` at a time."""

    owner: str
    expires: float
    seconds: float

    def is_impossible(self, now: float) -> bool:
        """Whether the lease lasts longer than it was taken for: the clock was ahead then."""
        return self.expires > now + self.seconds + CLOCK_SECONDS


class Leases:
    """Which worker holds each project, and until when."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def take(self, project_id: int, owner: str, seconds: float) -> bool:
        """Take the project if nobody holds it, or if the holder's lease has expired. Returns whether it was taken.

        This is a single conditional UPDATE, so that of several workers exactly one succeeds. A cycle that a dead worker
        left running is marked as interrupted.
        """
        with self._db.engine.begin() as conn:
            now = self._db.now_in(conn)
            free = sa.or_(
                projects.c.lease_owner.is_(None), projects.c.lease_owner == owner, projects.c.lease_expires < now
            )
            taken = conn.execute(
                projects.update()
                .where(projects.c.id == project_id, free)
                .values(lease_owner=owner, lease_expires=now + seconds, lease_seconds=seconds)
            )
            if taken.rowcount:
                conn.execute(
                    cycles.update()
                    .where(cycles.c.project_id == project_id, cycles.c.status == "running")
                    .values(status="interrupted", finished_at=now, error="the worker that ran it went away")
                )
            return bool(taken.rowcount)

    def holder(self, project_id: int) -> Holder | None:
        """Who holds the project, if anybody."""
        columns = (projects.c.lease_owner, projects.c.lease_expires, projects.c.lease_seconds)
        query = sa.select(*columns).where(projects.c.id == project_id, projects.c.lease_owner.is_not(None))
        with self._db.reader.connect() as conn:
            found = conn.execute(query).first()
        return None if found is None else Holder(found[0], found[1], found[2] or UNKNOWN_SECONDS)

    def end(self, project_id: int, holder: Holder) -> bool:
        """End a lease that has not been renewed since ``holder`` was read. Returns whether it was ended."""
        same = (projects.c.lease_owner == holder.owner, projects.c.lease_expires == holder.expires)
        with self._db.engine.begin() as conn:
            ended = conn.execute(projects.update().where(projects.c.id == project_id, *same).values(lease_expires=0.0))
            return bool(ended.rowcount)

    def renew(self, project_id: int, owner: str, seconds: float) -> bool:
        """Extend a lease to ``seconds`` from now. Returns False if ``owner`` no longer holds the project."""
        with self._db.engine.begin() as conn:
            held = conn.execute(
                projects.update()
                .where(projects.c.id == project_id, projects.c.lease_owner == owner)
                .values(lease_expires=self._db.now_in(conn) + seconds, lease_seconds=seconds)
            )
            return bool(held.rowcount)

    def release(self, project_id: int, owner: str) -> None:
        """Give up the lease, so that another worker may take the project at once. A cycle that is still running is
        marked as interrupted."""
        with self._db.engine.begin() as conn:
            unfinished = (cycles.c.project_id == project_id, cycles.c.owner == owner, cycles.c.status == "running")
            conn.execute(
                cycles.update()
                .where(*unfinished)
                .values(status="interrupted", finished_at=self._db.now_in(conn), error="the worker was asked to stop")
            )
            conn.execute(
                projects.update()
                .where(projects.c.id == project_id, projects.c.lease_owner == owner)
                .values(lease_owner=None, lease_expires=0.0)
            )
