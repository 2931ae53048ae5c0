"""Probabilities kept on disk: whole or not there, found by task and by the name of the class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from backend.tasks.kept_probabilities import KeptProbabilities, write_probabilities
from models import files

CLASSES = ("cat", "dog", "owl")


def some(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, len(CLASSES)), np.float32)


def opened(folder: Path) -> KeptProbabilities:
    found = KeptProbabilities.open(folder)
    assert found is not None
    return found


def test_what_is_kept_comes_back_by_task_and_class(tmp_path: Path) -> None:
    values = some(4)
    write_probabilities(tmp_path, CLASSES, [30, 10, 2**40, 20], values)
    kept = opened(tmp_path)
    for task, row in ((30, 0), (10, 1), (2**40, 2), (20, 3)):
        assert kept.holds(task)
        assert kept.probabilities(task) == dict(zip(CLASSES, values[row].tolist(), strict=True))
    for stranger in (0, 9, 11, 31, 2**41):
        assert not kept.holds(stranger) and kept.probabilities(stranger) is None


def test_tasks_that_join_later_are_found_alongside_the_first(tmp_path: Path) -> None:
    write_probabilities(tmp_path, CLASSES, [1, 2], some(2))
    reader = opened(tmp_path)
    joined = some(1, seed=1)
    write_probabilities(tmp_path, CLASSES, [3], joined)
    assert not reader.holds(3)  # whoever opened it before goes on with what was there
    kept = opened(tmp_path)
    assert all(kept.holds(task) for task in (1, 2, 3))
    assert list((kept.probabilities(3) or {}).values()) == joined[0].tolist()
    write_probabilities(tmp_path, CLASSES, [3], joined)  # the same once more, after a kill
    assert len(list(tmp_path.iterdir())) == 2


def test_no_probabilities_are_none(tmp_path: Path) -> None:
    assert KeptProbabilities.open(tmp_path / "never") is None
    assert KeptProbabilities.open(tmp_path) is None
    write_probabilities(tmp_path, CLASSES, [], some(0))
    assert not opened(tmp_path).holds(1)


@pytest.mark.parametrize("moment", ["in the middle of the rows", "before it has its name"])
def test_a_kill_leaves_nothing_that_could_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """In a process of its own, which ends as by a kill: no handler runs."""
    folder = tmp_path / "answers" / "margin-c1-0"
    child = os.fork()
    if child == 0:

        def die(*_: object) -> None:
            os._exit(9)

        if moment.startswith("before"):
            monkeypatch.setattr(files.os, "replace", die)
        else:
            monkeypatch.setattr(files.os, "fsync", die)
        write_probabilities(folder, CLASSES, [1, 2, 3], some(3))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [path.suffix for path in folder.iterdir()] == [".draft"]
    assert KeptProbabilities.open(folder) is None
    write_probabilities(folder, CLASSES, [1, 2, 3], some(3))
    assert opened(folder).holds(3)
    assert [path.suffix for path in folder.iterdir()] == [".probabilities"]


def test_what_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="of 3 tasks and 3 classes"):
        write_probabilities(tmp_path, CLASSES, [1, 2, 3], some(2))
    with pytest.raises(ValueError, match="of 2 tasks and 2 classes"):
        write_probabilities(tmp_path, CLASSES[:2], [1, 2], some(2))

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_probabilities(tmp_path, CLASSES, [1, 2], some(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut short", "too long", "another format", "no header", "a folder in its place"])
def test_a_damaged_file_costs_its_own_tasks_only(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    good = write_probabilities(tmp_path, CLASSES, [1], some(1))
    bad = write_probabilities(tmp_path, CLASSES, [2], some(1))
    content = bad.read_bytes()
    bad.unlink()
    if damage == "a folder in its place":
        bad.mkdir()
    else:
        bad.write_bytes(
            {
                "cut short": content[:-1],
                "too long": content + b"\0",
                "another format": content.replace(b'"format": 1', b'"format": 2'),
                "no header": b"\x00" * 100,
            }[damage]
        )
    kept = opened(tmp_path)
    assert kept.holds(1) and not kept.holds(2)
    assert bad.name in caplog.text and good.name not in caplog.text


def test_when_every_file_is_damaged_nothing_is_kept(tmp_path: Path) -> None:
    path = write_probabilities(tmp_path, CLASSES, [1], some(1))
    path.write_bytes(path.read_bytes()[:-4])
    assert KeptProbabilities.open(tmp_path) is None
