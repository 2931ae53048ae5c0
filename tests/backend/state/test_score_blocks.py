"""Scores in blocks, against a plain list of rows: runs that overlap, tasks that are removed, blocks of a few rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.state import State, StoredLabel, score_blocks
from backend.state.schema import meta
from tests.backend.state.test_state import CONFIG, add_version

pytestmark = pytest.mark.usefixtures("small_blocks")
OWNER = "a"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "BLOCK_ROWS", 4)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    opened = State(f"sqlite:///{tmp_path_factory.mktemp('blocks') / 'state.sqlite3'}")
    opened.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    assert opened.leases.take(1, OWNER, 1e9)
    yield opened
    opened.close()


_versions = iter(range(10**9))
Steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(st.integers(1, 30), st.integers(1, 10**6), min_size=1, max_size=12)),
        st.tuples(st.just("remove"), st.lists(st.integers(1, 30), max_size=6)),
        st.tuples(st.just("annotate"), st.lists(st.integers(1, 30), max_size=6)),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(steps=Steps, size=st.integers(1, 12))
def test_what_is_read_is_what_a_plain_list_would_say(state: State, steps: list, size: int) -> None:
    version = add_version(state, OWNER, f"v{next(_versions)}", rows=0)
    state.labels.remove(1, range(1, 31))
    rows: dict[int, float] = {}
    annotated: set[int] = set()
    for what, given_ in steps:
        if what == "add":
            new = {task: score / 10**6 + task * 1e-9 for task, score in given_.items()}
            columns = np.array(list(new)), np.array(list(new.values()))
            state.scores.add(1, OWNER, version.id, *columns, None, None)
            rows |= new
        elif what == "remove":
            state.scores.remove_tasks(1, given_)
            rows = {task: score for task, score in rows.items() if task not in given_}
        else:
            state.labels.put(1, [StoredLabel(task, None, [], 1, 0) for task in given_])
            annotated |= set(given_)
    order = sorted(rows, key=lambda task: rows[task])
    assert state.scores.order(version).tolist() == order
    assert state.scores.tasks(version).tolist() == sorted(rows)
    assert state.scores.count(version) == len(rows)
    head = [task for task in order if task not in annotated][:size]
    assert [one.task_id for one in state.scores.to_write(version, size)] == head
    assert [(one.task_id, one.priority_score) for one in state.scores.all(version)] == [(t, rows[t]) for t in order]
    state.scores.mark_written(version, OWNER, head[::2])
    assert [one.task_id for one in state.scores.to_write(version, size)] == head[1::2]
    assert state.scores.head(version, size) == (len(head[::2]), len(head[1::2]))
    assert sorted(state.scores.taken(version, np.array([rows[t] for t in head] + [2.0]))) == [rows[t] for t in head]
    state.scores.drop(version, OWNER)
    assert not len(state.scores.order(version)) and not len(state.scores.written(version))


def test_rows_of_an_earlier_format_become_blocks(state: State) -> None:
    version = add_version(state, OWNER, f"v{next(_versions)}", rows=10)
    before = state.scores.all(version)
    with state.database.engine.begin() as conn:
        conn.exec_driver_sql(
            "create table scores (version_id integer, task_id integer, score float, class_index integer, "
            "confidence float, written boolean)"
        )
        classes = [None if one.label is None else version.classes.index(one.label) for one in before]
        for one, index in zip(before, classes, strict=True):
            values = (version.id, one.task_id, one.priority_score, index, one.confidence, one.task_id < 4)
            conn.exec_driver_sql("insert into scores values (?, ?, ?, ?, ?, ?)", values)
        conn.execute(score_blocks.score_blocks.delete())
        conn.execute(meta.update().where(meta.c.name == "schema").values(value="2"))
    again = State(str(state.database.engine.url))
    assert again.scores.all(version) == before and again.scores.written(version).tolist() == [1, 2, 3]
    assert not sa.inspect(again.database.engine).has_table("scores")
    again.close()


def test_a_webhook_gets_its_turn_while_a_worker_writes_one_transaction_after_the_other(tmp_path: Path) -> None:
    """With SQLite's own way of waiting it did so a few times a second at best."""
    worker, web = (State(f"sqlite:///{tmp_path / 'state.sqlite3'}") for _ in range(2))
    web.projects.connect(1, "1.100", CONFIG, {}, "http://label-studio", "token")
    done = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not done.is_set():
            with worker.database.engine.begin() as conn:
                conn.execute(meta.update().where(meta.c.name == "x").values(value="y"))
                time.sleep(0.02)
            written += 1

    thread = threading.Thread(target=write)
    thread.start()
    turns = 0
    while written < 25:
        assert web.hints.add(1, annotations=1)
        turns += 1
    done.set()
    thread.join()
    assert turns >= 12  # about one for each transaction
    worker.close()
    web.close()
