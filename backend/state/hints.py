"""The hints that work may be waiting for a project, each one small UPDATE of its row.

Requests leave them, and a lost one costs time and nothing else: what is due is computed from what Label Studio holds
(:func:`backend.events.due`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from backend.state.database import Database
from backend.state.identities import ACTIVE, named
from backend.state.schema import projects


class Hints:
    """What was heard of projects since a worker last looked."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self, project_id: int, *, annotations: int = 0, tasks: bool = False, config: bool = False, train: bool = False
    ) -> bool:
        """Note that something may have changed. Returns False if the project is not connected."""
        return self._add((projects.c.id == project_id, ACTIVE), annotations, tasks, config, train)

    def add_named(
        self,
        number: int,
        key: str = "",
        *,
        annotations: int = 0,
        tasks: bool = False,
        config: bool = False,
        train: bool = False,
    ) -> bool:
        """The same for the project that Label Studio calls ``number``, with that ``key`` if one is given. Where several
        Label Studios have such a project, all of them are looked at: a hint costs no more than that."""
        return self._add(named(number, key), annotations, tasks, config, train)

    def _add(
        self, where: Sequence[sa.ColumnElement[bool]], annotations: int, tasks: bool, config: bool, train: bool
    ) -> bool:
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
            found = conn.execute(projects.update().where(*where).values(**change))
            return bool(found.rowcount)

    def heard(self, project_id: int, address: str) -> None:
        """Note that ``/setup`` arrived, at which of our addresses. Where Label Studio was found to list no connection
        to us, it is looked again at once."""
        again = sa.and_(projects.c.hands_off.is_not(None), projects.c.yields_to.is_(None))
        change: dict[str, Any] = {
            "setups": projects.c.setups + 1,
            "refresh_seq": projects.c.refresh_seq + sa.case((again, 1), else_=0),
            "retry_at": sa.case((again, 0.0), else_=projects.c.retry_at),
        }
        if address:
            change["address"] = address
        with self._db.engine.begin() as conn:
            conn.execute(projects.update().where(projects.c.id == project_id).values(**change))

    def annotated_at(self, url: str) -> float:
        """When the last annotation was made in any project of the Label Studio at ``url``; 0.0 if none was."""
        with self._db.engine.connect() as conn:
            return float(conn.scalar(sa.select(sa.func.max(projects.c.annotated_at)).where(projects.c.url == url)) or 0)

    def settle(self, project_id: int, events: int) -> None:
        """Forget the first ``events`` annotation events, because their annotations have been counted. Later ones
        stay."""
        with self._db.engine.begin() as conn:
            left = projects.c.annotation_events - events
            conn.execute(
                projects.update()
                .where(projects.c.id == project_id)
                .values(annotation_events=sa.case((left > 0, left), else_=0))
            )
