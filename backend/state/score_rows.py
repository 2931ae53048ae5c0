"""The scored tasks of a version, as rows of an array and as blocks of bytes."""

from __future__ import annotations

import numpy as np

ROW = np.dtype([("task", "<i8"), ("score", "<f8"), ("class_index", "<i4"), ("confidence", "<f8")])
"""A scored task. No predicted class: -1; no confidence: NaN."""

BLOCK_ROWS = 4_096
"""Rows in a block: 112 KiB, so that no transaction takes more than some milliseconds."""


def as_rows(
    task_ids: np.ndarray, score: np.ndarray, class_index: np.ndarray | None, confidence: np.ndarray | None
) -> np.ndarray:
    """Columns (N,) as rows (N,) of :data:`ROW`, in the order of the queue."""
    rows = np.empty(len(task_ids), dtype=ROW)
    rows["task"], rows["score"] = task_ids, score
    rows["class_index"] = -1 if class_index is None else class_index
    rows["confidence"] = np.nan if confidence is None else confidence
    return in_order(rows)


def in_order(rows: np.ndarray) -> np.ndarray:
    """Rows (N,) in the order of the queue: lowest score first."""
    return rows[np.argsort(rows["score"], kind="stable")]


def block_values(version_id: int, number: int, rows: np.ndarray) -> dict[str, object]:
    """A block as a row of the database; ``rows`` (n,) in the order of the queue, n > 0."""
    return {
        "version_id": version_id,
        "number": number,
        "lowest": float(rows["score"][0]),
        "rows": len(rows),
        "data": rows.tobytes(),
    }
