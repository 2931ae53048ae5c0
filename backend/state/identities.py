"""Which stored project a request means: matching an address and a key against what is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from backend.state.records import CONNECTED, GONE, UNCHECKED
from backend.state.schema import projects

FIRST_ALLOCATED = 1_000_000_001
"""The first id of a project whose number in Label Studio another project has as its id here. So high that Label Studio
has no project with such a number: whoever mixes the two up finds nothing, instead of somebody else's project."""

ACTIVE = projects.c.standing.in_((CONNECTED, UNCHECKED))
"""Holds for a project that is connected, also if Label Studio has yet to confirm it."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Identity:
    """Who a project is: the address of its Label Studio, its number there, and its key, "<number>.<created>". A key
    without a time of creation is only as good as the number."""

    address: str
    number: int
    key: str

    @property
    def studio(self) -> str:
        """The address in the one form that is stored and compared."""
        return studio_of(self.address)

    @property
    def is_complete(self) -> bool:
        """Whether the key says when the project was created."""
        return "." in self.key


def studio_of(address: str) -> str:
    """The address of a Label Studio as projects are identified by it: without a user, a default port, or a slash at the
    end, and in lower case where case means nothing."""
    parts = urlsplit(address.strip())
    try:
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return address.strip()
    if not host:
        return address.strip().rstrip("/")
    host = f"[{host}]" if ":" in host else host
    suffix = "" if port is None or port == _PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{host}{suffix}{parts.path.rstrip('/')}"


def matching(conn: sa.Connection, identity: Identity, *, moved: bool) -> sa.Row[Any] | None:
    """The stored project with this identity, whatever its standing.

    One whose address is not known, because an earlier version stored it, is recognized by its key alone, and one whose
    time of creation is not known by its number. With ``moved``, or without an address, so is one at another address,
    unless there are several.
    """
    if not identity.is_complete:
        return _by_number(conn, identity)
    same_key = conn.execute(sa.select(projects).where(projects.c.key == identity.key)).all()
    for studio in (identity.studio, ""):
        if found := [row for row in same_key if row.studio == studio]:
            return found[0]
    if (moved or not identity.studio) and len(same_key) == 1:
        return same_key[0]
    unnamed = sa.select(projects).where(projects.c.key == str(identity.number))
    return _first(conn.execute(unnamed.where(projects.c.studio.in_((identity.studio, "")))).all())


def _by_number(conn: sa.Connection, identity: Identity) -> sa.Row[Any] | None:
    """The project with this number, if a request that does not say when it was created can only mean one."""
    here = (projects.c.number == identity.number, projects.c.studio.in_((identity.studio, "")))
    found = conn.execute(sa.select(projects).where(*here, projects.c.standing != GONE)).all()
    return _first(sorted(found, key=lambda row: row.standing != "connected"))


def _first(rows: Sequence[sa.Row[Any]]) -> sa.Row[Any] | None:
    return rows[0] if rows else None


def named(number: int, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    """What holds for the connected projects that Label Studio calls ``number``, and ``key`` if one is given."""
    here = (projects.c.number == number, ACTIVE)
    # a key without a time of creation was stored by an earlier version, which was not told it
    return (*here, projects.c.key.in_((key, str(number)))) if "." in key else here


def allocated(conn: sa.Connection, number: int) -> int:
    """An id for a new project: Label Studio's number if it is free, else the next of our own."""
    if conn.scalar(sa.select(projects.c.id).where(projects.c.id == number)) is None:
        return number
    highest = conn.scalar(sa.select(sa.func.max(projects.c.id))) or 0
    return max(FIRST_ALLOCATED, int(highest) + 1)


def folder_for(conn: sa.Connection, identity: Identity) -> str:
    """The name of a new project's folder; empty, which means the key, unless another project has that one."""
    taken = sa.or_(projects.c.folder == identity.key, sa.and_(projects.c.folder == "", projects.c.key == identity.key))
    if conn.scalar(sa.select(projects.c.id).where(taken)) is None:
        return ""
    return f"{identity.key}.{hashlib.sha256(identity.studio.encode()).hexdigest()[:8]}"
