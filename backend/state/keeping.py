"""The state as a whole: whether its file is sound, copies of it, and who is using it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from backend.errors import BackendError, OwnerError
from backend.state.database import CHUNK_ROWS, Database, database_file
from backend.state.schema import meta, metadata, projects

NOTE = "database"
"""The name of the note about a database that was set aside."""

_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_PARTS = ("", "-wal", "-shm")
"""What may be appended to the name of a SQLite database's file: the file, and what is not yet written into it."""


class InUse(OwnerError):
    """Other processes of the backend use the database."""


@contextlib.contextmanager
def used(path: Path | None) -> Iterator[None]:
    """Say, for as long as the block lasts, that this process uses the SQLite database at ``path``. None, another
    database: it knows that itself."""
    with _lock(path) as file:
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone(path: Path | None, why: str) -> Iterator[None]:
    """Make sure that no other process uses the SQLite database at ``path`` during the block. Raises InUse."""
    with _lock(path) as file:
        if file is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InUse(f"{why}, while other processes of the backend use it: stop them first.") from None
        yield


@contextlib.contextmanager
def _lock(path: Path | None) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        file = None
        with contextlib.suppress(OSError):  # whoever opens the database says why that fails
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context(path.with_name(path.name + ".lock").open("ab"))
        yield file


def damage(path: Path) -> str:
    """What is wrong with the SQLite database at ``path``, in words; "" if it is sound, empty, or not there. All
    of it is read: a second for some hundred MB."""
    if not path.exists() or not path.stat().st_size:
        return ""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as conn:
            found = str(conn.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        name = str(getattr(error, "sqlite_errorname", ""))
        return str(error) if name.startswith(_DAMAGED) else ""
    return "" if found == "ok" else found


def set_damaged_aside(path: Path) -> str:
    """If the SQLite database at ``path`` is damaged, give it another name, so that a new one can be made in its place.
    Nothing of it is lost. Returns what was done, in words; "" if nothing was.

    Raises:
        InUse: it is damaged, and other processes use it.
    """
    if not (reason := damage(path)):
        return ""
    with alone(path, f"The database {path.name} is damaged ({reason}) and cannot be set aside"):
        kept = set_aside(path, "damaged")
    return (
        f"The database {path.name} was damaged ({reason}). It is kept as {kept.name}; a new one was made from what "
        "Label Studio holds. The history of versions and cycles is in the old one, or in a backup."
    )


def set_aside(path: Path, why: str) -> Path:
    """Give a SQLite database, with all that belongs to it, another name. Returns the new one."""
    kept = path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%d-%H%M%S')}")
    for part in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            os.replace(path.with_name(path.name + part), kept.with_name(kept.name + part))
    return kept


def snapshot(source: Database, path: Path) -> None:
    """Write all of ``source``, as it is at one moment, into a new SQLite database at ``path``. Others may go on working
    with it."""
    if (file := database_file(str(source.engine.url.render_as_string(hide_password=False)))) is not None:
        with (
            contextlib.closing(sqlite3.connect(file, timeout=60)) as conn,
            contextlib.closing(sqlite3.connect(path)) as target,
        ):
            conn.backup(target)
        return
    target_database = Database(f"sqlite:///{path}")
    try:
        copy(source, target_database)
    finally:
        target_database.close()


def copy(source: Database, target: Database) -> int:
    """Copy all of ``source``, as it is at one moment, into ``target``, which must hold no project. Returns how many
    projects there are. If it is interrupted, start again: until its end, the target holds no project.

    Raises:
        BackendError: the target holds projects.
    """
    with target.engine.begin() as conn:
        if conn.scalar(sa.select(sa.func.count()).select_from(projects)):
            raise BackendError("The database to copy into holds projects already; name an empty one.")
        tables = [table for table in metadata.sorted_tables if table not in (meta, projects)]
        for table in tables:
            conn.execute(table.delete())  # of a copy that was interrupted
    with _one_moment(source) as reader:
        for table in tables:
            _copy_rows(reader, table, target)
        rows = [dict(row) for row in reader.execute(sa.select(projects)).mappings()]
    _number_on(target, tables)
    with target.engine.begin() as conn:
        if rows:
            conn.execute(projects.insert(), [row | {"lease_owner": None, "lease_expires": 0.0} for row in rows])
    return len(rows)


@contextlib.contextmanager
def _one_moment(source: Database) -> Iterator[sa.Connection]:
    """A connection that sees the database as it was at its first query. (SQLite's always do, within a transaction.)"""
    with source.reader.connect() as conn:
        if source.engine.dialect.name != "sqlite":
            conn = conn.execution_options(isolation_level="REPEATABLE READ")
        yield conn


def _copy_rows(reader: sa.Connection, table: sa.Table, target: Database) -> None:
    found = reader.execute(sa.select(table).execution_options(yield_per=CHUNK_ROWS))
    for part in found.mappings().partitions():
        with target.engine.begin() as conn:
            conn.execute(table.insert(), [dict(row) for row in part])


def _number_on(target: Database, tables: list[sa.Table]) -> None:
    """Let PostgreSQL number new rows from where the copied ones end; SQLite does that by itself."""
    if target.engine.dialect.name == "sqlite":
        return
    with target.engine.begin() as conn:
        for table in tables:
            column: sa.Column[Any] | None = table.autoincrement_column
            if column is None:
                continue
            sequence = conn.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, column.name)))
            highest = conn.scalar(sa.select(sa.func.max(column)))
            if sequence and highest:
                conn.execute(sa.select(sa.func.setval(sequence, highest)))
