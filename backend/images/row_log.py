"""The file of a row cache's index: a log, to which every save appends a batch.

    header   one line of JSON: format and size of the cache, and an id, which tells the file from one that replaces it
    batch    records of 32 bytes, and the seal: one more record, with the batch's position and checksum

A record says which task a row belongs to from then on, and the digest of what the row was made from. A batch counts
once it has its seal, so one that a kill cut short is as good as not written.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backend.errors import BackendError
from backend.files import write_at
from models.files import sync_folder, whole_file

FORMAT = 1
"""Increased whenever decoding changes, so that older rows are rebuilt."""

FREE = -1
"""The task of a row that belongs to none."""

DIGEST_BYTES = 16
RECORD = np.dtype([("row", "<i8"), ("task", "<i8"), ("digest", "u1", DIGEST_BYTES)])

BATCH_RECORDS = 1 << 14
"""The longest batch. What is saved at once may be several."""

_LAYOUT = 2
_SEAL = struct.Struct("<qqI12s")  # laid out as a record whose row is no row
_NO_ROW, _MARK = -1, b"end of batch"
_HEADER_BYTES = 256  # the longest header
_READ_BYTES = 1 << 20


class DamagedIndex(BackendError):
    """The file is not what a writer leaves, not even one that was killed."""


class End(NamedTuple):
    """Where the batches of a file end. As long as the last one is the same, so are those before it."""

    position: int
    seal: bytes
    """The record before ``position``."""


# -- writing -----------------------------------------------------------------------------------------------------------


def append(path: Path, end: End, batches: Iterable[np.ndarray]) -> End:
    """Write batches of records behind ``end`` and return where they end. They are on disk then.

    Whatever else is in the file behind ``end`` is cut off. If this raises, nothing has been appended.
    """
    file, before = os.open(path, os.O_RDWR), end.position
    try:
        os.ftruncate(file, before)
        for batch in _sealed(batches, before):
            write_at(file, batch, end.position)
            os.fsync(file)  # each, because a power failure must not keep a batch without the one before it
            end = End(end.position + len(batch), batch[-RECORD.itemsize :])
    except BaseException:
        with suppress(OSError):
            os.ftruncate(file, before)
        raise
    finally:
        os.close(file)
    return end


def cut(path: Path, end: End) -> bool:
    """Cut off what is in the file behind ``end``, and see to it that the rest is on disk: whoever wrote it may have
    been killed before. Returns whether there was something to cut off."""
    file = os.open(path, os.O_RDWR)
    try:
        longer = os.fstat(file).st_size > end.position
        if longer:
            os.ftruncate(file, end.position)
        os.fsync(file)
    finally:
        os.close(file)
    return longer


def rewrite(path: Path, size: int | list[int], batches: Iterable[np.ndarray]) -> tuple[bytes, End]:
    """Replace the file atomically by one with these batches of records. Returns its header and where they end."""
    fields = {"format": FORMAT, "layout": _LAYOUT, "size": size, "id": os.urandom(8).hex()}
    header = json.dumps(fields).encode() + b"\n"
    end = End(len(header), header[-RECORD.itemsize :])
    with whole_file(path) as file:
        file.write(header)
        for batch in _sealed(batches, end.position):
            file.write(batch)
            end = End(end.position + len(batch), batch[-RECORD.itemsize :])
    sync_folder(path.parent)  # what is appended from now on must not be lost with the name of the new file
    return header, end


def _sealed(batches: Iterable[np.ndarray], position: int) -> Iterator[bytes]:
    for records in batches:
        batch = records.tobytes()
        yield batch + _seal(position, batch)
        position += len(batch) + RECORD.itemsize


def _seal(position: int, batch: bytes | memoryview) -> bytes:
    checksum = zlib.crc32(batch, zlib.crc32(position.to_bytes(8, "little")))
    return _SEAL.pack(_NO_ROW, position, checksum, _MARK)


# -- reading -----------------------------------------------------------------------------------------------------------


def read_header(file: int) -> bytes:
    """The first line of the file; or its first bytes, if it does not begin with a header."""
    line, newline, _ = os.pread(file, _HEADER_BYTES, 0).partition(b"\n")
    return line + newline


def end_at(file: int, position: int) -> End:
    """The end of a file's batches, if it is at ``position``."""
    first = max(0, position - RECORD.itemsize)
    return End(position, os.pread(file, position - first, first))


def has_batches(header: bytes, size: int | list[int]) -> bool:
    """Whether batches follow the header; otherwise the file was written by version 0.3.0 or earlier.

    Raises:
        DamagedIndex: it is no header, or one of another format or size.
    """
    try:
        fields = json.loads(header)
        if header.endswith(b"\n") and fields["format"] == FORMAT and fields["size"] == size:
            return bool(fields.get("layout") == _LAYOUT)
    except (ValueError, KeyError, TypeError):
        pass
    raise DamagedIndex("not the header of this cache")


def read_batches(file: int, position: int, size: int) -> Iterator[tuple[np.ndarray, End]]:
    """The records of the batches between ``position`` and ``size``, about a megabyte at a time, and where they end.
    What was written last may be incomplete, and is left out.

    Raises:
        DamagedIndex: a whole batch follows something else. No kill leaves that, and the rows that the missing records
            freed may have been overwritten, so nothing in the file can be relied on.
    """
    sound = begin = position  # what has been read as batches, and where ``held`` begins
    held = b""
    while more := os.pread(file, min(_READ_BYTES, size - begin - len(held)), begin + len(held)):
        held += more
        before = sound
        for first, last in _sound_batches(held, begin):
            if first != sound:
                raise DamagedIndex("a batch is missing")
            sound = last
        if sound > before:
            records = np.frombuffer(held, RECORD, (sound - before) // RECORD.itemsize, before - begin)
            yield records[records["row"] != _NO_ROW], End(sound, records[-1:].tobytes())
        # a batch that has not ended after so many records never does
        keep = max(sound - begin, (len(held) // RECORD.itemsize - BATCH_RECORDS) * RECORD.itemsize)
        held, begin = held[keep:], begin + keep


def _sound_batches(held: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Where each batch with a correct seal begins and ends, in a part of a file that begins at ``begin``."""
    view, length = memoryview(held), RECORD.itemsize
    records = np.frombuffer(held, RECORD, len(held) // length)
    for seal in np.flatnonzero(records["row"] == _NO_ROW).tolist():
        first, stop = int(records["task"][seal]) - begin, seal * length
        if 0 <= first < stop and view[stop : stop + length] == _seal(first + begin, view[first:stop]):
            yield first + begin, stop + length + begin


def read_released(file: int, header: bytes, size: int) -> Iterator[tuple[np.ndarray, End]]:
    """The records of a file as version 0.3.0 writes it: after the header M int64 task ids, and then M digests. Part by
    part, as :func:`read_batches`.

    Raises:
        DamagedIndex: it is not one, or not a whole one.
    """
    try:
        fields = json.loads(header)
        count, checksum = int(fields["rows"]), fields["crc"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedIndex("not the header of an index") from error
    digests = len(header) + 8 * count
    if size != digests + DIGEST_BYTES * count:
        raise DamagedIndex("not a whole index")
    tasks = os.pread(file, 8 * count, len(header))
    seen = zlib.crc32(tasks)
    for first in range(0, count, BATCH_RECORDS):
        rows = np.arange(first, min(count, first + BATCH_RECORDS))
        data = os.pread(file, DIGEST_BYTES * len(rows), digests + DIGEST_BYTES * first)
        seen = zlib.crc32(data, seen)
        if len(data) < DIGEST_BYTES * len(rows) or len(tasks) < 8 * count:
            raise DamagedIndex("not a whole index")
        records = np.empty(len(rows), RECORD)
        records["row"], records["task"] = rows, np.frombuffer(tasks, "<i8")[rows]
        records["digest"] = np.frombuffer(data, np.uint8).reshape(-1, DIGEST_BYTES)
        yield records, end_at(file, size)
    if seen != checksum:
        raise DamagedIndex("the checksum is wrong")
