"""Notes that one process leaves for another: ``serve`` knows what ``status`` has to say."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from backend.state.database import Database
from backend.state.schema import meta

_PREFIX = "note: "


class Notes:
    """Short texts by name, in the table that also holds the format's number."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, name: str) -> str:
        """The note, or "" if there is none."""
        with self._db.reader.connect() as conn:
            return str(conn.scalar(sa.select(meta.c.value).where(meta.c.name == _PREFIX + name)) or "")

    def several(self, names: Sequence[str]) -> list[str]:
        """The notes of these ``names``, in their order; "" for each that there is not."""
        query = sa.select(meta.c.name, meta.c.value).where(meta.c.name.in_([_PREFIX + name for name in names]))
        with self._db.reader.connect() as conn:
            found = {name: str(value) for name, value in conn.execute(query)}
        return [found.get(_PREFIX + name, "") for name in names]

    def put(self, name: str, text: str) -> None:
        """Leave a note in place of an earlier one; an empty text removes it."""
        if text == self.get(name):
            return
        with self._db.engine.begin() as conn:
            if text:
                self._db.upsert(conn, meta, [{"name": _PREFIX + name, "value": text}], ("value",))
            else:
                conn.execute(meta.delete().where(meta.c.name == _PREFIX + name))
