"""Where tasks are found, many at once and one by one, in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st

from backend.images.row_index import Index
from tests.backend.images.indexes import PLENTY, digest, opened


@sized(max_examples=50)
@given(st.integers(0, 1 << 32), st.sampled_from([30, 3000, 1 << 62]))
def test_rows_of_many_tasks_at_once(seed: int, largest: int) -> None:
    """In bulk and one by one, with few and many gaps between the ids, those that are gone included."""
    draw = np.random.default_rng(seed)
    index, model = Index(Path("nowhere"), 32, lambda: PLENTY), {}  # type: Index, dict[int, int]
    for tasks in draw.integers(0, largest, (5, 200)):
        for task in tasks.tolist():
            model[task] = index.next_row()
            index.place(task, bytes(16))
        index.drop(tasks[:50])
        for task in tasks[:50].tolist():
            model.pop(task, None)
        asked = np.concatenate([draw.integers(0, largest, 300), np.fromiter(model, np.int64), [-1, -2]])
        expected = [model.get(task, -1) for task in asked.tolist()]
        forms: list[Callable[[np.ndarray], object]] = [np.asarray, np.ndarray.tolist, tuple, iter]
        for form in forms:
            assert index.rows(form(asked)).tolist() == expected  # type: ignore[arg-type]
    assert sorted(index.task_ids()) == sorted(model)


def test_a_row_takes_few_bytes_of_memory(tmp_path: Path) -> None:
    count = 1 << 15
    content = np.random.default_rng(0).permutation(10 * count)[:count].tolist()
    made_from = digest(0)
    tracemalloc.start()
    try:
        index = opened(tmp_path / "index")
        for at, task in enumerate(content):
            index.place(task, made_from)
            if at % 512 == 0:
                index.save()
        index.save()
        filled = tracemalloc.get_traced_memory()[0]
        read_again = Index(tmp_path / "index", 32, lambda: count)
        read_again.refresh()
        opened_again = tracemalloc.get_traced_memory()[0] - filled
    finally:
        tracemalloc.stop()
    assert np.array_equal(read_again.rows(content), np.arange(count))
    assert filled < 60 * count
    assert opened_again < 60 * count
