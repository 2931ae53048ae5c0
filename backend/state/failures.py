"""What a database says when it cannot do its work, in words that say what to do about it."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa

from backend.errors import BackendError, DatabaseUnavailable, NoSpace

_SQLITE: dict[int, tuple[type[BackendError], str]] = {
    sqlite3.SQLITE_FULL: (NoSpace, "The disk is full: the state's database cannot be written. Make room in MODEL_DIR."),
    sqlite3.SQLITE_IOERR: (BackendError, "The disk of the state's database fails: look at the system's log."),
    sqlite3.SQLITE_READONLY: (BackendError, "The state's database cannot be written: this user has to own MODEL_DIR."),
}
_CLOSED = (
    "The database closed the connection: its server ended, or this process slept. If it happens again, see whether the "
    "server that DATABASE_URL names runs."
)
_DISK_FULL, _DATA = "53100", "22"  # codes of PostgreSQL: one, and a class of them


def in_words(context: sa.engine.ExceptionContext) -> BaseException | None:
    """What to raise instead, if a person can do something about it: for SQLAlchemy's event ``handle_error``."""
    if not isinstance(context.original_exception, Exception):
        return None  # Ctrl-C amid a statement: SQLAlchemy gives the connection up, too
    # What a look before use finds is mended by connecting again.
    if context.is_disconnect and context.connection is not None and not context.is_pre_ping:
        return BackendError(_CLOSED)
    known = _known(context.original_exception)
    if known is None and context.connection is None and not context.is_pre_ping:
        return _unreachable(context.original_exception)
    return known


def _unreachable(error: Exception) -> BackendError | None:
    """A server that could not be connected to; None where there is none, but a file."""
    if isinstance(error, sqlite3.Error):
        return None
    reason = str(error).strip().partition("\n")[0]
    return DatabaseUnavailable(f"The database cannot be reached ({reason}): see whether its server runs.")


def _known(error: BaseException) -> BackendError | None:
    if isinstance(error, sqlite3.Error):
        kind, words = _SQLITE.get((getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF, (None, ""))
        return None if kind is None else kind(words)
    if isinstance(error, OverflowError | UnicodeError):
        return BackendError(f"The database cannot store a value: {error}")
    code = str(getattr(error, "sqlstate", "") or "")
    if code == _DISK_FULL:
        return NoSpace("The disk of the state's database is full: make room on the server that DATABASE_URL names.")
    if code.startswith(_DATA):
        return BackendError(f"The database cannot store a value: {str(error).strip().splitlines()[0]}")
    return None
