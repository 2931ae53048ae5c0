"""Further devices that whoever computes may use for as long as nobody else wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Lent:
    """A device that is lent. ``wanted``: whether somebody else computes on it by now, so that it is to be left."""

    device: torch.device
    wanted: Callable[[], bool]


Lend = Callable[["torch.device"], AbstractContextManager[Sequence[Lent]]]
"""Lends, for a block, the devices that nobody uses; it is told which one is used anyway."""
