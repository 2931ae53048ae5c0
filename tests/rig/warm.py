"""Starts the backend's processes from one that has imported already what they import.

To import torch, the SDK and Flask costs a process five seconds of processor time, and the tests start a hundred. So
:class:`WarmProcess` has a *fork server* (one for each test process, started at the first use) fork instead of starting
Python anew. All else is as it would be: a process with an environment, a session and an output of its own, under the
command line that it would have, which is killed and waited for like any other; and the children of ``serve`` are its
own. What is not: all modules are there from the start. Tests of the start itself use cold processes.

Run as a script (``python -m tests.rig.warm``, a socket as its standard input) this file is the fork server.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import logging
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

IMPORTED = (
    "torch._dynamo",  # which torch's optimizers import
    "label_studio_sdk.label_interface",
    "gunicorn.app.wsgiapp",
    "gunicorn.arbiter",
    "scipy.optimize",
    "backend.cycle",
    "backend.exposure",
    "backend.supervisor",
    "backend.web.app",
    "backend.web.door",
    "backend.worker.commands",
)
ROOM = 400
"""Bytes for a forked process's command line."""
MOST_BYTES = 100_000


class WarmProcess:
    """``[sys.executable, "-m", module, …]`` as a child of the fork server: what :class:`subprocess.Popen` is to
    :class:`tests.rig.processes.Server`, with stdout and stderr in ``log`` and a session of its own."""

    imported: tuple[str, ...] = IMPORTED
    _lock = threading.Lock()
    _server: tuple[socket.socket, int] | None = None

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: IO[bytes]) -> None:
        self.returncode: int | None = None
        self._news, told = os.pipe()
        try:
            request = json.dumps({"command": list(command), "env": dict(env), "cwd": str(cwd)}).encode()
            with self._lock:
                socket.send_fds(self._connection(), [request], [log.fileno(), told])
        finally:
            os.close(told)
        self.pid = self._read()

    def _read(self) -> int:
        """The next number that the fork server tells; of one that has died, that its children were killed with it."""
        word = b""
        while not word.endswith(b"\n"):
            part = os.read(self._news, 1)
            if not part:
                return -signal.SIGKILL
            word += part
        return int(word)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._news], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._news], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = self._read()
            os.close(self._news)
        return self.returncode

    @classmethod
    def _connection(cls) -> socket.socket:
        if cls._server is None or cls._server[1] != os.getpid():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, "-m", __name__, " " * ROOM, *cls.imported]
            server = subprocess.Popen(
                command, stdin=theirs.fileno(), start_new_session=True, env=_environment(), cwd=_ROOT
            )
            theirs.close()
            cls._server = ours, os.getpid()
            atexit.register(_close, ours, server)
        return cls._server[0]


def _close(connection: socket.socket, server: subprocess.Popen[bytes]) -> None:
    connection.close()
    server.wait()


_ROOT = Path(__file__).resolve().parents[2]


def _environment() -> dict[str, str]:
    from tests.rig.processes import clean_environment

    return clean_environment({"PYTHONUNBUFFERED": "1"})


# -- the fork server ---------------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    """Forks what is asked for and tells how it ends, until the other end is closed."""
    awake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), awake], [], [])
        if awake in ready:
            os.read(awake, 1000)
            _tell_ends(running)
        if requests.fileno() in ready:
            request, files, _, _ = socket.recv_fds(requests, MOST_BYTES, 2)
            if not request:
                return
            log, news = files
            pid = os.fork()
            if pid == 0:
                _begin(json.loads(request), log, news)
            os.close(log)
            running[pid] = news


def _tell_ends(running: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            news = running.pop(found[0])
            with contextlib.suppress(BrokenPipeError):
                os.write(news, f"{os.waitstatus_to_exitcode(found[1])}\n".encode())
            os.close(news)


def _begin(request: Mapping[str, Any], log: int, news: int) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(request["cwd"])
    _become(request["command"], request["env"], [news], news)


class Forked:
    """What :mod:`backend.supervisor` needs of a subprocess.Popen, forked from the supervisor itself."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int,
        pass_fds: Sequence[int],
        start_new_session: bool,
        preexec_fn: Callable[[], None],
    ) -> None:
        assert stdin == subprocess.DEVNULL and start_new_session
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            preexec_fn()
            _become(command, env, pass_fds)

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        until = None if timeout is None else time.monotonic() + timeout
        while until is not None and self._look(os.WNOHANG) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            select.select([], [], [], 0.02)
        return self._look(0)

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def _look(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become(command: Sequence[str], env: Mapping[str, str], keep: Sequence[int], news: int | None = None) -> None:
    """Runs ``[python, "-m", module, …]`` in this process, which has just been forked, and ends it. Of its files it
    keeps those. As soon as it is all that it is to be, tells its number to ``news``."""
    assert list(command[:2]) == [sys.executable, "-m"]
    code: Any = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for file in set(range(3, 256)) - set(keep):
            with contextlib.suppress(OSError):
                os.close(file)
        os.environ.clear()
        os.environ.update(env)
        _name(command)
        logging.root.handlers.clear()  # the supervisor's
        logging.root.setLevel(logging.WARNING)
        random.seed()
        sys.path[0] = os.getcwd()
        sys.argv = [command[2], *command[3:]]
        if news is not None:
            os.write(news, f"{os.getpid()}\n".encode())
            os.close(news)
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _name(command: Sequence[str]) -> None:
    """Writes ``command`` over this process's command line, which others read in /proc."""
    stat = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    start, end = int(stat[45]), int(stat[46])  # proc_pid_stat(5): arg_start, arg_end
    line = "\0".join(command).encode() + b"\0"
    ctypes.memmove(start, line[: end - start - 1].ljust(end - start, b"\0"), end - start)


def main(imported: Sequence[str]) -> None:
    for name in imported:
        importlib.import_module(name)
    if supervisor := sys.modules.get("backend.supervisor"):
        supervisor.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
            Popen=Forked, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
        )
    gc.collect()
    gc.freeze()  # pages that nobody collects stay shared
    serve(socket.socket(fileno=os.dup(0)))
    os._exit(0)  # what was imported prints much about its own end


if __name__ == "__main__":
    main(sys.argv[2:])
