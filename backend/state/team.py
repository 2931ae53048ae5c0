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
    ones included; ``placed_in``: the id of the version in whose order it has the first place, None if in none yet.
    ``opened_for``: for how many people it was opened in Label Studio, None if it was not; before that, it was to be
    served to ``overlap`` people, and counted as ``finished`` or did not."""

    task_id: int
    annotations: int
    placed_in: int | None
    overlap: int | None
    finished: bool | None
    opened_for: int | None


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
            self._db.upsert(conn, asked_again, [row | {"annotations": count, "withdrawn": False}], ("withdrawn",))
        return True

    def asked(self, project_id: int) -> list[Asked]:
        """The tasks that are asked again and that nobody has annotated since, the first that was asked for first."""
        return self._asked(project_id, _OPEN, sa.not_(asked_again.c.withdrawn))

    def withdrawn(self, project_id: int) -> list[Asked]:
        """Those that were asked again by mistake, and that Label Studio may still serve: see :meth:`withdraw`."""
        return self._asked(project_id, asked_again.c.withdrawn)

    def _asked(self, project_id: int, *which: sa.ColumnElement[bool]) -> list[Asked]:
        query = sa.select(*(asked_again.c[name] for name in Asked.__dataclass_fields__))
        query = query.where(asked_again.c.project_id == project_id, *which)
        return self._db.rows(query.order_by(asked_again.c.asked_at, asked_again.c.task_id), Asked)

    def forget_answered(self, project_id: int) -> None:
        """Forget what was asked for and is done, or has no annotation any more."""
        over = (sa.not_(_OPEN), sa.not_(asked_again.c.withdrawn))
        with self._db.engine.begin() as conn:
            conn.execute(asked_again.delete().where(asked_again.c.project_id == project_id, *over))

    def note_opening(
        self, project_id: int, task_id: int, opened_for: int, before: tuple[int, bool] | None = None
    ) -> bool:
        """Note for how many people a task is going to be opened in Label Studio, and what it was ``before``: its
        overlap, and whether it counted as finished; None: that is known. Returns False if it is not asked again any
        more."""
        values: dict[str, object] = {"opened_for": opened_for}
        if before is not None:
            values |= {"overlap": before[0], "finished": before[1]}
        with self._db.engine.begin() as conn:
            mine = (*_is(project_id, task_id), sa.not_(asked_again.c.withdrawn))
            return bool(conn.execute(asked_again.update().where(*mine).values(**values)).rowcount)

    def withdraw(self, project_id: int, task_id: int) -> None:
        """Ask for a task no more. What was opened in Label Studio stays noted, so that a worker can set it back."""
        mine = _is(project_id, task_id)
        with self._db.engine.begin() as conn:
            conn.execute(asked_again.delete().where(*mine, asked_again.c.opened_for.is_(None)))
            conn.execute(asked_again.update().where(*mine).values(withdrawn=True))

    def forget_withdrawn(self, project_id: int, task_id: int) -> None:
        """Label Studio serves the task as before; unless it was asked again in the meantime."""
        with self._db.engine.begin() as conn:
            conn.execute(asked_again.delete().where(*_is(project_id, task_id), asked_again.c.withdrawn))

    def drop(self, project_id: int, task_id: int) -> None:
        """Forget all about a task that is asked again."""
        with self._db.engine.begin() as conn:
            conn.execute(asked_again.delete().where(*_is(project_id, task_id)))

    def place(self, project_id: int, version_id: int, task_ids: Iterable[int]) -> None:
        """Note that these tasks have the first places in the order of a version."""
        for part in chunks(list(task_ids), READ_CHUNK):
            with self._db.engine.begin() as conn:
                mine = (asked_again.c.project_id == project_id, asked_again.c.task_id.in_(part))
                conn.execute(asked_again.update().where(*mine).values(placed_in=version_id))


def _is(project_id: int, task_id: int) -> tuple[sa.ColumnElement[bool], ...]:
    return asked_again.c.project_id == project_id, asked_again.c.task_id == task_id
