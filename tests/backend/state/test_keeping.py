"""The state as a whole: damaged, copied, moved."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from backend.errors import BackendError
from backend.state import State, StoredLabel, Version, keeping
from backend.state.keeping import InUse
from backend.state.schema import metadata


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture
def state(file: Path) -> Iterator[State]:
    opened = State(f"sqlite:///{file}")
    yield opened
    opened.close()


def fill(state: State) -> Version:
    """A project with tasks, labels, a cycle, a version in force, and one that a worker holds."""
    state.projects.connect(5, "5.100", "<View/>", {"budget": 7}, "http://here", "token")
    state.tasks.put(5, {task: f"{task}.png" for task in range(1, 2_501)})
    state.labels.put(5, [StoredLabel(1, ["cat"], [[10, "monday"]], 1, 0)])
    assert state.leases.take(5, "w", 600)
    cycle = state.cycles.start(5, "w", 1, "entropy", 2**62)
    state.cycles.finish(cycle, 5, "w", status="done", metrics={"labels": 1})
    version = state.versions.add(
        5, "w", cycle=1, name="entropy-c1-0", sampler="entropy", checkpoint="/x/entropy-c1-0.pt",
        classes=["cat", "dog"], metrics={"labels": 1}, task_ids=np.arange(2, 2_501),
        priority_score=np.linspace(0.1, 0.9, 2_499), class_index=np.arange(2_499) % 2,
        confidence=np.full(2_499, 0.5), seen={10: "monday"}, train_seen=1,
    )  # fmt: skip
    state.versions.switch_to(version, "w")
    current = state.versions.current(5)
    assert current is not None
    return current


def contents(state: State) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, apart from who holds a project."""
    with state.database.reader.connect() as conn:
        return {
            table.name: sorted(
                map(tuple, conn.execute(sa.select(*(c for c in table.c if not c.name.startswith("lease"))))), key=repr
            )
            for table in metadata.sorted_tables
            if table.name != "meta"
        }


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_sound_database_and_none_at_all_stay_where_they_are(state: State, file: Path, tmp_path: Path) -> None:
    fill(state)
    assert keeping.damage(file) == "" and keeping.set_damaged_aside(file) == "" and file.exists()
    assert keeping.damage(tmp_path / "none") == ""
    (tmp_path / "empty").touch()
    assert keeping.damage(tmp_path / "empty") == ""


@pytest.mark.parametrize("how", ["torn", "overwritten", "header"])
def test_a_damaged_database_is_kept_under_another_name(file: Path, how: str) -> None:
    state = State(f"sqlite:///{file}")
    fill(state)
    state.close()
    whole = file.read_bytes()
    broken = {
        "torn": whole[: len(whole) // 2 // 4096 * 4096],
        "overwritten": whole[:8192] + b"\x55" * 16384 + whole[24576:],
        "header": b"not a database" + whole[14:],
    }[how]
    file.write_bytes(broken)

    words = keeping.set_damaged_aside(file)

    (kept,) = file.parent.glob("state.sqlite3.damaged-*")
    assert kept.read_bytes() == broken and kept.name in words and "damaged" in words
    assert not file.exists()
    again = State(f"sqlite:///{file}")
    assert again.projects.all() == []
    again.close()


def _use(path: Path, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with keeping.used(path):
        ready.set()
        done.wait(60)


def test_what_others_use_is_not_taken_from_under_them(file: Path) -> None:
    file.write_bytes(b"not a database" * 1000)
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_use, args=(file, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with keeping.used(file):  # any number may
            pass
        with pytest.raises(InUse, match="stop them first"):
            keeping.set_damaged_aside(file)
        assert file.exists()
    finally:
        done.set()
        other.join()
    assert keeping.set_damaged_aside(file)


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_copy_holds_everything_and_goes_on_numbering(
    state: State, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    version = fill(state)
    sqlite = target == "sqlite"
    other = State(f"sqlite:///{tmp_path / 'other'}" if sqlite else request.getfixturevalue("postgres_url"))

    assert keeping.copy(state.database, other.database) == 1

    assert contents(other) == contents(state)
    project = other.projects.get(5)
    assert project is not None and project.lease_owner is None
    assert other.versions.current(5) == version and other.labels.seen(5) == {10: "monday"}
    assert other.leases.take(5, "w", 60)
    assert other.cycles.start(5, "w", 2, "entropy", 0) == 2
    with pytest.raises(BackendError, match="holds projects already"):
        keeping.copy(state.database, other.database)
    other.close()


def test_a_copy_that_was_interrupted_is_made_again(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(state)
    other = State(f"sqlite:///{tmp_path / 'other'}")
    with monkeypatch.context() as patched:
        patched.setattr(keeping, "_number_on", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            keeping.copy(state.database, other.database)
    assert other.projects.all() == []
    assert keeping.copy(state.database, other.database) == 1
    assert contents(other) == contents(state)
    other.close()


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
def test_a_snapshot_is_a_database_of_its_own(source: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'state'}" if source == "sqlite" else request.getfixturevalue("postgres_url")
    state = State(url)
    fill(state)
    before = contents(state)
    keeping.snapshot(state.database, tmp_path / "snapshot.sqlite3")
    state.projects.remove(5)  # it goes on
    copied = State(f"sqlite:///{tmp_path / 'snapshot.sqlite3'}")
    assert contents(copied) == before
    copied.close()
    state.close()
