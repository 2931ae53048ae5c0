"""How an image is turned when it is shown: the EXIF orientation as browsers read it.

That is the first ``Orientation`` of a JPEG's first EXIF segment, or of a PNG's EXIF chunk in front of its pixels, if it
is one SHORT from 1 to 8. Anything else counts as upright, however damaged the rest of the metadata is. Browsers ignore
the orientation in a WebP and in XMP.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

UPRIGHT = 1
SWAPS_SIDES = (5, 6, 7, 8)
"""Orientations that swap width and height."""

PNG = b"\x89PNG\r\n\x1a\n"
_TAG, _SHORT = 0x0112, 3
_STANDALONE = {0x01, *range(0xD0, 0xDA)}  # markers of a JPEG without a body


def orientation(data: bytes) -> int:
    """The orientation, 1 to 8, of an encoded image."""
    if data.startswith(b"\xff\xd8"):
        found = next((body[6:] for marker, body in jpeg_segments(data) if _is_exif(marker, body)), b"")
    elif data.startswith(PNG):
        found = _exif_of_png(data)
    else:
        return UPRIGHT
    return of_tiff(found)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of a JPEG's segments in front of its pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            if marker == 0xDA:
                return
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + max(2, length)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """(name, body, whether its checksum is right) of a PNG's chunks. The last one may be cut off."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        checksum = data[at + 8 + length : at + 12 + length]
        yield name, body, checksum == zlib.crc32(name + body).to_bytes(4, "big")
        at += 12 + length


def _is_exif(marker: int, body: bytes) -> bool:
    return marker == 0xE1 and body.startswith(b"Exif\0") and len(body) > 6


def _exif_of_png(data: bytes) -> bytes:
    for name, body, sound in png_chunks(data):
        if name == b"IDAT":
            break
        if name == b"eXIf" and sound:
            return body
    return b""


def of_tiff(block: bytes) -> int:
    """The orientation in the first directory of a TIFF block."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return UPRIGHT
    (directory,) = struct.unpack_from(order + "I", block, 4)
    if directory + 2 > len(block):
        return UPRIGHT
    (entries,) = struct.unpack_from(order + "H", block, directory)
    for at in range(directory + 2, min(directory + 2 + 12 * entries, len(block) - 11), 12):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", block, at)
        if (tag, kind, count) == (_TAG, _SHORT, 1):
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
