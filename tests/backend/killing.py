"""A process that writes, killed at a chosen moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path


def kill_writer(script: str, directory: Path, first: int, kill_after: int) -> int:
    """Run ``script`` with a directory and the first task as arguments, and end it with SIGKILL as soon as it has said
    that ``kill_after`` tasks are done; how many it had said by then.

    It prints the number of tasks done, a line each.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory), str(first)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= kill_after:
            break
    process.send_signal(signal.SIGKILL)
    finished = int([line, *process.stdout.read().split()][-1])
    process.wait()
    return finished
