"""Where a worker's networks run, and how it shares the machine with the web process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backend.errors import OwnerError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """``auto``: CUDA where there is one.

    Raises:
        OwnerError: CUDA was asked for and is not there.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OwnerError(f"DEVICE is {name}, but torch sees no GPU here: set DEVICE=auto or DEVICE=cpu.")
    return device


def share_cores(nice: int = 10) -> None:
    """The web process must answer within a second while we train on every core. Call it before torch is imported.

    Threads that wait for each other sleep instead of spinning: beside a busy Label Studio that trains several times
    faster, and on an idle machine as fast.
    """
    os.nice(nice)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
