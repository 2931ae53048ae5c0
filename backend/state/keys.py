"""Secret keys of the state, each made when it is first asked for. They never leave the processes of the backend."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from backend.state.database import Database
from backend.state.schema import meta

_PREFIX = "key: "
_BYTES = 32


class Keys:
    """Keys by name, in the table that also holds the format's number. All processes of a state have the same."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, name: str) -> bytes:
        """The key (32 random bytes) of this name. It is the same from now on, whoever asks first."""
        query = sa.select(meta.c.value).where(meta.c.name == _PREFIX + name)
        with self._db.reader.connect() as conn:
            found = conn.scalar(query)
        if found is None:
            row = {"name": _PREFIX + name, "value": secrets.token_hex(_BYTES)}
            with self._db.engine.begin() as conn:
                # if another process makes it at once, the first has made it: this then sets its name to itself
                self._db.upsert(conn, meta, [row], ("name",))
                found = conn.scalar(query)
        return bytes.fromhex(str(found))
