"""Who computes a pass over rows: this process, or an executor that has more processes, perhaps on other machines.

A pass can be given away if what it computes of a row depends on no other batch: then the batches may be computed
anywhere and come back in any order, and as each batch has the same rows as here, so has each result the same bits, on
processors of the same kind. Every pass through `models.inference.streaming.map_rows` is of this kind; so is the
embedding of a project's images. What compares rows with each other, such as the greedy choices of `samplers`' `fit`,
is none. Without an executor everything is computed here, and costs nothing more.

Axis letters: N rows asked for, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Pass:
    """`compute` on rows, in batches.

    sources   arrays (M, ...) uint8 or float16, usually a read-only np.memmap: what `compute` is given rows of.
    rows      (N,) integers into them, which have been checked.
    parts     the batches: positions (B,) in `rows`, each position in one of them.
    compute   a batch of each source, on the device -> tensors (B, ...), in inference mode. It keeps nothing between
              batches.
    device    where that is computed: a device of this kind.
    waiting   called at least every few seconds; what it raises ends the pass.
    """

    sources: Sequence[np.ndarray]
    rows: np.ndarray
    parts: Sequence[np.ndarray]
    compute: Callable[..., tuple[Tensor, ...]]
    device: torch.device
    waiting: Callable[[], None]


Computed = Generator[tuple[np.ndarray, tuple[np.ndarray, ...]], None, None]
"""For each batch, in any order and once: its positions (B,), and the results (B, ...)."""


class Executor(Protocol):
    """Computes passes in other processes. Several threads may ask it at a time."""

    def computed(self, work: Pass) -> Computed | None:
        """The results of a pass as they come; None where it is better computed here, because it is small or cannot be
        given away. To close the iterator ends the pass."""
