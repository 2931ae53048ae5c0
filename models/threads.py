"""How many threads small computations get."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 3e7
"""Multiplications of a product for which other threads are not woken."""


@contextmanager
def threads_for(multiplications: float) -> Iterator[None]:
    """Inside, torch computes with one thread if its products have no more than so many `multiplications`.

    To wake other threads and to wait for them takes longer than such a product, many times as long where they sleep
    while they wait (``OMP_WAIT_POLICY=PASSIVE``, under which the worker runs). Other threads of the program, whose
    products may be large, keep the number that they have.
    """
    before = torch.get_num_threads()
    if multiplications > SMALL or before == 1:
        yield
        return
    _set_here_alone(1, before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _set_here_alone(count: int, others: int) -> None:
    """torch notes the last number that any thread has set, and gives it to threads that are new. So another thread
    sets theirs again."""
    torch.set_num_threads(count)
    setter = threading.Thread(target=torch.set_num_threads, args=(others,))
    setter.start()
    setter.join()
