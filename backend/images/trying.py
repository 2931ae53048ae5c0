"""Which images are being decoded, on disk, so that one that kills its process is known when the next one starts.

A file that is locked for as long as its process lives has a place for each thread. Before an image is decoded, its
task and a digest of its address are written there; afterwards they are erased. A file that nobody locks any more
belongs to a process that died, and what still stands in it was being decoded then.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

Trying = Callable[[int, str], AbstractContextManager[None]]
"""(task id, source) → a block within which that image is decoded."""

Tried = tuple[int, bytes]
"""A task's id, and the digest of its image's source."""

_PLACE = struct.Struct("<q16s")
_open: weakref.WeakSet[Attempts] = weakref.WeakSet()


def unnoted(task: int, source: str) -> AbstractContextManager[None]:
    """Notes nothing: for images that are not a project's."""
    return nullcontext()


def source_digest(source: str) -> bytes:
    """Sixteen bytes that stand for the address of an image."""
    return hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Attempts:
    """The images of one project that this object's threads decode. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        """``folder``: the project's."""
        self._folder = folder / "trying"
        self._path = self._folder / uuid.uuid4().hex
        self._file = -1
        self._guard = threading.Lock()
        self._free: list[int] = []
        self._places = 0

    def __enter__(self) -> Attempts:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # released when the process ends, however it ends
        _open.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()
        with self._guard:
            os.close(self._file)
            self._file = -1

    def forget(self) -> None:
        """Leave nothing behind: the process ends, or goes on without these images, and none of them is to blame."""
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def trying(self, task: int, source: str) -> Iterator[None]:
        """Within the block, this thread decodes an image. Thread-safe."""
        with self._guard:
            place = self._free.pop() if self._free else self._places
            self._places = max(self._places, place + 1)
        self._write(place, task, source_digest(source))
        try:
            yield
        finally:
            self._write(place, 0, bytes(16))
            with self._guard:
                self._free.append(place)

    def _write(self, place: int, task: int, digest: bytes) -> None:
        with self._guard:
            if self._file >= 0:  # a thread may end later than those who waited for it
                os.pwrite(self._file, _PLACE.pack(task, digest), place * _PLACE.size)

    def collect(self, note: Callable[[Sequence[Tried]], None]) -> None:
        """Call ``note`` with what each dead process was decoding, and then forget it."""
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if path != self._path:
                with contextlib.suppress(FileNotFoundError), _unlocked(path) as data:
                    if data is not None:
                        found = [
                            place
                            for place in _PLACE.iter_unpack(data[: len(data) // _PLACE.size * _PLACE.size])
                            if place[0]
                        ]
                        if found:
                            note(found)
                        path.unlink()


@contextlib.contextmanager
def _unlocked(path: Path) -> Iterator[bytes | None]:
    """The content of a file that nobody locks, which is locked in the block; None if somebody does."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file.read()


def forget_all() -> None:
    """Before the process ends on purpose, in the middle of its work."""
    for attempts in list(_open):
        attempts.forget()
