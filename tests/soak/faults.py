"""What goes wrong during a soak: processes are killed at random instants, Label Studio fails in every way it knows, and
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig.processes import Server, ServerError
from tests.rig.proxy import Proxy
from tests.rig.servers import BackendServer, LabelStudioServer, WorkerProcess

DISK_MB = 512
SECONDS = (4.0, 12.0)
"""How long a fault of Label Studio lasts."""


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


class Faults(threading.Thread):
    """One fault after the other, each kind in turn in random order, until :attr:`over` is set; then all is well."""

    def __init__(
        self,
        studio: LabelStudioServer,
        proxy: Proxy,
        backend: BackendServer,
        second: WorkerProcess,
        disk: Path | None,
        every: float,
        seed: int,
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.studio, self.proxy, self.backend, self.second, self.disk = studio, proxy, backend, second, disk
        self.every, self.over, self.counts = every, threading.Event(), Counter[str]()
        self.failed: list[str] = []
        self._random = random.Random(seed)

    def run(self) -> None:
        kinds = self._kinds()
        while not self.over.is_set():
            for kind in self._random.sample(sorted(kinds), len(kinds)):
                if self.over.wait(self._random.uniform(0.3, 1.7) * self.every):
                    break
                try:
                    kinds[kind]()
                    self.counts[kind] += 1
                except (ServerError, OSError) as error:
                    self.failed.append(f"{kind}: {error}")
        self.make_well()

    def _kinds(self) -> dict[str, Callable[[], None]]:
        kinds: dict[str, Callable[[], None]] = {
            # most often, because where a kill strikes makes the difference
            **{f"web killed {number}": self._kill_web for number in range(3)},
            **{f"worker killed {number}": self._kill_worker for number in range(3)},
            **{f"second worker killed {number}": self._kill_second for number in range(2)},
            "supervisor killed": self._kill_supervisor,
            "Label Studio killed": self._kill_studio,
            "Label Studio slow": lambda: self._weather(hold=2.0),
            "Label Studio 401": lambda: self._weather(cut="before", status=401),
            "Label Studio 429": lambda: self._weather(cut="before", status=429),
            "Label Studio 500": lambda: self._weather(cut="before", status=500),
            "Label Studio 500 after it wrote": lambda: self._weather(cut="after", status=500),
            "Label Studio garbage": lambda: self._weather(cut="before", status=200, answer="<html>Welcome!</html>"),
            "Label Studio breaks off": lambda: self._weather(cut="after"),
        }
        return kinds | ({"disk full": self._fill_disk} if self.disk else {})

    def make_well(self) -> None:
        """Everything runs, nothing is in the way."""
        self.proxy.clear()
        for server in (self.studio, self.backend, self.second):
            if not server.running or (server is self.studio and not server.healthy()):
                server.kill()
                server.start()

    # -- processes

    def _kill_web(self) -> None:
        """gunicorn's process that answers, or the one that watches over it."""
        self._kill_one(lambda: self.backend.web_pid, children=True)

    def _kill_worker(self) -> None:
        self._kill_one(lambda: self.backend.worker_pid)

    def _kill_one(self, pid: Callable[[], int], *, children: bool = False) -> None:
        with contextlib.suppress(ServerError, ProcessLookupError):  # it is being restarted just now
            found = pid()
            task = Path(f"/proc/{found}/task/{found}/children")
            below = [int(child) for child in task.read_text().split()] if children else []
            os.kill(self._random.choice([found, *below]), signal.SIGKILL)

    def _kill_second(self) -> None:
        self._restart(self.second)

    def _kill_supervisor(self) -> None:
        self._restart(self.backend)

    def _kill_studio(self) -> None:
        self._restart(self.studio)

    def _restart(self, server: Server) -> None:
        server.kill()
        time.sleep(self._random.uniform(0.0, 2.0))
        server.start()

    # -- Label Studio, as the backend sees it

    def _weather(self, *, hold: float = 0.0, cut: str = "", status: int = 0, answer: str = "") -> None:
        self.proxy.set("*", "", stays=True, hold=hold, cut=cut, status=status, answer=answer)
        self.over.wait(self._random.uniform(*SECONDS))
        self.proxy.clear()

    # -- the disk

    def _fill_disk(self) -> None:
        assert self.disk is not None
        filling = self.disk / "filling"
        try:
            with filling.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(2**20))
                    file.flush()
            self.over.wait(self._random.uniform(*SECONDS))
        finally:
            filling.unlink(missing_ok=True)
