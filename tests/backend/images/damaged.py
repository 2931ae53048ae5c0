"""A corpus of damaged, odd and rotated image files, made anew each time and always the same.

What a browser makes of each stands in ``chromium.json`` beside this file; :mod:`tests.backend.images.render` asks
Chromium and writes it. Few bytes of each file are wrong, as on cards that failed, in transfers that broke off, and in
what editors and cameras write.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CASES = Path(__file__).parent / "cases"
"""Files of the same kinds that owners reported: they are part of the corpus as they are."""

HIGH, WIDE = 48, 64
COLORS = ((220, 30, 30), (30, 200, 40), (40, 60, 220), (230, 220, 60))  # upper left, upper right, lower left …


def picture(high: int = HIGH, wide: int = WIDE) -> Image.Image:
    """Four quarters of different colors, with a little noise, so that orientation and damage can be seen."""
    pixels = np.zeros((high, wide, 3), np.int16)
    for number, color in enumerate(COLORS):
        rows = slice(0, high // 2) if number < 2 else slice(high // 2, high)
        columns = slice(0, wide // 2) if number % 2 == 0 else slice(wide // 2, wide)
        pixels[rows, columns] = color
    pixels += np.random.default_rng(0).integers(-12, 13, pixels.shape, dtype=np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def saved(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (picture() if image is None else image).save(file, kind, **options)
    return file.getvalue()


def corpus() -> dict[str, bytes]:
    """File name → bytes."""
    found: dict[str, bytes] = {}
    for part in (_jpegs(), _odd_jpegs(), _exif(), _pngs(), _png_chunks(), _odd_pngs(), _others(), _odd_others()):
        for name, data in part:
            assert name not in found, name
            found[name] = data
    return found | {path.name: path.read_bytes() for path in sorted(CASES.iterdir()) if path.suffix != ".json"}


# -- JPEG --------------------------------------------------------------------------------------------------------------


def _jpegs() -> Iterator[tuple[str, bytes]]:
    plain, progressive = saved("JPEG", quality=90), saved("JPEG", quality=90, progressive=True)
    start = plain.index(b"\xff\xda")
    yield "whole.jpg", plain
    yield "whole-progressive.jpg", progressive
    yield "gray.jpg", saved("JPEG", picture().convert("L"))
    yield "cmyk.jpg", saved("JPEG", picture().convert("CMYK"), quality=95)
    for count in (1, 2, 40, 300):
        yield f"without-its-last-{count}-bytes.jpg", plain[:-count]
        yield f"progressive-without-its-last-{count}-bytes.jpg", progressive[:-count]
    yield "only-its-header.jpg", plain[:start]
    yield "cut-in-its-header.jpg", plain[: start - 20]
    yield "cut-after-its-scan-header.jpg", plain[: start + 14]
    yield "a-bit-flipped.jpg", _flipped(plain, start + 200)
    yield "zeros-in-the-middle.jpg", plain[: start + 150] + bytes(60) + plain[start + 210 :]
    yield "words-behind-its-end.jpg", plain + b"appended by something else" * 20
    yield "zeros-behind-its-end.jpg", plain + bytes(5000)
    yield "zeros-before-its-beginning.jpg", bytes(4) + plain
    yield "fill-bytes-between-segments.jpg", plain[:2] + b"\xff" * 7 + plain[2:]
    yield "an-app-segment-too-long.jpg", plain[:2] + b"\xff\xe5\xff\xfe" + b"x" * 10 + plain[2:]
    yield "a-comment-of-64-kB.jpg", plain[:2] + b"\xff\xfe\xff\xff" + b"c" * 65_533 + plain[2:]
    yield "garbage-as-icc-profile.jpg", saved("JPEG", quality=90, icc_profile=b"no profile at all" * 9)
    yield "half-of-a-photograph.jpg", _half(saved("JPEG", picture(300, 400), quality=80))
    yield "half-of-a-progressive-photograph.jpg", _half(saved("JPEG", picture(300, 400), quality=80, progressive=True))


def _odd_jpegs() -> Iterator[tuple[str, bytes]]:
    plain = saved("JPEG", picture(96, 128), quality=85)
    start = plain.index(b"\xff\xda")
    restarts = saved("JPEG", picture(96, 128), quality=85, restart_marker_rows=1)
    yield "zeros-instead-of-its-second-half.jpg", _zeroed(plain)
    yield "ones-instead-of-its-second-half.jpg", plain[: len(plain) // 2] + b"\xff" * (len(plain) // 2)
    yield "restarts.jpg", restarts
    yield "restarts-with-zeros.jpg", restarts[: start + 900] + bytes(50) + restarts[start + 950 :]
    yield "half-with-restarts.jpg", _half(restarts)
    yield "two-in-one.jpg", plain + saved("JPEG", picture().rotate(180))
    yield "beginning-twice.jpg", plain[:2] + plain
    yield "no-quantization.jpg", plain.replace(b"\xff\xdb", b"\xff\xfe")
    yield "no-huffman-tables.jpg", plain.replace(b"\xff\xc4", b"\xff\xfe")
    yield "height-of-zero.jpg", _with_height(plain, 0)
    yield "height-more-than-there-is.jpg", _with_height(plain, 200)
    yield "height-less-than-there-is.jpg", _with_height(plain, 40)
    yield "a-marker-in-its-pixels.jpg", plain[: start + 600] + b"\xff\xe5" + plain[start + 602 :]
    yield "an-end-in-its-pixels.jpg", plain[: start + 900] + b"\xff\xd9" + plain[start + 902 :]
    yield "garbage-between-segments.jpg", plain[:2] + b"garbage" + plain[2:]
    yield "subsampled.jpg", saved("JPEG", picture(97, 131), quality=85, subsampling="4:2:0")
    yield "half-of-gray.jpg", _half(saved("JPEG", picture(96, 128).convert("L")))
    yield "half-of-cmyk.jpg", _half(saved("JPEG", picture(96, 128).convert("CMYK")))
    yield "photoshop-cut-short.jpg", plain[:2] + b"\xff\xed\x00\x18Photoshop 3.0\x008BIM\x04\x04" + plain[2:]
    yield "jfif-cut-short.jpg", plain[:2] + b"\xff\xe0\x00\x06JFIF" + plain[20:]
    yield "jfif-missing.jpg", plain[:2] + plain[20:]
    yield "adobe-cut-short.jpg", plain[:2] + b"\xff\xee\x00\x07Adobe" + plain[2:]
    yield "mpf-cut-short.jpg", plain[:2] + b"\xff\xe2\x00\x0cMPF\0II*\0\x08\0" + plain[2:]
    yield "icc-in-missing-parts.jpg", plain[:2] + b"\xff\xe2\x00\x14ICC_PROFILE\0\x02\x05abcd" + plain[2:]


def _zeroed(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _with_height(data: bytes, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">H", height) + data[at + 2 :]


def _exif() -> Iterator[tuple[str, bytes]]:
    for orientation in range(1, 9):
        block = exif_of((0x0112, 3, 1, struct.pack("<HH", orientation, 0)))
        yield f"turned-{orientation}.jpg", saved("JPEG", quality=90, exif=b"Exif\0\0" + block)
    turned = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
    odd = {
        "orientation-0": exif_of((0x0112, 3, 1, struct.pack("<HH", 0, 0))),
        "orientation-9": exif_of((0x0112, 3, 1, struct.pack("<HH", 9, 0))),
        "orientation-as-long": exif_of((0x0112, 4, 1, struct.pack("<I", 6))),
        "orientation-as-byte": exif_of((0x0112, 1, 1, bytes([6, 0, 0, 0]))),
        "orientation-as-text": exif_of((0x0112, 2, 2, b"6\0\0\0")),
        "orientation-twice": exif_of(turned, (0x0112, 3, 1, struct.pack("<HH", 1, 0))),
        "orientation-of-two-values": exif_of((0x0112, 3, 2, struct.pack("<HH", 6, 3))),
        "negative-in-an-unsigned-tag": exif_of(turned, (0x8769, 9, 1, struct.pack("<i", -7))),
        "pointer-beyond-its-end": exif_of(turned, (0x8769, 4, 1, struct.pack("<I", 0x7FFFFFFF))),
        "a-type-that-is-none": exif_of(turned, (0x0131, 99, 5, b"abcd")),
        "a-count-of-4-billion": exif_of((0x0131, 2, 0xFFFFFFFF, b"abcd"), turned),
        "unsorted-tags": exif_of((0x0131, 2, 4, b"abc\0"), turned),
        "big-endian": exif_of((0x0112, 3, 1, struct.pack(">HH", 6, 0)), order=">"),
        "more-tags-than-there-are": exif_of(turned, count=400),
        "no-tags": exif_of(count=0),
        "a-header-that-is-none": b"XX" + exif_of(turned)[2:],
        "another-magic-number": exif_of(turned)[:2] + b"\x2b\0" + exif_of(turned)[4:],
        "its-directory-beyond-its-end": exif_of(turned)[:4] + struct.pack("<I", 5000) + exif_of(turned)[8:],
        "cut-in-its-tag": exif_of(turned)[:17],
        "nothing": b"",
        "a-loop": exif_of(turned, following=8),
    }
    for name, block in odd.items():
        yield f"exif-{name}.jpg", saved("JPEG", quality=90, exif=b"Exif\0\0" + block)
    upright = saved("JPEG", quality=90)
    segment = _app1(b"Exif\0\0" + exif_of(turned))
    yield "exif-twice.jpg", upright[:2] + segment + _app1(b"Exif\0\0" + exif_of()) + upright[2:]
    yield "exif-without-its-second-zero.jpg", upright[:2] + _app1(b"Exif\0\xff" + exif_of(turned)) + upright[2:]
    yield "exif-behind-the-tables.jpg", upright.replace(b"\xff\xc0", segment + b"\xff\xc0", 1)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r">'
    xmp += b'<rdf:Description tiff:Orientation="6" xmlns:tiff="t"/>'
    yield (
        "orientation-in-xmp-alone.jpg",
        upright[:2] + _app1(b"http://ns.adobe.com/xap/1.0/\0" + xmp + b"</rdf:RDF></x:xmpmeta>") + upright[2:],
    )


Tag = tuple[int, int, int, bytes]


def exif_of(*tags: Tag, order: str = "<", count: int | None = None, following: int = 0) -> bytes:
    """A TIFF block of one directory: (tag, type, count, four bytes of value) each."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = b"".join(struct.pack(order + "HHI", tag, kind, number) + value for tag, kind, number, value in tags)
    entries = len(tags) if count is None else count
    return head + struct.pack(order + "H", entries) + body + struct.pack(order + "I", following)


def _app1(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


# -- PNG ---------------------------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(name, body) of each chunk."""
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(*chunks: tuple[bytes, bytes], wrong: Callable[[bytes], bool] = lambda name: False) -> bytes:
    """A PNG of these chunks; the checksums of those that are ``wrong`` do not fit."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        checksum = zlib.crc32(name + body) ^ (0xBADC0DE if wrong(name) else 0)
        parts.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum))
    return b"".join(parts)


def _pngs() -> Iterator[tuple[str, bytes]]:
    plain = saved("PNG")
    yield "whole.png", plain
    yield "transparent.png", saved("PNG", Image.merge("RGBA", (*picture().split(), Image.new("L", (WIDE, HIGH), 200))))
    yield "palette.png", saved("PNG", picture().quantize(16))
    yield "gray-of-16-bits.png", saved("PNG", Image.fromarray(np.asarray(picture().convert("L"), np.uint16) * 257))
    yield "interlaced.png", interlaced()
    yield "interlaced-without-half-of-it.png", _half(interlaced())
    for count in (4, 12, 16, 100, 3000):
        yield f"without-its-last-{count}-bytes.png", plain[:-count]
    yield "only-its-header.png", plain[:33]
    yield "cut-in-its-header.png", plain[:25]
    yield "half-of-it.png", _half(plain)
    yield "half-of-a-palette.png", _half(saved("PNG", picture().quantize(16)))
    head, *rest = png_chunks(plain)
    body = b"".join(part for name, part in rest if name == b"IDAT")
    end = (b"IEND", b"")
    for name in (b"IHDR", b"IDAT", b"IEND"):
        pieces = png_of(head, (b"IDAT", body), end, wrong=lambda found, name=name: found == name)  # type: ignore[misc]
        yield f"wrong-checksum-of-{name.decode()}.png", pieces
    pieces = png_of(head, *((b"IDAT", body[at : at + 1000]) for at in range(0, len(body), 1000)), end)
    yield "pixels-in-pieces.png", pieces
    yield "pixels-with-a-wrong-adler.png", png_of(head, (b"IDAT", body[:-4] + b"abcd"), end)
    yield "pixels-without-their-adler.png", png_of(head, (b"IDAT", body[:-4]), end)
    yield "pixels-with-a-bit-flipped.png", png_of(head, (b"IDAT", _flipped(body, len(body) // 2)), end)
    yield (
        "pixels-that-are-too-many.png",
        png_of(head, (b"IDAT", zlib.compress(zlib.decompress(body) + bytes(999))), end),
    )
    yield "pixels-that-are-too-few.png", png_of(head, (b"IDAT", zlib.compress(zlib.decompress(body)[:-2000])), end)
    yield "a-filter-that-is-none.png", png_of(head, (b"IDAT", zlib.compress(_filter_9(zlib.decompress(body)))), end)
    yield "no-pixels.png", png_of(head, end)
    yield "words-behind-its-end.png", plain + b"appended" * 20
    yield "zero-width.png", png_of((b"IHDR", bytes(4) + head[1][4:]), (b"IDAT", body), end)


def interlaced() -> bytes:
    """The picture in Adam7's seven passes: Pillow does not write it."""
    pixels = np.asarray(picture())
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    raw = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx] if row.size)
    head = struct.pack(">IIBBBBB", WIDE, HIGH, 8, 2, 0, 0, 1)
    return png_of((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))


def _png_chunks() -> Iterator[tuple[str, bytes]]:
    head, *rest = png_chunks(saved("PNG"))
    pixels = [part for part in rest if part[0] == b"IDAT"]
    end = (b"IEND", b"")
    large = zlib.compress(b" " * (2 << 20), 9)
    turned = exif_of((0x0112, 3, 1, struct.pack("<HH", 6, 0)))
    odd: dict[str, list[tuple[bytes, bytes]]] = {
        "text-of-2-MiB": [(b"zTXt", b"Comment\0\0" + large)],
        "xmp-of-2-MiB": [(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + large)],
        "icc-of-2-MiB": [(b"iCCP", b"icc\0\0" + large)],
        "text-that-is-not-compressed": [(b"zTXt", b"Comment\0\0no zlib")],
        "text-of-an-unknown-method": [(b"zTXt", b"Comment\0\x07" + large)],
        "text-without-a-key": [(b"tEXt", b"")],
        "itxt-cut-short": [(b"iTXt", b"XML:com.adobe.xmp\0\x01")],
        "100-texts-of-64-kB": [(b"zTXt", b"k%d\0\0" % number + zlib.compress(bytes(65_536))) for number in range(100)],
        "resolution-cut-short": [(b"pHYs", b"\0\0")],
        "gamma-cut-short": [(b"gAMA", b"\0")],
        "gamma-of-zero": [(b"gAMA", bytes(4))],
        "chromaticities-cut-short": [(b"cHRM", b"\0" * 5)],
        "srgb-empty": [(b"sRGB", b"")],
        "srgb-of-9": [(b"sRGB", b"\x09")],
        "transparency-cut-short": [(b"tRNS", b"\0")],
        "background-cut-short": [(b"bKGD", b"\0")],
        "date-cut-short": [(b"tIME", b"\0")],
        "an-unknown-ancillary-chunk": [(b"quUx", b"what")],
        "an-unknown-critical-chunk": [(b"QUUX", b"what")],
        "a-palette-of-4-bytes": [(b"PLTE", b"abcd")],
        "animation-cut-short": [(b"acTL", b"\0")],
        "exif-turned": [(b"eXIf", turned)],
        "exif-that-is-none": [(b"eXIf", b"nothing of the kind")],
        "exif-empty": [(b"eXIf", b"")],
        "exif-with-a-negative": [(b"eXIf", exif_of((0x0112, 3, 1, b"\6\0\0\0"), (0x8769, 9, 1, b"\xf9\xff\xff\xff")))],
    }
    for name, chunks in odd.items():
        yield f"{name}.png", png_of(head, *chunks, *pixels, end)
    yield "exif-turned-behind-its-pixels.png", png_of(head, *pixels, (b"eXIf", turned), end)
    for name in (b"tEXt", b"zTXt", b"iCCP", b"gAMA", b"pHYs", b"eXIf", b"tIME"):
        chunk = (name, turned if name == b"eXIf" else b"\0\0\xb1\x8f")
        pieces = png_of(head, chunk, *pixels, end, wrong=lambda found, name=name: found == name)  # type: ignore[misc]
        yield f"wrong-checksum-of-{name.decode()}.png", pieces
    behind = png_of(head, *pixels, (b"tEXt", b"Comment\0behind"), end, wrong=lambda found: found == b"tEXt")
    yield "wrong-checksum-behind-its-pixels.png", behind
    yield "a-length-beyond-its-end.png", png_of(head, *pixels) + struct.pack(">I", 0x7FFFFFF0) + b"tEXtabc"


def _filter_9(raw: bytes) -> bytes:
    row = 1 + 3 * WIDE
    return raw[: 20 * row] + b"\x09" + raw[20 * row + 1 :]


def _odd_pngs() -> Iterator[tuple[str, bytes]]:
    head, *rest = png_chunks(saved("PNG"))
    pixels, end = [part for part in rest if part[0] == b"IDAT"], (b"IEND", b"")
    indexed = png_chunks(saved("PNG", picture().quantize(16)))
    without_palette = [part for part in indexed if part[0] != b"PLTE"]
    yield "header-twice.png", png_of(head, head, *pixels, end)
    yield "end-twice.png", png_of(head, *pixels, end, end)
    yield "no-end.png", png_of(head, *pixels)
    yield "palette-missing.png", png_of(*without_palette)
    yield "palette-too-short.png", png_of(*(part if part[0] != b"PLTE" else (b"PLTE", part[1][:6]) for part in indexed))
    yield "palette-with-a-wrong-checksum.png", png_of(*indexed, wrong=lambda name: name == b"PLTE")
    clear = (b"tRNS", bytes(range(0, 256, 16)))
    yield "palette-with-transparency.png", png_of(*indexed[:-2], clear, *indexed[-2:])
    yield (
        "transparency-with-a-wrong-checksum.png",
        png_of(*indexed[:-2], clear, *indexed[-2:], wrong=lambda name: name == b"tRNS"),
    )
    yield (
        "pixels-interrupted.png",
        png_of(head, (b"IDAT", pixels[0][1][:500]), (b"tEXt", b"a\0b"), (b"IDAT", pixels[0][1][500:]), end),
    )
    yield "an-empty-pixel-chunk.png", png_of(head, (b"IDAT", b""), *pixels, end)
    yield "text-in-front-of-its-header.png", png_of((b"tEXt", b"a\0b"), head, *pixels, end)
    yield "zeros-behind-its-pixels.png", png_of(head, *pixels) + bytes(500)
    yield "zeros-instead-of-its-second-half.png", _zeroed(saved("PNG"))
    for mode in ("L", "RGBA", "I;16", "1", "LA"):
        image = picture().convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image, np.uint16) * 257)
        yield f"half-in-mode-{mode.replace(';', '-')}.png", _half(saved("PNG", image))
    wide = np.zeros((HIGH, 1 + 6 * WIDE), np.uint8)
    wide[:, 1:] = np.repeat(np.asarray(picture()).reshape(HIGH, -1), 2, 1)
    header = struct.pack(">IIBBBBB", WIDE, HIGH, 16, 2, 0, 0, 0)
    yield "color-of-16-bits.png", png_of((b"IHDR", header), (b"IDAT", zlib.compress(wide.tobytes())), end)
    yield "half-of-16-bits.png", _half(png_of((b"IHDR", header), (b"IDAT", zlib.compress(wide.tobytes())), end))


# -- other formats -----------------------------------------------------------------------------------------------------


def _others() -> Iterator[tuple[str, bytes]]:
    turned = b"Exif\0\0" + exif_of((0x0112, 3, 1, struct.pack("<HH", 6, 0)))
    whole = {
        "gif": saved("GIF"),
        "webp": saved("WEBP", quality=80),
        "lossless.webp": saved("WEBP", lossless=True),
        "bmp": saved("BMP"),
        "avif": saved("AVIF", quality=80),
        "ico": saved("ICO", picture(32, 32), sizes=[(32, 32)]),
    }
    for kind, data in whole.items():
        yield f"whole.{kind}" if "." not in kind else f"whole-{kind}", data
        stem, ending = ("", kind) if "." not in kind else ("lossless-", "webp")
        for share in (50, 90):
            yield f"{stem}{share}-percent-of-it.{ending}", data[: len(data) * share // 100]
        yield f"{stem}without-its-last-byte.{ending}", data[:-1]
        yield f"{stem}words-behind-its-end.{ending}", data + b"appended" * 20
    yield "turned.webp", saved("WEBP", quality=80, exif=turned[6:])
    yield "turned.avif", saved("AVIF", quality=80, exif=turned)
    yield "exif-that-is-none.webp", saved("WEBP", quality=80, exif=b"nothing of the kind")
    yield "animated.gif", _animation("GIF")
    yield "animated-cut-in-its-second-frame.gif", _animation("GIF")[:-900]
    yield "animated.png", _animation("PNG")
    yield "animated-cut-in-its-second-frame.png", _animation("PNG")[:-900]
    yield "animated.webp", _animation("WEBP")
    yield "words.png", b"just words"
    yield "empty.png", b""
    yield "zeros.jpg", bytes(4096)


def _odd_others() -> Iterator[tuple[str, bytes]]:
    gif, bmp = saved("GIF", interlace=0), saved("BMP")
    yield "not-interlaced.gif", gif
    for share in (30, 60, 95):
        yield f"{share}-percent-not-interlaced.gif", gif[: len(gif) * share // 100]
    yield "without-its-last-2-bytes.gif", gif[:-2]
    yield "only-its-header.gif", gif[:780]
    yield "zeros-instead-of-its-second-half.gif", _zeroed(gif)
    yield "screen-of-zero.gif", gif[:6] + bytes(4) + gif[10:]
    yield "screen-smaller-than-its-frame.gif", gif[:6] + struct.pack("<HH", 20, 20) + gif[10:]
    yield "screen-larger-than-its-frame.gif", gif[:6] + struct.pack("<HH", 100, 90) + gif[10:]
    yield "transparent.gif", saved("GIF", picture().quantize(16), transparency=0)
    yield "header-size-of-zero.bmp", bmp[:14] + bytes(4) + bmp[18:]
    yield "from-top-to-bottom.bmp", bmp[:22] + struct.pack("<i", -HIGH) + bmp[26:]
    for mode in ("1", "L", "P"):
        image = picture().quantize(16) if mode == "P" else picture().convert(mode)
        yield f"half-in-mode-{mode}.bmp", saved("BMP", image)[: -len(saved("BMP", image)) // 3]
    yield "a-bitmap.ico", saved("ICO", picture(32, 32), sizes=[(32, 32)], bitmap_format="bmp")
    yield "half-of-a-bitmap.ico", _half(saved("ICO", picture(32, 32), sizes=[(32, 32)], bitmap_format="bmp"))
    yield "half-of-several.ico", _half(saved("ICO", picture(64, 64), sizes=[(16, 16), (32, 32), (64, 64)]))
    yield "several.ico", saved("ICO", picture(64, 64), sizes=[(16, 16), (32, 32), (64, 64)])
    webp = saved("WEBP", quality=80)
    yield "a-size-too-small.webp", webp[:4] + struct.pack("<I", 20) + webp[8:]
    yield "a-size-too-large.webp", webp[:4] + struct.pack("<I", len(webp) + 500) + webp[8:]
    yield "zeros-instead-of-its-second-half.webp", _zeroed(webp)
    yield "animated-cut-in-its-second-frame.webp", _animation("WEBP")[:-300]
    yield "png-named.jpg", saved("PNG")
    yield "jpeg-named.png", saved("JPEG")


def _animation(kind: str) -> bytes:
    frames = [picture(), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return saved(kind, frames[0], save_all=True, append_images=frames[1:], duration=100)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
