"""The index of a cache: appended to, followed by readers, rewritten now and then, and right at any time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as sized
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backend.images import row_index, row_log
from backend.images.row_index import Index
from tests.backend.images.indexes import PLENTY, RECORD, digest, digests, opened, placed, read, released, said

# -- appending ---------------------------------------------------------------------------------------------------------


def test_a_save_writes_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    placed(index, {task: task for task in range(1000)})
    before = (tmp_path / "index").read_bytes()
    placed(index, {2000: 1, 2001: 2})
    index.drop([7])
    index.save()
    index.save()  # there is nothing to write
    after = (tmp_path / "index").read_bytes()
    assert after[: len(before)] == before
    assert len(after) - len(before) == (2 + 1 + 1 + 1) * RECORD  # three records and two seals
    assert read(tmp_path / "index") == digests({task: task for task in range(1000) if task != 7} | {2000: 1, 2001: 2})


def test_many_changes_at_once_are_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_log, "BATCH_RECORDS", 10)
    monkeypatch.setattr(row_log, "_READ_BYTES", 7 * RECORD + 5)  # batches and records straddle what is read at once
    placed(opened(tmp_path / "index"), {1: 1})
    index = opened(tmp_path / "index")
    index.drop([1])
    placed(index, {task: -task for task in range(2, 99)})
    assert read(tmp_path / "index") == digests({task: -task for task in range(2, 99)})
    index.drop(range(0, 99, 2))
    index.save()
    assert read(tmp_path / "index") == digests({task: -task for task in range(3, 99, 2)})


def test_rows_are_used_again_once_the_file_does_not_name_them(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    placed(index, {1: 1, 2: 2, 3: 3})
    assert index.drop([2, 2, 9]) == 1
    assert index.next_row() == 3  # not 1: the file still says that it belongs to 2
    index.place(1, digest("new"))
    assert index.rows([1, 2, 3]).tolist() == [3, -1, 2]
    index.save()
    for writer in (index, opened(tmp_path / "index")):
        for task in (4, 5, 6):
            writer.place(task, digest(task))
        assert sorted(writer.rows([4, 5, 6]).tolist()) == [0, 1, 4]


# -- readers and rewriting ---------------------------------------------------------------------------------------------


def test_a_reader_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reader = opened(tmp_path / "index"), Index(tmp_path / "index", 32, lambda: PLENTY)
    placed(writer, {task: task for task in range(5000)})
    reader.refresh()
    taken: list[int] = []
    pread = os.pread

    def counted(file: int, count: int, offset: int) -> bytes:
        data = pread(file, count, offset)
        taken.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    for task in range(5000, 5010):
        placed(writer, {task: task})
        taken.clear()
        reader.refresh()
        assert reader.rows([task, 0]).tolist() == [task, 0]
        assert sum(taken) < 1000
    taken.clear()
    reader.refresh()
    assert sum(taken) < 300  # a look at the header


def test_a_reader_notices_that_the_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "index"
    reader = Index(path, 32, lambda: PLENTY)
    reader.refresh()
    assert said(reader) == {}
    for content in ({1: 1, 2: 2}, {3: 3, 4: 4}, {5: 5}):  # the second file is as long as the first
        placed(Index(path, 32, lambda: PLENTY), content)
        reader.refresh()
        assert said(reader) == digests(content)
    path.unlink()
    reader.refresh()
    assert said(reader) == {}


def test_rewriting_costs_less_than_appending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_index, "_SPARE", 100)
    rewritten: list[int] = []
    rewrite = row_log.rewrite

    def counted(path: Path, size: int | list[int], batches: Iterable[np.ndarray]) -> tuple[bytes, row_log.End]:
        header, end = rewrite(path, size, batches)
        rewritten.append(end.position)
        return header, end

    index = opened(tmp_path / "index")
    reader = Index(tmp_path / "index", 32, lambda: PLENTY)
    placed(index, {task: task for task in range(200)})
    monkeypatch.setattr(row_log, "rewrite", counted)
    draw, content = random.Random(0), {task: task for task in range(200)}
    for turn in range(300):
        new = {task: (turn, task) for task in draw.sample(range(200), 20)}
        content |= new
        placed(index, new)
        if turn % 7 == 0:
            reader.refresh()
            assert said(reader) == said(index) == digests(content)
        assert (tmp_path / "index").stat().st_size <= RECORD * (3 * 200 + 100) + 200
    assert len(rewritten) >= 10
    assert sum(rewritten) <= 300 * 41 * RECORD / 2  # each turn frees 20 rows, fills 20, and seals them
    assert index.row_count <= 200 + 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


def test_forgetting_nearly_everything_makes_the_file_small(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    placed(index, {task: task for task in range(9000)})
    index.drop(range(3, 9000))
    index.save()
    assert (tmp_path / "index").stat().st_size < 200 + 4 * RECORD
    placed(index, {1: "new", 9: 9})
    again = opened(tmp_path / "index")
    assert said(index) == said(again) == digests({0: 0, 1: "new", 2: 2, 9: 9})
    assert again.rows([0, 2]).tolist() == [0, 2]
    placed(again, {20: 20})
    index.begin()
    assert said(index) == said(again)


KILLED_WHILE_REWRITING = """
import os, signal, sys
from pathlib import Path
from backend.images import row_index
from tests.backend.images.indexes import digest, opened, placed
row_index._SPARE, replace = 0, os.replace
def killed(*paths):
    if sys.argv[2] == "after":
        replace(*paths)
    os.kill(os.getpid(), signal.SIGKILL)
index = opened(Path(sys.argv[1]))
os.replace = killed
index.drop(range(10, 100))
print(len(index.task_ids()), flush=True)
placed(index, {5: "new"})
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_while_the_file_is_rewritten(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "index"
    placed(opened(path), {task: task for task in range(100)})
    reader = Index(path, 32, lambda: PLENTY)
    reader.refresh()
    command = [sys.executable, "-c", KILLED_WHILE_REWRITING, str(path), moment]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL and run.stdout.strip() == "10"
    expected = digests({task: task for task in range(100)})
    if moment == "after":
        expected = digests({task: task for task in range(10)} | {5: "new"})
    assert read(path) == expected
    reader.refresh()
    assert said(reader) == expected
    writer = opened(path)
    placed(writer, {200: 200})
    assert read(path) == expected | digests({200: 200})
    writer.drop([task for task in expected if task > 3])  # and the next one rewrites it
    writer.save()


WRITER = """
import random, sys
from pathlib import Path
from backend.images import row_index
from tests.backend.images.indexes import digest, opened
row_index._SPARE = 50
draw, path = random.Random(0), Path(sys.argv[1])
for turn in range(150):
    index = opened(path)
    index.drop(draw.sample(range(60), 5))
    for task in draw.sample(range(60), draw.randrange(9)):
        with open(sys.argv[2], "r+b") as file:  # a row says whose it is
            file.seek(48 * index.next_row())
            value = draw.randbytes(8).hex()
            file.write(f"{task} {value} ".ljust(48).encode())
        index.place(task, digest(value))
    index.save()
"""


def test_a_reader_beside_a_writer_finds_only_whole_states(tmp_path: Path) -> None:
    """Each save leaves every row with the content that the index names; a reader never finds anything else, however
    often the writer appends and rewrites."""
    path, rows = tmp_path / "index", tmp_path / "rows"
    rows.write_bytes(bytes(48 * 200))
    reader = Index(path, 32, lambda: 200)
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(rows)])
    headers, compared = set(), 0
    while process.poll() is None:
        reader.refresh()
        content = rows.read_bytes()
        tasks = reader.task_ids()
        found = dict(zip(tasks, reader.rows(tasks).tolist(), strict=True))
        known = {task: reader.digest(task) for task in tasks}
        reader.refresh()
        still = dict(zip(tasks, reader.rows(tasks).tolist(), strict=True))
        for task, row in found.items():
            if still[task] == row and known[task] == reader.digest(task):  # so it was the task's in between, too
                task_there, value = content[48 * row :].split(b" ", 2)[:2]
                assert int(task_there) == task and digest(value.decode()) == known[task]
                compared += 1
        headers.add(reader._header)
    assert process.returncode == 0
    assert compared and len(headers) > 2  # it was rewritten while being read
    reader.refresh()
    assert said(reader) == read(path)


# -- against a dictionary ----------------------------------------------------------------------------------------------

TASKS = st.integers(0, 12)


class AgainstDictionaries(RuleBasedStateMachine):
    """The index of a writer, a reader that follows now and then, and the rows themselves, which say whose they are."""

    @initialize(spare=st.sampled_from([0, 3, 4096]), released_rows=st.lists(TASKS, unique=True))
    def begin(self, spare: int, released_rows: list[int]) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "index"
        self.normal, row_index._SPARE = row_index._SPARE, spare
        self.saved = {task: digest(("released", task)) for task in released_rows}
        self.rows = dict(enumerate(self.saved.items()))
        if released_rows:
            self.path.write_bytes(released(list(self.saved.items())))
        self.reader = Index(self.path, 32, lambda: len(self.rows))
        self.kill(b"")

    @rule(tail=st.binary(max_size=70))
    def kill(self, tail: bytes) -> None:
        if self.path.exists() and b'"layout"' in self.path.read_bytes():
            with self.path.open("ab") as file:
                file.write(tail)  # of a batch that was never finished
        self.writer = Index(self.path, 32, lambda: len(self.rows))
        self.writer.begin()
        self.now = dict(self.saved)

    @rule(task=TASKS, value=st.integers(0, 3))
    def place(self, task: int, value: int) -> None:
        row = self.writer.next_row()
        assert row <= len(self.rows)
        self.rows[row] = task, digest(value)
        self.writer.place(task, digest(value))
        self.now[task] = digest(value)

    @rule(tasks=st.lists(TASKS))
    def drop(self, tasks: list[int]) -> None:
        assert self.writer.drop(tasks) == len(self.now.keys() & set(tasks))
        for task in tasks:
            self.now.pop(task, None)

    @rule()
    def save(self) -> None:
        self.writer.save()
        self.saved = dict(self.now)

    @rule()
    def go_on(self) -> None:
        """Another batch by the same writer, which has the lock again."""
        self.save()
        self.writer.begin()

    @rule()
    def look(self) -> None:
        self.reader.refresh()
        self.agrees(self.reader, self.saved)

    @rule(tasks=st.lists(TASKS), value=st.integers(0, 3))
    def compare(self, tasks: list[int], value: int) -> None:
        outdated = self.writer.outdated(np.array(tasks, np.int64), [digest(value)] * len(tasks))
        assert outdated.tolist() == [self.now.get(task) != digest(value) for task in tasks]

    @invariant()
    def whoever_comes_finds_what_was_saved(self) -> None:
        if hasattr(self, "writer"):
            self.agrees(self.writer, self.now)
            newcomer = Index(self.path, 32, lambda: len(self.rows))
            newcomer.refresh()
            self.agrees(newcomer, self.saved)

    def agrees(self, index: Index, expected: dict[int, bytes]) -> None:
        assert said(index) == expected
        for task, row in zip(expected, index.rows(list(expected)).tolist(), strict=True):
            assert self.rows[row] == (task, expected[task])  # nobody has written over it

    def teardown(self) -> None:
        row_index._SPARE = getattr(self, "normal", row_index._SPARE)
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


AgainstDictionaries.TestCase.settings = sized(max_examples=60, stateful_step_count=30)
test_any_history_ends_in_what_was_saved = AgainstDictionaries.TestCase
