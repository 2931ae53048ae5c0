"""The devices a worker runs its networks on, and how it shares the machine with the web process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from backend.errors import OwnerError

if TYPE_CHECKING:
    import torch


def choose_devices(name: str) -> tuple[torch.device, ...]:
    """The torch devices for a value of the setting ``device``: "cuda" means all GPUs that torch sees, "cuda:1" that one
    alone, and "auto" the GPUs if there are any, else the CPU.

    Raises:
        OwnerError: the setting asks for a GPU that is not there.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device, alone = torch.device(name), ":" in name
    if device.type != "cuda":
        return (device,)
    if not torch.cuda.is_available():
        raise OwnerError(f"DEVICE is {name}, but torch sees no GPU here: set DEVICE=auto or DEVICE=cpu.")
    count = torch.cuda.device_count()
    if alone and device.index >= count:
        known = ", ".join(f"cuda:{number}" for number in range(count))
        raise OwnerError(f"DEVICE is {name}, but torch sees no such GPU here, only {known}: set DEVICE to one of them.")
    if alone or count == 1:
        return (device,)
    return tuple(torch.device("cuda", number) for number in range(count))


def share_cores(nice: int) -> None:
    """Let others respond within a second even while we train on every core. Call before importing torch.

    Lowers this process's priority, and makes threads that wait for each other sleep instead of spinning. Alongside a
    busy Label Studio, that makes training several times faster; on an otherwise idle machine it makes no difference.
    """
    os.nice(nice)
    _lower_session(nice)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _lower_session(nice: int) -> None:
    """Lower the session's priority, too, if it is our own: where Linux groups processes by session, a process's
    priority says nothing to the processes of other sessions (sched(7), "the autogroup feature")."""
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # another system, or one that does not group them
            Path("/proc/self/autogroup").write_text(f"{nice}\n")
