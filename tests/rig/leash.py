"""Ends the servers of a process that died without ending them itself (``kill -9``, out of memory).

:class:`Leash` starts one small watcher process and holds the writing end of a pipe to it. Every started
process group is reported over that pipe, every ended one struck off. When the pipe closes, the owner is gone
and the watcher ends what is still on its list, grandchildren included. A parent-death signal would not do: it
follows the *thread* that started the child, and never reaches grandchildren.

Run as a script (``python leash.py``) this file is the watcher; it imports the standard library only.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO

GRACE_SECONDS = 10.0


class Leash:
    """Keeps the watcher's list; one per process, started at the first :meth:`hold`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def hold(self, group: int, stop_signal: int) -> None:
        """From now on process group ``group`` gets ``stop_signal`` when this process dies."""
        self._tell(f"+ {group} {stop_signal}\n")

    def release(self, group: int) -> None:
        """``group`` has ended; its number may belong to somebody else soon."""
        self._tell(f"- {group} 0\n")

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._watcher is None or self._owner != os.getpid():
                self._watcher, self._owner = _start_watcher(), os.getpid()
            pipe = self._watcher.stdin
            assert pipe is not None
            pipe.write(line.encode())
            pipe.flush()


def _start_watcher() -> subprocess.Popen[bytes]:
    watcher = subprocess.Popen(
        [sys.executable, "-S", "-E", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; the watcher outlives it
    )
    atexit.register(_close, watcher.stdin, watcher)
    return watcher


def _close(pipe: IO[bytes] | None, watcher: subprocess.Popen[bytes]) -> None:
    if pipe is not None:
        pipe.close()
    watcher.wait()


def signal_group(group: int, number: int) -> bool:
    """Sends a signal to a process group; False when nobody of it is left (or it is not ours)."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def watch(lines: IO[str]) -> None:
    """The watcher: reads the list until the owner's end closes, then ends what is left on it."""
    held: dict[int, int] = {}
    for line in lines:
        sign, words = line[0], line[1:].split()
        if sign == "+":
            held[int(words[0])] = int(words[1])
        else:
            held.pop(int(words[0]), None)
    left = [group for group, number in held.items() if signal_group(group, number)]
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [group for group in left if signal_group(group, 0)]
    for survivor in left:
        signal_group(survivor, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(sys.stdin)
