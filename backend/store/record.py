"""What of a project's folder is in the store, as this machine knows it: ``.stored.json`` beside the files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.store.manifest import Manifest
from models.files import replace_file

RECORD, LOCK = ".stored.json", ".stored.lock"

Stamp = tuple[int, int]
"""Size and time of change of a file: whoever writes one changes them."""


@dataclass(frozen=True)
class Record:
    """``name``: of the manifest that the folder was last brought to, or stored as. ``whole``: with all of its files and
    caches. ``seen``: path → stamp of each file that is here as the manifest has it."""

    name: str = ""
    whole: bool = False
    manifest: Manifest = field(default_factory=Manifest)
    seen: dict[str, Stamp] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, store: str) -> Record:
        """That of ``folder`` and the store at that address; an empty one if there is none."""
        try:
            read = json.loads((folder / RECORD).read_text())
            if read["store"] != store:
                return cls()
            seen = {str(path): (int(size), int(changed)) for path, (size, changed) in read["seen"].items()}
            return cls(str(read["name"]), bool(read["whole"]), Manifest.from_json(read["manifest"]), seen)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def write(self, folder: Path, store: str) -> None:
        told: dict[str, Any] = {"store": store, "name": self.name, "whole": self.whole}
        told |= {"manifest": self.manifest.to_json(), "seen": self.seen}
        replace_file(folder / RECORD, json.dumps(told).encode())


def stamp_of(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Keep other processes and threads of this machine from changing the record. Yields whether it is ours: without
    ``wait``, it may be another's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            os.utime(lock.fileno())
            yield True


def last_used(folder: Path) -> float:
    """When the folder was last brought up to date, stored, or looked at here, in seconds since the epoch; 0: never."""
    try:
        return (folder / LOCK).stat().st_mtime
    except FileNotFoundError:
        return 0.0
