"""The history of cycles: running, done, failed or interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from backend.state.database import AMONG, Database
from backend.state.records import Cycle
from backend.state.schema import cycles, projects


class Cycles:
    """The history of cycles, and the progress of those that are running."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def next_number(self, project_id: int) -> int:
        """The number of a project's next cycle. The first one is 0; each cycle uses up a number, finished or not."""
        with self._db.reader.connect() as conn:
            last = conn.scalar(sa.select(sa.func.max(cycles.c.number)).where(cycles.c.project_id == project_id))
        return 0 if last is None else int(last) + 1

    def start(self, project_id: int, owner: str, number: int, sampler: str, seed: int) -> int:
        """Add a running cycle. Returns its id. Raises LeaseLost."""
        with self._db.owned(project_id, owner) as conn:
            values = {"project_id": project_id, "owner": owner, "number": number, "sampler": sampler, "seed": seed}
            done = conn.execute(cycles.insert().values(**values, status="running", started_at=self._db.now_in(conn)))
            return int(done.inserted_primary_key[0])  # type: ignore[index]

    def report(self, cycle_id: int, phase: str, done: int, total: int, **values: Any) -> None:
        """Store the progress of a running cycle, and other columns of it."""
        with self._db.engine.begin() as conn:
            where = (cycles.c.id == cycle_id, cycles.c.status == "running")
            conn.execute(cycles.update().where(*where).values(phase=phase, done=done, total=total, **values))

    def finish(
        self,
        cycle_id: int,
        project_id: int,
        owner: str,
        *,
        status: str,
        metrics: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Store how a cycle ended. Raises LeaseLost."""
        with self._db.owned(project_id, owner) as conn:
            conn.execute(
                cycles.update()
                .where(cycles.c.id == cycle_id)
                .values(status=status, finished_at=self._db.now_in(conn), metrics=dict(metrics or {}), error=error)
            )

    def finish_resumed(self, project_id: int, owner: str, metrics: Mapping[str, Any]) -> None:
        """Mark the newest cycle as done after all: it was interrupted while publishing, and its version is published
        now."""
        newest = sa.select(sa.func.max(cycles.c.id)).where(cycles.c.project_id == project_id).scalar_subquery()
        cut_off = cycles.c.status.in_(("interrupted", "failed"))
        with self._db.owned(project_id, owner) as conn:
            conn.execute(
                cycles.update()
                .where(cycles.c.id == newest, cut_off)
                .values(status="done", finished_at=self._db.now_in(conn), metrics=dict(metrics), error=None)
            )

    def recent(self, project_id: int, limit: int = 20) -> list[Cycle]:
        """A project's last cycles, newest first."""
        return self.recent_of([project_id], limit)[project_id]

    def recent_of(self, project_ids: Sequence[int], limit: int) -> dict[int, list[Cycle]]:
        """The last cycles of each of these projects, newest first, in one query for all of them."""
        found: dict[int, list[Cycle]] = {project_id: [] for project_id in project_ids}
        for cycle in self._db.rows_among(_RECENT, Cycle, project_ids, before=limit - 1):
            found[cycle.project_id].append(cycle)
        return found

    def running(self) -> list[Cycle]:
        """The running cycles of all projects."""
        return self._db.rows(sa.select(cycles).where(cycles.c.status == "running"), Cycle)


def _recent() -> sa.Select[Any]:
    """The query of :meth:`Cycles.recent_of`, made once. It finds the oldest cycle that is wanted of each project by the
    index, and reads no older ones."""
    earlier = cycles.alias()
    mine = sa.select(earlier.c.id).where(earlier.c.project_id == projects.c.id).order_by(earlier.c.id.desc())
    oldest = mine.limit(1).offset(sa.bindparam("before", type_=sa.Integer)).correlate(projects).scalar_subquery()
    first = sa.select(projects.c.id.label("project"), sa.func.coalesce(oldest, 0).label("oldest"))
    # materialized: PostgreSQL would look for it again for each cycle
    since = first.where(projects.c.id.in_(AMONG)).cte("since").prefix_with("MATERIALIZED", dialect="postgresql")
    wanted = sa.and_(cycles.c.project_id == since.c.project, cycles.c.id >= since.c.oldest)
    return sa.select(cycles).join(since, wanted).order_by(cycles.c.id.desc())


_RECENT = _recent()
