"""Indexes without a cache around them. Programs that tests start and kill import this, and not pytest."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from backend.images.row_index import Index

RECORD = 32  # bytes
PLENTY = 1 << 40


def digest(text: object) -> bytes:
    return hashlib.blake2b(str(text).encode(), digest_size=16).digest()


def opened(path: Path, rows: int = PLENTY) -> Index:
    """As a writer opens it, who has the lock."""
    index = Index(path, 32, lambda: rows)
    index.begin()
    return index


def placed(index: Index, tasks: Mapping[int, object]) -> None:
    """Each task with the digest of its value, saved."""
    for task, value in tasks.items():
        index.place(task, digest(value))
    index.save()


def said(index: Index) -> dict[int, bytes]:
    """What an index says, in full."""
    tasks = index.task_ids()
    known = {task: index.digest(task) or b"" for task in tasks}
    rows = index.rows(tasks)
    assert len(set(rows.tolist())) == len(tasks) == len(known)  # each has one row, of its own
    assert ((rows >= 0) & (rows < index.row_count)).all()
    return known


def read(path: Path, rows: int = PLENTY) -> dict[int, bytes]:
    """What a new reader finds, who changes nothing."""
    index = Index(path, 32, lambda: rows)
    before = path.read_bytes()
    index.refresh()
    assert path.read_bytes() == before
    return said(index)


def digests(tasks: Mapping[int, object]) -> dict[int, bytes]:
    return {task: digest(value) for task, value in tasks.items()}


def released(content: list[tuple[int, bytes]], **changes: object) -> bytes:
    """An index as version 0.3.0 writes it."""
    payload = struct.pack(f"<{len(content)}q", *(task for task, _ in content))
    payload += b"".join(made_from for _, made_from in content)
    head = {"format": 1, "size": 32, "rows": len(content), "crc": zlib.crc32(payload)} | changes
    return json.dumps(head).encode() + b"\n" + payload
