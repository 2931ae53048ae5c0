"""How many threads small computations get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 3e7
"""Multiplications of a product that one thread is as fast with as several."""


@contextmanager
def threads_for(multiplications: float) -> Iterator[None]:
    """Inside, torch computes with one thread if its products have no more than so many `multiplications`.

    To wake other threads and to wait for them takes longer than such a product, many times as long where they sleep
    while they wait (``OMP_WAIT_POLICY=PASSIVE``, under which the worker runs).
    """
    before = torch.get_num_threads()
    if multiplications <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
