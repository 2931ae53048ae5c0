"""How the scores of a version are stored: in blocks of some thousand rows, in the order of the queue.

A version has a row for every task of the pool, and all of them are written at once, read from the beginning and deleted
at once. As rows of the database a million of them took a minute of each cycle; as 250 blocks they take a second.

What is added at one time is one run: its blocks ascend. Tasks that join later make another run, whose blocks overlap
with those of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import sqlalchemy as sa

from backend.state.database import Database
from backend.state.schema import score_blocks
from backend.state.score_rows import BLOCK_ROWS, ROW, block_values, in_order

_BLOCKS_DELETED = 16  # at a time, so that no transaction takes more than some milliseconds


class ScoreBlocks:
    """The blocks of all versions."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, project_id: int, owner: str | None, version_id: int, rows: np.ndarray) -> None:
        """Store a run: rows (N,) in the order of the queue. Raises LeaseLost: what was stored up to then stays."""
        newest = sa.select(sa.func.max(score_blocks.c.number)).where(score_blocks.c.version_id == version_id)
        with self._db.reader.connect() as conn:
            number = int(conn.scalar(newest) or 0)
        for start in range(0, len(rows), BLOCK_ROWS):
            number += 1
            values = block_values(version_id, number, rows[start : start + BLOCK_ROWS])
            with self._db.owned(project_id, owner) as conn:
                conn.execute(score_blocks.insert().values(values))

    def count(self, version_id: int) -> int:
        """The number of rows of a version."""
        query = sa.select(sa.func.sum(score_blocks.c.rows)).where(score_blocks.c.version_id == version_id)
        with self._db.reader.connect() as conn:
            return int(conn.scalar(query) or 0)

    def each(self, version_id: int) -> Iterator[tuple[float, np.ndarray]]:
        """The blocks of a version, by their lowest score: that score, and the rows (n,), in the order of the queue."""
        for number, lowest in self._listed(version_id):
            yield lowest, self._block(version_id, number)

    def _listed(self, version_id: int) -> list[tuple[int, float]]:
        """(number, lowest score) of each block, by that score."""
        query = sa.select(score_blocks.c.number, score_blocks.c.lowest).where(score_blocks.c.version_id == version_id)
        with self._db.reader.connect() as conn:
            found = conn.execute(query.order_by(score_blocks.c.lowest)).all()
        return [(int(number), float(lowest)) for number, lowest in found]

    def _block(self, version_id: int, number: int) -> np.ndarray:
        """The rows of a block; none if it was deleted a moment ago."""
        with self._db.reader.connect() as conn:
            data = conn.scalar(sa.select(score_blocks.c.data).where(*_is(version_id, number)))
        return np.frombuffer(data or b"", dtype=ROW)

    def rows(self, version_id: int) -> np.ndarray:
        """All rows (N,) of a version, in the order of the queue."""
        return in_order(np.concatenate([np.empty(0, dtype=ROW), *(rows for _, rows in self.each(version_id))]))

    def tasks(self, version_id: int) -> np.ndarray:
        """All tasks (N,) int64 of a version, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(rows["task"] for _, rows in self.each(version_id))]))

    def first(self, version_id: int, size: int, without: np.ndarray) -> np.ndarray:
        """The first ``size`` rows of a version in the order of the queue whose task is not in ``without``."""
        found = np.empty(0, dtype=ROW)
        for number, lowest in self._listed(version_id):
            if len(found) == size and found["score"][-1] < lowest:
                break
            rows = self._block(version_id, number)
            free = rows[~np.isin(rows["task"], without)]
            found = in_order(np.concatenate([found, free]))[:size]
        return found

    def of_tasks(self, version_id: int, task_ids: Sequence[int]) -> np.ndarray:
        """The rows of those ``task_ids`` that a version has."""
        wanted = np.array(list(task_ids), dtype=np.int64)
        parts = [rows[np.isin(rows["task"], wanted)] for _, rows in self.each(version_id)]
        return np.concatenate([np.empty(0, dtype=ROW), *parts])

    def remove_tasks(self, project_id: int, owner: str | None, version_id: int, task_ids: np.ndarray) -> None:
        """Delete the rows of these tasks. Raises LeaseLost unless ``owner``, if given, holds the project."""
        numbers = sa.select(score_blocks.c.number).where(score_blocks.c.version_id == version_id)
        with self._db.reader.connect() as conn:
            found = list(conn.scalars(numbers))
        for number in found:
            mine = _is(version_id, number)
            with self._db.reader.connect() as conn:
                rows = np.frombuffer(conn.scalar(sa.select(score_blocks.c.data).where(*mine)) or b"", dtype=ROW)
            left = rows[~np.isin(rows["task"], task_ids)]
            if len(left) == len(rows):
                continue
            with self._db.owned(project_id, owner) as conn:
                if len(left):
                    values = block_values(version_id, number, left)
                    conn.execute(score_blocks.update().where(*mine).values(values))
                else:
                    conn.execute(score_blocks.delete().where(*mine))

    def drop(self, project_id: int, owner: str | None, version_id: int) -> None:
        """Delete all rows of a version. Raises LeaseLost: see :meth:`remove_tasks`."""
        mine = [score_blocks.c.version_id == version_id]
        self._db.delete_in_pieces(score_blocks, mine, project_id, owner, _BLOCKS_DELETED)


def _is(version_id: int, number: int) -> tuple[sa.ColumnElement[bool], ...]:
    return score_blocks.c.version_id == version_id, score_blocks.c.number == number
