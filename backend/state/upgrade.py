"""Upgrades a database of an earlier version of the backend in place.

Every format so far differs from the one before by what was added: tables, columns with a default, and indexes.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from backend.state.schema import SCHEMA_VERSION, meta, metadata, projects

log = logging.getLogger(__name__)

UPGRADABLE = ("1", "2")
"""The formats that :func:`upgrade` turns into the present one. 1: releases up to 0.3.0; 2: none, before 0.4.0."""

_REPLACED_INDEXES = ("scores_by_written",)


def upgrade(conn: sa.Connection) -> None:
    """Bring the tables to the present format, within the caller's transaction, which holds the write lock. New tables
    exist already."""
    found = sa.inspect(conn)
    for table in metadata.sorted_tables:
        present = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                definition = sa.schema.CreateColumn(column).compile(conn)
                conn.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
        indexes = {str(index["name"]) for index in found.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                index.create(conn)
        for name in _REPLACED_INDEXES:
            if name in indexes:
                conn.exec_driver_sql(f"DROP INDEX {name}")
    conn.execute(projects.update().where(projects.c.number == 0).values(number=projects.c.id))
    conn.execute(meta.update().where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))
    log.info("The database was upgraded to format %d", SCHEMA_VERSION)
