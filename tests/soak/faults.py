"""What goes wrong during a soak: each part is killed at random instants, Label Studio fails in every way it knows, and
the disk is full."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.rig.processes import Server, ServerError
from tests.rig.proxy import Proxy
from tests.rig.servers import BackendServer, LabelStudioServer, PostgresServer, WorkerProcess

DISK_MB = 512
SECONDS = (4.0, 12.0)
"""How long a fault of Label Studio lasts."""

AWAY = (0.0, 2.0)
"""Seconds until somebody starts again what was killed."""


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """A disk of :data:`DISK_MB` at ``directory`` if this may be made here; yields whether it is one."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "tmpfs", str(directory)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


@dataclass(frozen=True)
class Parts:
    """All that runs during a soak. Without ``workers``, the backend has one beside its web process. Without
    ``database``, the state is in a file. ``disk``: that of the backend's files, if it may be filled."""

    studio: LabelStudioServer
    proxy: Proxy
    backend: BackendServer
    workers: Sequence[WorkerProcess]
    database: PostgresServer | None
    disk: Path | None

    @property
    def servers(self) -> list[Server]:
        """In the order in which they have to be started."""
        return [self.studio, *([self.database] if self.database else []), self.backend, *self.workers]


class Faults(threading.Thread):
    """One fault after the other, each kind in turn in random order, until :attr:`over` is set; then all is well."""

    def __init__(self, parts: Parts, every: float, seed: int) -> None:
        super().__init__(name="faults", daemon=True)
        self.parts, self.every = parts, every
        self.over, self.counts = threading.Event(), Counter[str]()
        self.failed: list[str] = []
        self._random = random.Random(seed)

    def run(self) -> None:
        kinds = self._kills() + self._weathers()
        while not self.over.is_set():
            for name, fault in self._random.sample(kinds, len(kinds)):
                if self.over.wait(self._random.uniform(0.3, 1.7) * self.every):
                    break
                try:
                    fault()
                    self.counts[name] += 1
                except (ServerError, OSError) as error:
                    self.failed.append(f"{name}: {error}")
        self.make_well()

    def _kills(self) -> list[tuple[str, Callable[[], None]]]:
        """Each part twice in a turn, because where a kill strikes makes the difference."""
        parts = self.parts
        kinds: list[tuple[str, Callable[[], None]]] = [
            ("web process killed", self._kill_web),
            *((f"worker {number} killed", partial(self._restart, one)) for number, one in enumerate(parts.workers, 1)),
            ("Label Studio killed", partial(self._restart, parts.studio)),
        ]
        kinds += [("PostgreSQL killed", partial(self._restart, parts.database))] if parts.database else []
        kinds += [] if parts.workers else [("worker killed", lambda: self._kill_one(lambda: parts.backend.worker_pid))]
        return [*kinds, *kinds, ("supervisor killed", partial(self._restart, parts.backend))]

    def _weathers(self) -> list[tuple[str, Callable[[], None]]]:
        kinds: list[tuple[str, Callable[[], None]]] = [
            ("Label Studio slow", lambda: self._weather(hold=2.0)),
            ("Label Studio 401", lambda: self._weather(cut="before", status=401)),
            ("Label Studio 429", lambda: self._weather(cut="before", status=429)),
            ("Label Studio 500", lambda: self._weather(cut="before", status=500)),
            ("Label Studio 500 after it wrote", lambda: self._weather(cut="after", status=500)),
            (
                "Label Studio garbage",
                lambda: self._weather(cut="before", status=200, answer="<html>Welcome!</html>"),
            ),
            ("Label Studio breaks off", lambda: self._weather(cut="after")),
        ]
        return kinds + ([("disk full", self._fill_disk)] if self.parts.disk else [])

    def make_well(self) -> None:
        """Everything runs, nothing is in the way."""
        self.parts.proxy.clear()
        for server in self.parts.servers:
            if not server.running or not server.healthy():
                server.kill()
                server.start()

    # -- processes

    def _kill_web(self) -> None:
        """gunicorn's process that answers, or the one that watches over it."""
        self._kill_one(lambda: self.parts.backend.web_pid, children=True)

    def _kill_one(self, pid: Callable[[], int], *, children: bool = False) -> None:
        with contextlib.suppress(ServerError, ProcessLookupError):  # it is being restarted just now
            found = pid()
            task = Path(f"/proc/{found}/task/{found}/children")
            below = [int(child) for child in task.read_text().split()] if children else []
            os.kill(self._random.choice([found, *below]), signal.SIGKILL)

    def _restart(self, server: Server) -> None:
        """Killed with all that belongs to it; after a moment somebody starts it again, where it was."""
        server.kill()
        time.sleep(self._random.uniform(*AWAY))
        server.start()

    # -- Label Studio, as the backend sees it

    def _weather(self, *, hold: float = 0.0, cut: str = "", status: int = 0, answer: str = "") -> None:
        self.parts.proxy.set("*", "", stays=True, hold=hold, cut=cut, status=status, answer=answer)
        self.over.wait(self._random.uniform(*SECONDS))
        self.parts.proxy.clear()

    # -- the disk

    def _fill_disk(self) -> None:
        assert self.parts.disk is not None
        filling = self.parts.disk / "filling"
        try:
            with filling.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(2**20))
                    file.flush()
            self.over.wait(self._random.uniform(*SECONDS))
        finally:
            filling.unlink(missing_ok=True)
