"""What a project has in the store, at one moment: a manifest names all objects, and none of them ever changes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

FORMAT = 1

MANIFESTS = "manifests/"
"""Where they are, in a project's folder of the store."""


@dataclass(frozen=True)
class CachedRows:
    """The rows of one cache. ``layout``: of its files, as it stands in the cache's folder; ``chunks``: the number of a
    chunk → the name of its object."""

    layout: dict[str, Any]
    chunks: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """``files``: path in the project's folder → object and size. ``caches``: path of a cache → its rows. ``replaced``:
    objects that the last manifest named and this one does not: somebody may still be reading them, so they are deleted
    with the next one."""

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    caches: dict[str, CachedRows] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()

    def objects(self) -> Iterator[str]:
        """All objects that it names as being of use."""
        yield from (name for name, _ in self.files.values())
        for cache in self.caches.values():
            yield from cache.chunks.values()

    def to_json(self) -> dict[str, Any]:
        caches = {path: {"layout": rows.layout, "chunks": rows.chunks} for path, rows in self.caches.items()}
        return {"format": FORMAT, "files": self.files, "caches": caches, "replaced": list(self.replaced)}

    @classmethod
    def from_json(cls, read: Any) -> Manifest:
        """Raises ValueError if it is none, or of another version."""
        try:
            if read["format"] != FORMAT:
                raise ValueError(f"a manifest of format {read['format']}, not {FORMAT}")
            files = {_inside(path): (str(name), int(size)) for path, (name, size) in read["files"].items()}
            caches = {
                _inside(path): CachedRows(
                    dict(rows["layout"]), {int(number): str(name) for number, name in rows["chunks"].items()}
                )
                for path, rows in read["caches"].items()
            }
            return cls(files, caches, tuple(map(str, read["replaced"])))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error

    def encoded(self) -> bytes:
        return json.dumps(self.to_json()).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Manifest:
        return cls.from_json(json.loads(data))


def later_name(name: str) -> str:
    """A manifest's name that sorts behind ``name``, whatever the clock of the machine that gave that one."""
    before = int(name.removeprefix(MANIFESTS).partition("-")[0]) if name else 0
    return f"{MANIFESTS}{max(time.time_ns(), before + 1):020d}-{secrets.token_hex(4)}.json"


def _inside(path: str) -> str:
    """A path that leads nowhere but into the project's folder: whoever can write to the store gets no further."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"a manifest names {path!r}")
    return path
