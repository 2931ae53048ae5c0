"""``serve``: the web process and a worker, each started again when it dies, both gone when this process is.

The listening socket belongs to the supervisor: callers queue while the web process restarts, and a busy port is
found out before anything starts. Each child leads a session of its own and is killed by the kernel when the
supervisor dies, even by ``kill -9``; nothing of theirs outlives it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backend.errors import OwnerError

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
HEALTHY_SECONDS = 30.0
STOP_SECONDS = 10.0
BACKLOG = 2048
_PR_SET_PDEATHSIG = 1


class Child:
    """One process that is to be there, whatever happens to it."""

    def __init__(self, name: str, command: Sequence[str], files: Sequence[int] = ()) -> None:
        self.name, self._command, self._files = name, list(command), tuple(files)
        self._process: subprocess.Popen[bytes] | None = None
        self._since = self._not_before = 0.0
        self._pause = FIRST_PAUSE

    def tend(self, now: float) -> None:
        """Start it when it is not there; wait longer each time when it dies soon after its start."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._kill_group()  # what it left behind
            self._pause = FIRST_PAUSE if now - self._since > HEALTHY_SECONDS else min(self._pause * 2, LONGEST_PAUSE)
            log.warning("%s ended (%s); starting it again in %.1f s", self.name, _ending(code), self._pause)
            self._process, self._not_before = None, now + self._pause
        if now >= self._not_before:
            self._start(now)

    def _start(self, now: float) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            pass_fds=self._files,
            # A session of its own. Ctrl-C in a terminal reaches the supervisor alone, which ends the others in order;
            # and Linux shares cores out among sessions before processes (autogroup): training within the web process's
            # would use up its share, and on a busy machine webhooks would wait for the next (a p99 four times as long).
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._since = now
        log.info("%s runs as process %d", self.name, self._process.pid)

    def ask_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def end(self, until: float) -> None:
        """Wait for it, and kill what is left of its group at ``until`` (monotonic)."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("%s did not end in time; killing it", self.name)
        self._kill_group()
        self._process.wait()

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


def serve(host: str, port: int, *, worker: bool) -> int:
    """Serve until SIGTERM or SIGINT, then end the children. Returns the exit code.

    Raises:
        OwnerError: the address cannot be listened on.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with listening(host, port) as door:
        log.info("Listening at http://%s:%d", *door.getsockname()[:2])
        children = [Child("web", web_command(door.fileno()), [door.fileno()])]
        if worker:
            children.append(Child("worker", [sys.executable, "-m", "backend", "worker"]))
        _tend(children, stop.wait)
    return 0


def _tend(children: Sequence[Child], wait: Callable[[float], bool]) -> None:
    try:
        while True:
            for child in children:
                child.tend(time.monotonic())
            if wait(0.1):
                return
    finally:
        log.info("Ending")
        until = time.monotonic() + STOP_SECONDS
        for child in children:
            child.ask_to_end()
        for child in children:
            child.end(until)


def web_command(file: int) -> list[str]:
    """gunicorn on an inherited listening socket."""
    config = ["--config", "python:backend.web.gunicorn_config", "--bind", f"fd://{file}"]
    return [sys.executable, "-m", "gunicorn", *config, "backend.web.app:from_environment()"]


def listening(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OwnerError when the address is in use, not ours or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise OwnerError(f"Cannot listen on {host}, port {port}: {words}") from error


def die_with_parent() -> None:
    """Linux: the kernel kills this process when the one that started it is gone. Elsewhere: nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}" if -code in list(signal.Signals) else f"signal {-code}"
