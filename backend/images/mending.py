"""The second try at a file that Pillow refuses: the same picture in a file without the damage, as far as it is there.

Browsers show what they can of a file that was cut off, and skip metadata that they cannot read. Pillow's own switch for
that (``LOAD_TRUNCATED_IMAGES``) is global, so it would change what other threads do. Here the bytes are mended instead:
what is missing becomes white where the format allows, as transparent pixels do. A file of which no pixel is there is
not mended.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from dataclasses import dataclass

from backend.images.orientation import PNG, jpeg_segments, png_chunks
from backend.memory import budget

_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column and steps of the seven passes of an interlaced PNG."""

_PIXELS_MEANING = {0xE0: 14, 0xEE: 12}
"""A JPEG's segments that say what its numbers mean, of JFIF and of Adobe, and their least length."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG color type → samples per pixel
_WITHOUT_ALPHA = (0, 2)
_COPIES = 3  # of the pixels, while they are packed again
_STEP = 1 << 12


def mended(data: bytes) -> bytes | None:
    """A file that holds what is there of the picture in ``data``; None if nothing can be done."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(PNG):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith(b"\0\0\1\0"):
        return _icon(data)
    return None


def _jpeg(data: bytes) -> bytes | None:
    """Without metadata, and with the marker that ends it. The decoder fills what is missing by itself."""
    segments = list(jpeg_segments(data))
    scan = data.find(b"\xff\xda", 2 + sum(4 + len(body) for _, body in segments))
    has_frame = any(0xC0 <= marker <= 0xC3 for marker, _ in segments)
    if not has_frame or not 0 < scan < len(data) - 16:
        return None
    kept = [
        (marker, body)
        for marker, body in segments
        if not 0xE0 <= marker < 0xF0 or len(body) >= _PIXELS_MEANING.get(marker, 1 << 16)
    ]
    head = b"".join(b"\xff" + bytes((marker,)) + (len(body) + 2).to_bytes(2, "big") + body for marker, body in kept)
    return b"\xff\xd8" + head + data[scan:] + b"\xff\xd9"


# -- PNG ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """What a PNG's header says about its pixels."""

    width: int
    height: int
    depth: int
    color: int
    interlaced: bool

    def rows(self) -> list[tuple[int, int]]:
        """(number of rows, their length in bytes with that of the filter) of each pass."""
        steps = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        found = []
        for top, left, down, right in steps:
            count, columns = -(-(self.height - top) // down), -(-(self.width - left) // right)
            if count > 0 and columns > 0:
                found.append((count, 1 + (columns * _SAMPLES[self.color] * self.depth + 7) // 8))
        return found


def _png(data: bytes) -> bytes | None:
    """Its header, palette, transparency and pixels alone, with right checksums, and with white for missing rows."""
    chunks = list(png_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or not chunks[0][2] or len(chunks[0][1]) != 13:
        return None
    head = chunks[0][1]
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    if not width or not height or color not in _SAMPLES or depth not in (1, 2, 4, 8, 16):
        return None
    rows = _Header(width, height, depth, color, bool(interlaced)).rows()
    size = sum(count * length for count, length in rows)
    if size > budget().file_limit:
        return None
    with budget().decoding(_COPIES * size):
        raw = _inflated(b"".join(body for name, body, _ in chunks if name == b"IDAT"), size)
        raw = raw[: _sound(raw, rows)]
        if not raw:
            return None
        pixels = zlib.compress(raw + _missing(rows, len(raw), color), 1)
    kept = [(b"IHDR", head)]
    kept += [(name, body) for name, body, sound in chunks if _describes_pixels(name, body, color) and sound]
    return PNG + b"".join(_chunk(name, body) for name, body in [*kept, (b"IDAT", pixels), (b"IEND", b"")])


def _describes_pixels(name: bytes, body: bytes, color: int) -> bool:
    if name == b"PLTE":
        return color == 3 and len(body) % 3 == 0 and len(body) > 0
    lengths = {0: (2,), 2: (6,), 3: range(1, 257)}
    return name == b"tRNS" and len(body) in lengths.get(color, ())


def _inflated(packed: bytes, size: int) -> bytes:
    """As many of ``size`` bytes as can be unpacked."""
    unpacker = zlib.decompressobj()
    found = bytearray()
    for at in range(0, len(packed), _STEP):
        part, before = packed[at : at + _STEP], unpacker.copy()
        try:
            found += unpacker.decompress(part)
        except zlib.error:  # what comes before the wrong byte counts
            with contextlib.suppress(zlib.error):
                for byte in part:
                    found += before.decompress(bytes((byte,)))
            break
        if len(found) >= size or unpacker.eof:
            break
    return bytes(found[:size])


def _sound(raw: bytes, rows: list[tuple[int, int]]) -> int:
    """The length of the whole rows at the beginning that have a filter which exists."""
    at = 0
    for count, length in rows:
        for _ in range(count):
            if at + length > len(raw) or raw[at] > 4:
                return at
            at += length
    return at


def _missing(rows: list[tuple[int, int]], present: int, color: int) -> bytes:
    """Unfiltered rows in place of those behind the first ``present`` bytes: white, or transparent."""
    fill = b"\xff" if color in _WITHOUT_ALPHA else b"\0"
    found, at = [], 0
    for count, length in rows:
        there = min(count, max(0, (present - at) // length))
        found.append((b"\0" + fill * (length - 1)) * (count - there))
        at += count * length
    return b"".join(found)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + zlib.crc32(name + body).to_bytes(4, "big")


# -- other formats -----------------------------------------------------------------------------------------------------


def _gif(data: bytes) -> bytes | None:
    """With codes of its first color in place of those that are missing, in whole blocks."""
    if len(data) < 13:
        return None
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while at < len(data) and data[at] == 0x21:  # extensions in front of the first frame
        at = _behind_blocks(data, at + 2)
    if at + 11 >= len(data) or data[at] != 0x2C:
        return None
    local = data[at + 9]
    at += 10 + (3 << (local & 7) + 1 if local & 0x80 else 0) + 1
    last = at
    while at < len(data) and data[at]:
        last, at = at, at + 1 + data[at]
    if last + 1 >= len(data) or 2 * width * height > budget().file_limit:
        return None
    first = data[:at] + bytes(max(0, at - len(data)))  # with the rest of a block that was cut off
    blocks = -(-width * height * 3 // 2 // 255)  # a code has at most twelve bits
    return first + (b"\xff" + bytes(255)) * blocks + b"\0;"


def _behind_blocks(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _bmp(data: bytes) -> bytes | None:
    """With white in place of the rows that are missing."""
    if len(data) < 30:
        return None
    start, _, width, height, _, bits = struct.unpack_from("<IIiiHH", data, 10)
    missing = start + (abs(width) * bits + 31) // 32 * 4 * abs(height) - len(data)
    return data + b"\xff" * missing if start < len(data) and 0 < missing <= budget().file_limit else None


def _icon(data: bytes) -> bytes | None:
    """Its largest picture, if that is a PNG; else with white in place of what is missing of it."""
    (count,) = struct.unpack_from("<H", data, 4) if len(data) >= 6 else (0,)
    entries = [
        struct.unpack_from("<BBBBHHII", data, 6 + 16 * number)
        for number in range(count)
        if len(data) >= 22 + 16 * number
    ]
    if not entries:
        return None
    largest = max(entries, key=lambda entry: (entry[0] or 256, entry[5]))
    size, start = largest[6:]
    if data[start:].startswith(PNG):
        return _png(data[start:])
    missing = start + size - len(data)
    return data + b"\xff" * missing if start < len(data) and 0 < missing <= budget().file_limit else None
