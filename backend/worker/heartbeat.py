"""Whether a worker runs on this machine, for whoever has to restart it: a container has no other way to be asked.

A worker touches a file in ``MODEL_DIR``, named after its host, while its threads live. The state's database is left out
of it: one that is busy for a minute is no reason to restart a worker.
"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

EVERY_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""A worker that has been silent this long does not run, or hangs."""


def beat(model_dir: Path) -> None:
    """Note that this host's worker is alive. A full disk is not its fault."""
    path = _path(model_dir)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)


def silent_seconds(model_dir: Path) -> float:
    """How long ago a worker on this host was last alive; infinite if there was none."""
    try:
        return max(0.0, time.time() - _path(model_dir).stat().st_mtime)
    except OSError:
        return float("inf")


def _path(model_dir: Path) -> Path:
    return model_dir / "workers" / (socket.gethostname() or "localhost")
