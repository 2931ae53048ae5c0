"""``serve``: runs the web process and a worker, and restarts either when it dies.

The supervisor owns the listening socket, so that connections wait while the web process restarts, and a port that is in
use is noticed before anything starts. Each child has a session of its own. The kernel kills the children when the
supervisor dies, even by ``kill -9``, so that nothing outlives it.
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
    """A process that is restarted whenever it ends."""

    def __init__(self, name: str, command: Sequence[str], files: Sequence[int] = ()) -> None:
        self.name, self._command, self._files = name, list(command), tuple(files)
        self._process: subprocess.Popen[bytes] | None = None
        self._since = self._not_before = 0.0
        self._pause = FIRST_PAUSE

    def keep_running(self, now: float) -> None:
        """Start the process unless it is running; wait longer each time it dies soon after its start.

        ``now``: monotonic seconds.
        """
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._kill_group()  # processes it left behind
            self._pause = FIRST_PAUSE if now - self._since > HEALTHY_SECONDS else min(self._pause * 2, LONGEST_PAUSE)
            log.warning("%s ended (%s); restarting it in %.1f s", self.name, _exit_reason(code), self._pause)
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
            # In a session of its own, for two reasons. Ctrl-C in a terminal reaches only the supervisor, which stops
            # the children in order. And Linux divides CPU time between sessions before processes (autogroup): if the
            # worker shared a session with the web process, webhooks on a busy machine would wait (p99 is four times as
            # long).
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._since = now
        log.info("%s runs as process %d", self.name, self._process.pid)

    def terminate(self) -> None:
        """Ask the process to end, without waiting for it."""
        if self._process is not None:
            self._process.terminate()

    def join(self, until: float) -> None:
        """Wait for the process to end, then kill what is left of its group; at ``until`` (monotonic seconds), kill it
        too."""
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
    """Serve until SIGTERM or SIGINT, then stop the children. Returns the exit code.

    Raises:
        OwnerError: it is not possible to listen on the address.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with listening(host, port) as listener:
        log.info("Listening at http://%s:%d", *listener.getsockname()[:2])
        children = [Child("web", web_command(listener.fileno()), [listener.fileno()])]
        if worker:
            children.append(Child("worker", [sys.executable, "-m", "backend", "worker"]))
        _supervise(children, stop.wait)
    return 0


def _supervise(children: Sequence[Child], wait: Callable[[float], bool]) -> None:
    """Keep the children running until ``wait(seconds)`` says to stop, then stop them."""
    try:
        while True:
            for child in children:
                child.keep_running(time.monotonic())
            if wait(0.1):
                return
    finally:
        log.info("Shutting down")
        until = time.monotonic() + STOP_SECONDS
        for child in children:
            child.terminate()
        for child in children:
            child.join(until)


def web_command(fd: int) -> list[str]:
    """The command that runs gunicorn on an inherited listening socket, by its file descriptor."""
    config = ["--config", "python:backend.web.gunicorn_config", "--bind", f"fd://{fd}"]
    return [sys.executable, "-m", "gunicorn", *config, "backend.web.app:from_environment()"]


def listening(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OwnerError if the address is in use, not local, or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OwnerError(f"Cannot listen on {host}, port {port}: {reason}") from error


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent dies. Elsewhere, do nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}" if -code in list(signal.Signals) else f"signal {-code}"
