"""Replays that the owners of projects asked for: like training, a counter that is ahead of its "seen" counterpart until
a worker has done what was asked (:mod:`backend.worker.replaying`)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from backend.state.database import Database
from backend.state.schema import projects


class Replays:
    """The requests of all projects."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def ask(self, project_id: int) -> None:
        """Ask for a replay of a project's labels. To ask again before it is over changes nothing."""
        mine = (projects.c.id == project_id, projects.c.replay_seq == projects.c.replay_seen)
        with self._db.engine.begin() as conn:
            asked: dict[str, Any] = {"replay_seq": projects.c.replay_seq + 1, "replaying": sa.null(), "retry_at": 0.0}
            conn.execute(projects.update().where(*mine).values(**asked))

    def note(self, project_id: int, owner: str, done: int, total: int, seconds: float) -> None:
        """How many trainings are ``done``, and the ``seconds`` that they took. Raises LeaseLost."""
        self._update(project_id, owner, replaying={"done": done, "total": total, "seconds": round(seconds, 1)})

    def settle(self, project_id: int, owner: str, asked: int, error: str = "") -> None:
        """The ``asked``-th replay is over: it is kept, or there is none because of an ``error``. Raises LeaseLost."""
        self._update(project_id, owner, replay_seen=asked, replaying={"error": error} if error else None)

    def _update(self, project_id: int, owner: str, **values: Any) -> None:
        with self._db.owned(project_id, owner) as conn:
            conn.execute(projects.update().where(projects.c.id == project_id).values(**values))
