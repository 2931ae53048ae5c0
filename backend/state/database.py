"""The database: engine, clock, and transactions that check a lease. SQLite or PostgreSQL, depending on the URL."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from backend.errors import BackendError, LeaseLost
from backend.state.failures import in_words
from backend.state.schema import SCHEMA_VERSION, meta, metadata, projects
from backend.state.upgrade import UPGRADABLE, upgrade

Record = TypeVar("Record")
CHUNK_ROWS = 2_000  # rows per transaction: SQLite has a single writer, and a webhook must not wait long for it
_FETCH_ROWS = 10_000
_LOCK_SECONDS = 30  # how long a write waits for SQLite's lock
_ASK_SECONDS = 0.001
_SHORT_SECONDS, _GIVE_WAY_SECONDS = 0.002, 0.004
READ_CHUNK = 900  # ids per query: old versions of SQLite allow 999 bound parameters
AMONG = sa.bindparam("among", expanding=True, type_=sa.Integer)
"""The ids that a query is about, so that it is made once: making one takes longer than its answer."""


class Database:
    """One database; safe to share between threads, and between processes through the database itself."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        sa.event.listen(self.engine, "handle_error", in_words)
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

    def made_at(self) -> float:
        """When the database was made, by its clock; 0 if an earlier version made it."""
        with self.reader.connect() as conn:
            return float(conn.scalar(sa.select(meta.c.value).where(meta.c.name == "made_at")) or 0.0)

    def rows(self, query: sa.Select[Any], record: type[Record]) -> list[Record]:
        """The rows of ``query``, as records whose fields have the names of its columns."""
        with self.reader.connect() as conn:
            return _records(conn, query, {}, record)

    def rows_among(
        self, query: sa.Select[Any], record: type[Record], ids: Sequence[int], **values: int
    ) -> list[Record]:
        """The rows of a ``query`` with the parameter :data:`AMONG`, for each chunk of ``ids`` in turn. ``values``: its
        other parameters."""
        with self.reader.connect() as conn:
            named = [{AMONG.key: list(part), **values} for part in chunks(ids, READ_CHUNK)]
            return [row for some in named for row in _records(conn, query, some, record)]

    def among(self, column: sa.Column[Any], ids: Sequence[int]) -> sa.ColumnElement[bool]:
        """Whether ``column`` is one of ``ids``, however many: a single parameter, because thousands of them take longer
        than their answer."""
        if not self._sqlite:
            return column == sa.any_(sa.literal(list(ids), postgresql.ARRAY(sa.Integer)))
        every = sa.func.json_each(sa.literal(json.dumps(list(ids)), sa.Text)).table_valued("value")
        return column.in_(sa.select(every.c.value))

    def integers(self, query: sa.Select[Any]) -> np.ndarray:
        """The rows of ``query``, all of integers or truth values, as an array (N, columns) int64. Memory use does not
        grow beyond that of the array."""
        parts = [np.empty((0, len(query.selected_columns)), dtype=np.int64)]
        with self.reader.connect() as conn:
            if self._sqlite:
                cursor: Any = conn.execute(query).cursor  # plain tuples: much faster than a result's rows
                while rows := cursor.fetchmany(_FETCH_ROWS):
                    parts.append(np.array(rows, dtype=np.int64))
            else:
                found = conn.execution_options(yield_per=_FETCH_ROWS).execute(query).partitions()
                parts.extend(np.array([tuple(row) for row in some], dtype=np.int64) for some in found)
        return np.concatenate(parts)

    def delete_in_pieces(
        self,
        table: sa.Table,
        where: Sequence[sa.ColumnElement[bool]],
        project_id: int,
        owner: str | None,
        size: int = CHUNK_ROWS,
    ) -> None:
        """Delete rows, in transactions of at most ``size`` of them. Raises :class:`LeaseLost`: see :meth:`owned`."""
        keys = list(table.primary_key)
        some = sa.select(*keys).where(*where).limit(size)
        while True:
            with self.owned(project_id, owner) as conn:
                if conn.execute(table.delete().where(*where, sa.tuple_(*keys).in_(some))).rowcount < size:
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
            if conn.execute(insert.on_conflict_do_nothing(), [row]).rowcount == 1:
                conn.execute(insert.on_conflict_do_nothing(), [{"name": "made_at", "value": repr(self.now_in(conn))}])
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


def _records(
    conn: sa.Connection, query: sa.Select[Any], values: Mapping[str, Any], record: Callable[..., Record]
) -> list[Record]:
    found = conn.execute(query, values)
    names = tuple(found.keys())
    return [record(**dict(zip(names, row, strict=True))) for row in found]


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
    engine = sa.create_engine(url, connect_args={"timeout": _LOCK_SECONDS, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # With WAL, readers never wait for the writer. A transaction that writes takes the write lock when it begins
        # (BEGIN IMMEDIATE below), so that the second of two such transactions waits, instead of failing halfway.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    turns = _Turns()

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: sa.Connection) -> None:
        if conn.get_execution_options().get("writes", True):
            turns.begin(conn)
        else:
            driver: Any = conn.connection.driver_connection  # a fifth of a short query's time would go into a context
            driver.execute("BEGIN")

    sa.event.listen(engine, "commit", turns.end)
    sa.event.listen(engine, "rollback", turns.end)
    return engine


class _Turns:
    """Who writes next into a database of SQLite. A webhook has a second, and must not wait while a worker stores a
    million rows, one transaction after the other.

    SQLite has no queue: who waits for the write lock asks again from time to time, in the end every 100 ms, and rarely
    hits the moment between two transactions of somebody busy. So whoever waits asks every millisecond, and whoever just
    held the lock for long lets the others ask before taking it again.
    """

    def __init__(self) -> None:
        self._ended = self._lasted = 0.0

    def begin(self, conn: sa.Connection) -> None:
        """Begin a transaction that writes. Raises OperationalError if the lock was not free for 30 seconds."""
        if self._lasted > _SHORT_SECONDS:
            time.sleep(max(0.0, self._ended + _GIVE_WAY_SECONDS - time.monotonic()))
        until = time.monotonic() + _LOCK_SECONDS
        conn.exec_driver_sql("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    conn.exec_driver_sql("BEGIN IMMEDIATE")
                    break
                except OperationalError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(_ASK_SECONDS)
        finally:
            conn.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * _LOCK_SECONDS}")
        conn.info["writes_since"] = time.monotonic()

    def end(self, conn: sa.Connection) -> None:
        since = conn.info.pop("writes_since", None)
        if since is not None:
            self._ended = time.monotonic()
            self._lasted = self._ended - since
