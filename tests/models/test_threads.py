"""Small computations take one thread, and leave those of others as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from models.threads import SMALL, threads_for


@pytest.fixture(autouse=True)
def two() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_a_small_product_takes_one_thread_and_a_large_one_all() -> None:
    with threads_for(SMALL):
        assert torch.get_num_threads() == 1
        with threads_for(SMALL):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with threads_for(SMALL + 1):
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), threads_for(1):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_threads_that_begin_meanwhile_and_later_have_all() -> None:
    """torch gives a new thread the last number that any thread has set: a worker's lanes are such threads."""
    inside, ended = threading.Event(), threading.Event()

    def train() -> None:
        with threads_for(1):
            inside.set()
            ended.wait()

    found: list[int] = []

    def another() -> None:
        with threads_for(1):
            ended.set()
            first.join()
        found.append(torch.get_num_threads())

    first = threading.Thread(target=train, daemon=True)
    second = threading.Thread(target=another, daemon=True)
    first.start()
    inside.wait()
    meanwhile = of_a_new_thread()
    second.start()
    second.join()
    assert [meanwhile, *found, of_a_new_thread()] == [2, 2, 2]
