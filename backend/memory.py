"""How much memory the images of a process may take at a time, while they are fetched and decoded.

Half of it is for files on their way, half for decoding. A thread that works on an image says so with
:meth:`MemoryBudget.image`. Within that block its file may be so large that all threads can have one at a time; one
larger file at a time is allowed besides. Decoding waits until the memory that it needs is free. No thread waits for
files while it decodes, so that they cannot wait for each other forever.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from backend.errors import ImageError

MIB = 1 << 20
LEAST, MOST = 128 * MIB, 4096 * MIB
"""Of the default."""

SHARE_OF_MACHINE = 4
MAX_FILE = 256 * MIB
"""Of a file, however much memory there is."""


class MemoryBudget:
    """The memory for images, in bytes. Thread-safe."""

    def __init__(self, size: int, threads: int = 8) -> None:
        """``threads``: how many work on images at a time."""
        half = size // 2
        self.file_limit = min(MAX_FILE, half // 2)
        self.each = min(self.file_limit, half // (2 * max(1, threads)))
        """A file of this size waits for no other."""
        self.decode_limit = half
        self._free = half
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # whoever waits for much memory is not overtaken by those who need little
        self._large = threading.Lock()
        self._thread = threading.local()

    @contextlib.contextmanager
    def image(self) -> Iterator[None]:
        """This thread fetches and decodes one image inside the block."""
        self._thread.working, self._thread.large = True, False
        try:
            yield
        finally:
            if self._thread.large:
                self._large.release()
            self._thread.working = self._thread.large = False

    def file(self, size: int) -> None:
        """The file that this thread fetches takes ``size`` bytes, as far as is known now. May wait until another large
        file is decoded.

        Raises:
            ImageError: it is larger than any file may be.
        """
        if size > self.file_limit:
            raise ImageError(f"the file has more than {in_mib(self.file_limit)}{_hint(self.file_limit < MAX_FILE)}")
        if size > self.each and getattr(self._thread, "working", False) and not self._thread.large:
            self._large.acquire()
            self._thread.large = True

    @contextlib.contextmanager
    def decoding(self, size: int) -> Iterator[None]:
        """Take ``size`` bytes for the block, as soon as they are free.

        Raises:
            ImageError: that is more than one image may take.
        """
        if size > self.decode_limit:
            raise ImageError(
                f"decoding the image takes {in_mib(size)} of memory, and one image may take {in_mib(self.decode_limit)}"
                + _hint(True)
            )
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


def in_mib(size: int) -> str:
    return f"{-(-size // MIB)} MiB"


def _hint(applies: bool) -> str:
    return " (MEMORY_MB)" if applies else ""


# -- the one of this process -------------------------------------------------------------------------------------------

_guard = threading.Lock()
_of_process: MemoryBudget | None = None


def configure(megabytes: int, threads: int) -> MemoryBudget:
    """Set the budget of this process, at its start. ``megabytes``: 0 for a quarter of what the machine, or the
    container, leaves free."""
    global _of_process
    with _guard:
        _of_process = MemoryBudget(megabytes * MIB or default_size(), threads)
        return _of_process


def budget() -> MemoryBudget:
    """The budget of this process."""
    return _of_process or configure(0, 8)


def default_size() -> int:
    """A quarter of the memory that is free, within limits, in bytes."""
    return max(LEAST, min(MOST, free_memory() // SHARE_OF_MACHINE))


def free_memory(root: Path = Path("/")) -> int:
    """The bytes of memory that this process could still take: of the machine, and of each control group that it is in.

    ``root``: the directory that holds proc and sys.
    """
    found = [_machine(root), *_control_groups(root)]
    return max(0, min(size for size in found if size is not None)) if any(found) else LEAST * SHARE_OF_MACHINE


def _machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _control_groups(root: Path) -> Iterator[int]:
    """What each control group with a limit leaves: version 2, then version 1, from this process's own group upward."""
    groups = []
    with contextlib.suppress(OSError):
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    places = [(root / "sys/fs/cgroup", path, "memory.max", "memory.current") for _, names, path in groups if not names]
    places += [
        (root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes")
        for _, names, path in groups
        if "memory" in names.split(",")
    ]
    for base, path, limit, usage in places:
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
                yield int((folder / limit).read_text()) - int((folder / usage).read_text())
            if folder == base:
                break
