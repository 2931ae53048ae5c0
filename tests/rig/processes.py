"""A server as a child process: in a group of its own, its output in a file, waited for, ended whole."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

from tests.rig.leash import Leash, signal_group

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parents[2]
_LEASH = Leash()

_KEPT_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"),
    *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
)
"""All that a server sees of our environment: a developer's own LABEL_STUDIO_URL must not leak in."""


class ServerError(RuntimeError):
    """A server did not start or ended by itself; the message ends with the tail of its log."""


_RESERVED: list[socket.socket] = []
"""A name for each port that this process was given. The kernel lets go of them when the process ends."""


def free_port() -> int:
    """A loopback port that nobody listens on now, below the range that the kernel hands to clients, and that nobody
    else on this machine is given as long as this process lives: its server may take seconds to listen."""
    draw = random.SystemRandom()
    for _ in range(200):
        port = draw.randrange(20_000, 32_000)
        reserved = socket.socket(socket.AF_UNIX)
        try:
            reserved.bind(f"\0{__name__}-{port}")
        except OSError:
            reserved.close()
            continue
        _RESERVED.append(reserved)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers themselves do
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError("found no free port between 20000 and 32000")


def clean_environment(*extras: Mapping[str, str] | None) -> dict[str, str]:
    """The kept part of our environment, then each of ``extras``; later ones win."""
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    for extra in extras:
        environment.update(extra or {})
    return environment


class Process(Protocol):
    """What is asked of a subprocess.Popen."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Server:
    """One child process and the group it leads. Subclasses say what to run and when it is healthy.

    ``log_path`` collects the output of all starts. ``stop_signal`` asks for an orderly end.
    """

    name = "server"
    stop_signal = signal.SIGTERM
    start_timeout = 60.0
    stop_timeout = 20.0

    def __init__(self, directory: Path, log_name: str) -> None:
        self.directory = Path(directory)
        self.log_path = self.directory / log_name
        self.process: Process | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return clean_environment()

    def healthy(self) -> bool:
        """Whether it serves. Asked only while the process runs."""
        return True

    def popen_options(self) -> dict[str, object]:
        return {}

    @property
    def pid(self) -> int:
        """Of the process that leads the group. Raises ServerError before the start and after the end."""
        if self.process is None:
            raise ServerError(f"{self.name} is not running")
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def launch(self) -> None:
        """Starts the process without waiting for it. Raises ServerError when it is running already."""
        if self.running:
            raise ServerError(f"{self.name} is running already")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log, _interrupts_wait():
            self.process = self.spawn(log)
            _LEASH.hold(self.pid, self.stop_signal)

    def spawn(self, log: IO[bytes]) -> Process:
        """The process, which leads a session and prints to ``log``."""
        return subprocess.Popen(  # type: ignore[call-overload]
            self.command(),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self.popen_options(),
        )

    def start(self) -> None:
        """Starts the process and waits until it is healthy."""
        self.launch()
        self.wait_healthy()

    def wait_healthy(self, timeout: float | None = None) -> None:
        """Waits until it serves. Raises ServerError, with the log's tail, when it ends or takes too long."""
        limit = self.start_timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        while True:
            if not self.running:
                code = self.process.returncode if self.process else None
                self._strike()
                words = f"{self.name} ended (exit code {code}) instead of starting."
                raise ServerError(f"{words}\n{self.log_tail()}")
            if self.healthy():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.name} was not healthy after {limit:.0f} s.\n{self.log_tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Asks the whole group to end, waits, and kills what is left. Safe to call twice."""
        self._end(self.stop_signal, self.stop_timeout)

    def kill(self) -> None:
        """Ends the whole group at once, as ``kill -9`` does."""
        self._end(signal.SIGKILL, 0.0)

    def _end(self, number: int, patience: float) -> None:
        if self.process is None:
            return
        group = self.process.pid
        signal_group(group, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and (self.process.poll() is None or signal_group(group, 0)):
            time.sleep(0.02)
        signal_group(group, signal.SIGKILL)
        self.process.wait()
        self._strike()

    def _strike(self) -> None:
        if self.process is not None:
            _LEASH.release(self.process.pid)
            self.process = None

    def log_tail(self, lines: int = 40) -> str:
        """The end of what it printed, headed by where the whole is."""
        try:
            text = self.log_path.read_text(errors="replace")
        except OSError:
            return f"(no log at {self.log_path})"
        return f"--- {self.log_path} ---\n" + "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C and the like take effect afterwards: between its start and our note of it a process would be nobody's."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: came.append((number, frame)))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late, frame in came:
            handler = handlers[signal.Signals(late)]
            if callable(handler):
                handler(late, frame)
            elif handler == signal.SIG_DFL:
                os.kill(os.getpid(), late)


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether an HTTP GET of ``url`` gives status 200. Proxies of the environment are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def children_of(pid: int) -> dict[int, str]:
    """Every living descendant of a process, with its command line (Linux)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if stat[0] != "Z":
                parents[int(entry.name)] = int(stat[1])
    found: dict[int, str] = {}
    wanted = {pid}
    while wanted:
        wanted = {child for child, parent in parents.items() if parent in wanted and child not in found}
        for child in wanted:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            found[child] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found
