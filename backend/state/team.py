"""What several annotators say of the same tasks: how far they agree, and which tasks are asked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from backend.state.database import READ_CHUNK, Database, chunks
from backend.state.schema import agreements, asked_again, labels

_OPEN = (
    sa.select(labels.c.task_id)
    .where(
        *(labels.c[name] == asked_again.c[name] for name in ("project_id", "task_id")),
        labels.c.submitted + labels.c.skipped <= asked_again.c.annotations,
    )
    .correlate(asked_again)
    .exists()
)
"""Of a task that is asked again: it has annotations, and nobody has annotated it since."""


@dataclass(frozen=True)
class Asked:
    """A task that one more annotator is to label. ``annotations``: how many it had when that was asked for, skipped
    ones included; ``placed_in``: the id of the version in whose order it has the first place, None if in none yet."""

    task_id: int
    annotations: int
    placed_in: int | None


class Team:
    """How far the annotators of each project agree, and the tasks that are asked again."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def agreement(self, project_id: int) -> dict[str, Any] | None:
        """What :meth:`keep_agreement` kept; None if nothing."""
        query = sa.select(agreements.c.figures).where(agreements.c.project_id == project_id)
        with self._db.reader.connect() as conn:
            found: dict[str, Any] | None = conn.scalar(query)
        return found

    def keep_agreement(self, project_id: int, owner: str, figures: Mapping[str, Any] | None) -> None:
        """Keep what the last comparison found; None: no task has two annotators. Raises LeaseLost."""
        with self._db.owned(project_id, owner) as conn:
            if figures is None:
                conn.execute(agreements.delete().where(agreements.c.project_id == project_id))
            else:
                self._db.upsert(conn, agreements, [{"project_id": project_id, "figures": figures}], ("figures",))

    def ask(self, project_id: int, task_id: int) -> bool:
        """Ask one more annotator to label a task that has annotations. Asking again before that was done asks once.
        Returns False if it has none, as far as is known."""
        mine = (labels.c.project_id == project_id, labels.c.task_id == task_id)
        with self._db.engine.begin() as conn:
            count = conn.scalar(sa.select(labels.c.submitted + labels.c.skipped).where(*mine))
            if count is None:
                return False
            asked = (asked_again.c.project_id == project_id, asked_again.c.task_id == task_id)
            conn.execute(asked_again.delete().where(*asked, asked_again.c.annotations < count))  # that was done
            row = {"project_id": project_id, "task_id": task_id, "asked_at": self._db.now_in(conn)}
            self._db.upsert(conn, asked_again, [row | {"annotations": count}], ("task_id",))
        return True

    def asked(self, project_id: int) -> list[Asked]:
        """The tasks that are asked again and that nobody has annotated since, the first that was asked for first."""
        query = sa.select(asked_again.c.task_id, asked_again.c.annotations, asked_again.c.placed_in)
        query = query.where(asked_again.c.project_id == project_id, _OPEN)
        return self._db.rows(query.order_by(asked_again.c.asked_at, asked_again.c.task_id), Asked)

    def forget_answered(self, project_id: int) -> None:
        """Forget what was asked for and is done, or has no annotation any more."""
        with self._db.engine.begin() as conn:
            conn.execute(asked_again.delete().where(asked_again.c.project_id == project_id, sa.not_(_OPEN)))

    def withdraw(self, project_id: int, task_id: int) -> None:
        """Forget that a task is asked again."""
        mine = (asked_again.c.project_id == project_id, asked_again.c.task_id == task_id)
        with self._db.engine.begin() as conn:
            conn.execute(asked_again.delete().where(*mine))

    def place(self, project_id: int, version_id: int, task_ids: Iterable[int]) -> None:
        """Note that these tasks have the first places in the order of a version."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.engine.begin() as conn:
                mine = (asked_again.c.project_id == project_id, asked_again.c.task_id.in_(part))
                conn.execute(asked_again.update().where(*mine).values(placed_in=version_id))
