"""The file of an index, as kills, failing disks, and version 0.3.0 leave it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from backend.images import row_log
from backend.images.row_index import Index
from tests.backend.images.indexes import PLENTY, RECORD, digest, digests, opened, placed, read, released, said

# -- kills and damage --------------------------------------------------------------------------------------------------


@pytest.fixture
def three_batches(tmp_path: Path) -> tuple[Path, int, int]:
    """An index, where its last batch begins, and where it ends. The last but one left row 0 free."""
    index = opened(tmp_path / "index")
    placed(index, {1: 1, 2: 2})
    placed(index, {1: "new", 3: 3})
    before = (tmp_path / "index").stat().st_size
    index.drop([2])
    placed(index, {4: 4, 3: "new"})
    return tmp_path / "index", before, (tmp_path / "index").stat().st_size


BEFORE_THE_LAST = digests({1: "new", 2: 2, 3: 3})
WITH_THE_LAST = digests({1: "new", 4: 4, 3: "new"})


def test_a_torn_batch_is_cut_off_wherever_it_is_torn(three_batches: tuple[Path, int, int]) -> None:
    path, before, end = three_batches
    whole = path.read_bytes()
    reader = Index(path, 32, lambda: PLENTY)
    for length in range(before, end):
        path.write_bytes(whole[:length])
        assert read(path) == BEFORE_THE_LAST
        reader.refresh()
        assert said(reader) == BEFORE_THE_LAST
        writer = opened(path)
        assert path.read_bytes() == whole[:before]
        placed(writer, {5: 5})
        assert read(path) == BEFORE_THE_LAST | digests({5: 5})
        reader.refresh()
        assert said(reader) == said(writer)
        path.write_bytes(whole[:before])
    path.write_bytes(whole)
    assert read(path) == WITH_THE_LAST


def test_a_save_of_several_batches_is_cut_off_wherever_it_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task is then as it was before, as it was saved, or gone, so that it is made anew."""
    path = tmp_path / "index"
    old, new = {task: task for task in range(7)}, dict.fromkeys(range(2, 9), "new")
    placed(opened(path), old)
    before = path.stat().st_size
    monkeypatch.setattr(row_log, "BATCH_RECORDS", 3)
    placed(opened(path), new)
    whole = path.read_bytes()
    assert len(whole) - before == (5 + 7 + 4) * RECORD
    for length in range(before, len(whole), 16):
        path.write_bytes(whole[:length])
        found = read(path)
        assert {0, 1} <= found.keys()
        assert found.items() <= digests(old).items() | digests(new).items()
        placed(opened(path), {9: 9})
        assert read(path) == found | digests({9: 9})


def test_zeros_or_noise_for_the_last_batch_are_cut_off(three_batches: tuple[Path, int, int]) -> None:
    """What a power failure leaves where the length of a file reached the disk before its content."""
    path, before, end = three_batches
    whole = path.read_bytes()
    for tail in (bytes(end - before), b"\xff" * (end - before), random.Random(0).randbytes(100_000)):
        path.write_bytes(whole[:before] + tail)
        assert read(path) == BEFORE_THE_LAST
        placed(opened(path), {5: 5})
        assert path.read_bytes()[:before] == whole[:before]
        assert read(path) == BEFORE_THE_LAST | digests({5: 5})


def test_no_changed_byte_goes_unnoticed(three_batches: tuple[Path, int, int]) -> None:
    """In the last batch it costs this batch. Elsewhere it costs everything, because what became free after it may have
    been overwritten."""
    path, before, end = three_batches
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for at in range(end):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        if at < header:
            assert read(path) in ({}, WITH_THE_LAST)  # its id may be any
        else:
            assert read(path) == ({} if at < before else BEFORE_THE_LAST)
    path.write_bytes(whole[:header] + whole[header + 3 * RECORD :])  # the first batch is gone
    assert read(path) == {}
    placed(opened(path), {5: 5})
    assert read(path) == digests({5: 5})


@pytest.mark.parametrize("new", [{5: 5}, dict.fromkeys(range(5, 9), 5), dict.fromkeys(range(5, 50), 5)])
def test_a_reader_notices_that_another_batch_stands_for_one_it_read(
    three_batches: tuple[Path, int, int], new: dict[int, int]
) -> None:
    """It is shorter than the other, as long, or longer. A disk that fails leads here, too."""
    path, before, end = three_batches
    assert end - before == (4 + 1) * RECORD
    reader = Index(path, 32, lambda: PLENTY)
    reader.refresh()
    with path.open("r+b") as file:
        file.seek(before + 5)
        file.write(b"\xff")
    writer = opened(path)  # to it, the last batch is torn
    placed(writer, new)
    reader.refresh()
    assert said(reader) == said(writer) == BEFORE_THE_LAST | digests(new)


def test_rows_that_are_not_there_are_not_named(tmp_path: Path) -> None:
    rows = 2
    reader = Index(tmp_path / "index", 32, lambda: rows)
    placed(opened(tmp_path / "index"), {1: 1, 2: 2})
    reader.refresh()
    assert said(reader) == digests({1: 1, 2: 2})
    placed(opened(tmp_path / "index"), {3: 3})
    reader.refresh()
    assert said(reader) == {}
    assert read(tmp_path / "index", rows=3) == digests({1: 1, 2: 2, 3: 3})


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened(tmp_path / "index")
    placed(index, {1: 1})
    before = (tmp_path / "index").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    index.place(2, digest(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            index.save()
    assert (tmp_path / "index").read_bytes() == before
    index.save()  # as at the end of a batch
    assert read(tmp_path / "index") == digests({1: 1, 2: 2})
    index.place(3, digest(3))
    monkeypatch.setattr(row_log, "write_at", full)
    with pytest.raises(OSError, match="no space"):
        index.save()
    index.begin()  # in between another process may have had the lock, and may have written to the same row
    assert said(index) == digests({1: 1, 2: 2})


# -- the file of version 0.3.0 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_a_time", [3, 1 << 14])
def test_an_index_of_an_earlier_version_is_read_and_appended_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(row_log, "BATCH_RECORDS", at_a_time)
    tasks = [5, -1, 9, 1 << 40, -1, 7, 8, 30, 31, 32]
    file = released([(task, digest(task) if task > 0 else bytes(16)) for task in tasks])
    (tmp_path / "index").write_bytes(file)
    index = opened(tmp_path / "index", len(tasks))
    expected = {task: digest(task) for task in tasks if task > 0}
    assert said(index) == expected
    assert index.rows(tasks).tolist() == [0, -1, 2, 3, -1, 5, 6, 7, 8, 9]
    assert (tmp_path / "index").read_bytes() == file
    reader = Index(tmp_path / "index", 32, lambda: len(tasks))
    reader.refresh()
    assert said(reader) == expected
    placed(index, {6: 6})
    assert index.rows([6]).tolist() == [4]  # a free row
    for found in (said(index), read(tmp_path / "index", len(tasks))):
        assert found == expected | {6: digest(6)}
    reader.refresh()
    assert said(reader) == expected | {6: digest(6)}
    upgraded = (tmp_path / "index").read_bytes()
    placed(index, {10: 10})
    assert (tmp_path / "index").read_bytes()[: len(upgraded)] == upgraded


def test_an_empty_index_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(released([]))
    index = opened(tmp_path / "index")
    assert said(index) == {}
    placed(index, {1: 1})
    assert read(tmp_path / "index") == digests({1: 1})


@pytest.mark.parametrize(
    "damaged",
    [
        released([(1, digest(1)), (2, digest(2))])[:-1],
        released([(1, digest(1)), (2, digest(2))]) + b"\0",
        released([(1, digest(1)), (2, digest(2))], rows=1),
        released([(1, digest(1)), (2, digest(2))], rows=-2),
        released([(1, digest(1)), (2, digest(2))], rows="many"),
        released([(1, digest(1)), (2, digest(2))], crc=3),
        released([(1, digest(1)), (2, digest(2))], format=2),
        released([(1, digest(1)), (2, digest(2))], size=[32, 32]),
        released([(1, digest(1)), (2, digest(2)), (3, digest(3)), (4, digest(4))]),  # more rows than there are
        b"5\n",
        b"{}\n",
    ],
)
def test_a_damaged_index_of_an_earlier_version_counts_as_empty(
    tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "index").write_bytes(damaged)
    index = Index(tmp_path / "index", 32, lambda: 3)
    for _ in range(3):
        index.refresh()
        assert said(index) == {}
    assert len(caplog.messages) == 1  # told once
    placed(index, {5: 5})
    assert read(tmp_path / "index") == digests({5: 5})
