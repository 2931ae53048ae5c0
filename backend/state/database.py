"""The database: engine, clock, and transactions that check a lease. SQLite or PostgreSQL, depending on the URL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from backend.errors import BackendError, LeaseLost
from backend.state.schema import SCHEMA_VERSION, meta, metadata, projects
from backend.state.upgrade import UPGRADABLE, upgrade

Record = TypeVar("Record")
CHUNK_ROWS = 2_000  # rows per transaction: SQLite has a single writer, and a webhook must not wait long for it
_FETCH_ROWS = 10_000
READ_CHUNK = 900  # ids per query: old versions of SQLite allow 999 bound parameters


class Database:
    """One database; safe to share between threads, and between processes through the database itself."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.reader = self.engine.execution_options(writes=False)
        self._sqlite = self.engine.dialect.name == "sqlite"
        self._create_tables()

    def close(self) -> None:
        self.engine.dispose()

    def now(self) -> float:
        """The database's clock, in seconds since the epoch. Leases are measured by it, so that workers on different
        machines agree."""
        with self.reader.connect() as conn:
            return self.now_in(conn)

    def now_in(self, conn: sa.Connection) -> float:
        """The same clock within a transaction."""
        if self._sqlite:  # always on this machine
            return time.time()
        return float(conn.scalar(sa.text("select extract(epoch from clock_timestamp())")) or 0.0)

    def rows(self, query: sa.Select[Any], record: type[Record]) -> list[Record]:
        """The rows of ``query``, as records whose fields have the names of its columns."""
        with self.reader.connect() as conn:
            return [record(**row) for row in conn.execute(query).mappings()]

    def integers(self, query: sa.Select[Any]) -> np.ndarray:
        """The rows of ``query``, all of integers or truth values, as an array (N, columns) int64. Memory use does not
        grow beyond that of the array."""
        parts = [np.empty((0, len(query.selected_columns)), dtype=np.int64)]
        with self.reader.connect() as conn:
            found = conn.execution_options(yield_per=_FETCH_ROWS).execute(query).partitions()
            parts.extend(np.array([tuple(row) for row in rows], dtype=np.int64) for rows in found)
        return np.concatenate(parts)

    def delete_in_pieces(
        self, table: sa.Table, where: Sequence[sa.ColumnElement[bool]], project_id: int, owner: str | None
    ) -> None:
        """Delete rows, in transactions of at most :data:`CHUNK_ROWS`. Raises :class:`LeaseLost`: see :meth:`owned`."""
        keys = list(table.primary_key)
        some = sa.select(*keys).where(*where).limit(CHUNK_ROWS)
        while True:
            with self.owned(project_id, owner) as conn:
                if conn.execute(table.delete().where(*where, sa.tuple_(*keys).in_(some))).rowcount < CHUNK_ROWS:
                    return

    @contextmanager
    def owned(self, project_id: int, owner: str | None) -> Iterator[sa.Connection]:
        """A transaction that raises :class:`LeaseLost` unless ``owner`` still holds the project. None: no check."""
        with self.engine.begin() as conn:
            if owner is not None:
                query = sa.select(projects.c.lease_owner).where(projects.c.id == project_id)
                holder = conn.scalar(query if self._sqlite else query.with_for_update())
                if holder != owner:
                    raise LeaseLost(f"project {project_id} is held by {holder or 'nobody'}, no longer by {owner}")
            yield conn

    def upsert(
        self,
        conn: sa.Connection,
        table: sa.Table,
        rows: Sequence[Mapping[str, Any]],
        update: Sequence[str],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Insert ``rows``. If a primary key exists already, set the columns named in ``update``, and those of ``extra``
        to its values."""
        if not rows:
            return
        insert = sqlite.insert(table) if self._sqlite else postgresql.insert(table)
        changes = {name: insert.excluded[name] for name in update} | dict(extra or {})
        keys = [column.name for column in table.primary_key]
        conn.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes), list(rows))

    def _create_tables(self) -> None:
        try:
            metadata.create_all(self.engine)
        except (OperationalError, ProgrammingError, IntegrityError):
            metadata.create_all(self.engine)  # again: another process was creating them at the same time
        with self.engine.begin() as conn:
            row = {"name": "schema", "value": str(SCHEMA_VERSION)}
            insert = sqlite.insert(meta) if self._sqlite else postgresql.insert(meta)
            conn.execute(insert.on_conflict_do_nothing(), [row])
            # for update: of several processes that start at once, one upgrades and the others wait for it
            query = sa.select(meta.c.value).where(meta.c.name == "schema")
            found = conn.scalar(query if self._sqlite else query.with_for_update())
            if found in UPGRADABLE:
                upgrade(conn)
                found = str(SCHEMA_VERSION)
        if found != str(SCHEMA_VERSION):
            raise BackendError(
                f"The database holds state of format {found}; this version of the backend reads {SCHEMA_VERSION}. "
                "Start the version that wrote it, or set MODEL_DIR or DATABASE_URL to an empty one."
            )


def chunks(items: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    """``items`` in slices of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def database_file(url: str) -> Path | None:
    """The file of an SQLite database; None for one in memory and for other databases."""
    found = sa.engine.make_url(url)
    named = found.database if found.drivername.startswith("sqlite") else None
    return None if named in (None, "", ":memory:") or str(named).startswith("file:") else Path(str(named))


def _engine(url: str) -> sa.Engine:
    if url.startswith(("postgres://", "postgresql://")):
        url = "postgresql+psycopg://" + url.split("://", 1)[1]
    if not url.startswith("sqlite"):
        # a worker that hangs in the middle of a transaction must not block the others forever
        timeouts = {"connect_timeout": 10, "options": "-c idle_in_transaction_session_timeout=30s"}
        return sa.create_engine(url, pool_pre_ping=True, connect_args=timeouts)
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # With WAL, readers never wait for the writer. A transaction that writes takes the write lock when it begins
        # (BEGIN IMMEDIATE below), so that the second of two such transactions waits, instead of failing halfway.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("writes", True) else "BEGIN")

    return engine
