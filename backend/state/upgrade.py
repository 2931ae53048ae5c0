"""Upgrades a database of an earlier version of the backend in place.

Most of what differs between formats was added: tables, columns with a default, and indexes. Since format 3, scores are
kept in blocks, where formats 1 and 2 had a row for each. Format 4 adds the tables of generated images, format 5
kept counts and the tab of the queue, format 6 since when a control arm is served, and how far a preparation is, format
7 which replay was asked for, who gave which annotation, how far annotators agree, and which tasks are asked again,
format 8 which labels were pre-annotated, and what is withdrawn of what was asked again, format 9 what is in a store.
"""

from __future__ import annotations

import logging

import numpy as np
import sqlalchemy as sa

from backend.state.schema import SCHEMA_VERSION, meta, metadata, projects, score_blocks, written_predictions
from backend.state.score_rows import BLOCK_ROWS, as_rows, block_values

log = logging.getLogger(__name__)

UPGRADABLE = ("1", "2", "3", "4", "5", "6", "7", "8")
"""The formats that :func:`upgrade` turns into the present one. 1: releases up to 0.3.0; 2 to 8: none, before 0.4.0."""

_COLUMNS = ("task_id", "score", "class_index", "confidence", "written")


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
    conn.execute(projects.update().where(projects.c.number == 0).values(number=projects.c.id))
    if found.has_table("scores"):
        _scores_into_blocks(conn)
    conn.execute(meta.update().where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))
    log.info("The database was upgraded to format %d", SCHEMA_VERSION)


def _scores_into_blocks(conn: sa.Connection) -> None:
    """Take over the table ``scores``, which had a row for each scored task of each version, and delete it."""
    old = sa.table("scores", sa.column("version_id", sa.Integer), *(sa.column(name) for name in _COLUMNS))
    versions = list(conn.scalars(sa.select(old.c.version_id).distinct()))
    for version_id in versions:
        found = conn.execute(sa.select(*(old.c[name] for name in _COLUMNS)).where(old.c.version_id == version_id)).all()
        tasks, scores, classes, confidences, written = zip(*found, strict=True)
        rows = as_rows(
            np.array(tasks, dtype=np.int64),
            np.array(scores, dtype=np.float64),
            np.array([-1 if index is None else index for index in classes]),
            np.array([np.nan if confidence is None else confidence for confidence in confidences]),
        )
        for number, start in enumerate(range(0, len(rows), BLOCK_ROWS), 1):
            conn.execute(
                score_blocks.insert().values(block_values(version_id, number, rows[start : start + BLOCK_ROWS]))
            )
        held = [{"version_id": version_id, "task_id": task} for task, yes in zip(tasks, written, strict=True) if yes]
        if held:
            conn.execute(written_predictions.insert(), held)
    conn.exec_driver_sql("DROP TABLE scores")
