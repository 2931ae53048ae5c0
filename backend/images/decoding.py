"""Encoded image → the uint8 pixels that every network here reads. Images come from strangers.

A classifier's images are square, the middle of the picture; those with masks are whole, stretched to one frame.
"""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps

from backend.errors import ImageError

SMALL_SIZE, SMALL_UP_TO = 32, 40
"""Pools of images up to 40 px on their longer side are kept at 32 px."""

MAX_PIXELS = 100_000_000
"""After a JPEG was scaled down while decoding. Larger ones cost hundreds of megabytes each, and may be an attack."""

LARGE_PIXELS = 12_000_000
_one_large_at_a_time = threading.Semaphore(1)

# What a browser can show, and the usual containers of photographs. Not all that Pillow knows: its EPS reader, for one,
# starts Ghostscript.
_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "PCX",
)  # fmt: skip

_ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that change width and height."""


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode an image of any usual kind to (size, size, 3) uint8 RGB.

    The EXIF orientation is applied, transparency is laid on white, 16-bit grey keeps its upper 8 bits, animations give
    their first frame. Then the shorter side is scaled to ``size`` and the middle cut out. At ``size`` 32, images up to
    40 px are kept whole instead: 28 to 32 px are padded with their own border (so that no pixel of a 28×28 digit is
    blurred), others are scaled to 32×32.

    Raises:
        ImageError: not an image, damaged, too large, or of a kind that is not read; says which.
    """
    with _opened(data) as image:
        image.draft(None, (size, size))  # JPEG: decode at 1/2, 1/4 or 1/8 as long as that is not below ``size``
        with _memory_for(image):
            return _fit(_to_rgb(image), size)


def decode_whole(data: bytes, frame: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image of any usual kind to (H, W, 3) uint8 RGB, all of it, stretched to ``frame`` (H, W).

    Like :func:`decode` but for the shape. Beside the pixels: (height, width) of the image as browsers show it, its EXIF
    orientation applied. Raises ImageError.
    """
    with _opened(data) as image:
        if image.format in ("JPEG", "MPO"):
            shown = _shown(image)
            stored = frame if shown != (image.height, image.width) else frame[::-1]  # Pillow says (width, height)
            box = (image.draft(None, stored) or (None, None))[1]  # as in ``decode``; exact, where the pixels round up
            with _memory_for(image):
                return np.asarray(_to_rgb(image.resize(stored, Image.Resampling.BILINEAR, box))), shown
        with _memory_for(image):
            whole = _to_rgb(image)
            pixels = np.asarray(whole.resize(frame[::-1], Image.Resampling.BILINEAR))
            return pixels, (whole.height, whole.width)


def dimensions(data: bytes) -> tuple[int, int]:
    """(width, height) from the header alone. Raises ImageError."""
    with _opened(data) as image:
        return image.size


def shown_size(data: bytes) -> tuple[int, int]:
    """(height, width) as browsers show it, its EXIF orientation applied. Raises ImageError."""
    with _opened(data) as image:
        if image.format != "PNG":
            return _shown(image)
        with _memory_for(image):  # its EXIF data may stand behind its pixels
            return _shown(image)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Read up to the pixels. Whatever goes wrong, also inside the block, becomes an ImageError."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("the image has more pixels than can be decoded safely") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds: OSError, ValueError, SyntaxError …
        raise ImageError(_what_it_is(data, error)) from error


@contextlib.contextmanager
def _memory_for(image: Image.Image) -> Iterator[None]:
    """Refuses images too large to decode, and lets one large one at a time through: many threads decode at once."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ImageError(f"the image has {image.width}×{image.height} pixels: more than can be decoded safely")
    with _one_large_at_a_time if pixels >= LARGE_PIXELS else contextlib.nullcontext():
        yield


def _shown(image: Image.Image) -> tuple[int, int]:
    """(height, width) once the EXIF orientation is applied, of an image that is not turned yet."""
    # Pillow's TIFF reader gives the turned size itself
    turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
    return (image.width, image.height) if turned else (image.height, image.width)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _to_rgb(image: Image.Image) -> Image.Image:
    image.seek(0)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Grey of 16 or more bits, (H, W) of any type, to uint8 with one fixed scale for each kind, as browsers show it."""
    if np.issubdtype(values.dtype, np.floating):
        values = np.nan_to_num(values)
        values = values * 255 if values.size and values.max() <= 1 else values
    elif values.dtype.itemsize == 2 or (values.size and values.max() > 255):
        values = values // 257
    return np.clip(values, 0, 255).astype(np.uint8)


def _fit(image: Image.Image, size: int) -> np.ndarray:
    width, height = image.size
    if size == SMALL_SIZE and max(width, height) <= SMALL_UP_TO:
        if min(width, height) >= 28 and max(width, height) <= size:
            return _pad(np.asarray(image), size)
        square = image.resize((size, size), Image.Resampling.BILINEAR)
    else:  # cuts before it scales: a 10,000×10 image needs no more memory than another
        square = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square)


def _pad(pixels: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) to (size, size, 3), the border pixels repeated outwards."""
    high, wide = size - pixels.shape[0], size - pixels.shape[1]
    around = ((high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0))
    return np.pad(pixels, around, mode="edge")


def _what_it_is(data: bytes, error: Exception) -> str:
    start = data[:512].lstrip().lower()
    if not data:
        return "the file is empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page came instead of an image: the address needs a log-in, or is not an image's"
    if b"<svg" in start:
        return "SVG drawings are not read: use PNG or JPEG"
    words = " ".join(str(error).split())[:120]
    return f"not a readable image ({type(error).__name__}: {words})"
