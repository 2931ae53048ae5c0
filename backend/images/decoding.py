"""Decoding: from an encoded image, which is not trusted, to the uint8 pixels that the networks read.

For classifiers, images are cropped to a square around their center. For masks, whole images are stretched to one size.
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
"""Images of up to 40 px on their longer side are cached at 32 px."""

MAX_PIXELS = 100_000_000
"""Limit after a JPEG is scaled down while decoding. Larger images take hundreds of megabytes and may be an attack."""

LARGE_PIXELS = 12_000_000
_one_large_at_a_time = threading.Semaphore(1)

# The formats that browsers show, and the usual ones of photographs; not all that Pillow reads: for example, its EPS
# reader starts Ghostscript.
_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "PCX",
)  # fmt: skip

_SWAPS_SIDES = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode an image in any common format to (size, size, 3) uint8 RGB.

    The EXIF orientation is applied, transparent pixels become white, 16-bit gray keeps its upper 8 bits, and of an
    animation the first frame is used. Then the shorter side is scaled to ``size`` and the center is cropped. At
    ``size`` 32, images up to 40 px are not cropped: if both sides are 28 to 32 px, they are padded by repeating their
    border, so that no pixel of a 28×28 digit is blurred; otherwise they are scaled to 32×32.

    Raises:
        ImageError: it is not an image, damaged, too large, or in an unsupported format; the message says which.
    """
    with _opened(data) as image:
        image.draft(None, (size, size))  # JPEG: decode at 1/2, 1/4 or 1/8 of its size, if that is at least ``size``
        with _memory_for(image):
            return _fit(_to_rgb(image), size)


def decode_whole(data: bytes, frame: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image in any common format to (H, W, 3) uint8 RGB, stretched to ``frame`` (H, W) without cropping.

    Otherwise like :func:`decode`. Also returns the (height, width) of the image as browsers show it, with its EXIF
    orientation applied.

    Raises:
        ImageError: as :func:`decode`.
    """
    with _opened(data) as image:
        if image.format in ("JPEG", "MPO"):
            shown = _shown(image)
            stored = frame if shown != (image.height, image.width) else frame[::-1]  # (width, height), as in Pillow
            # as in ``decode``; the box is the exact area, because the scaled size in pixels is rounded up
            box = (image.draft(None, stored) or (None, None))[1]
            with _memory_for(image):
                return np.asarray(_to_rgb(image.resize(stored, Image.Resampling.BILINEAR, box))), shown
        with _memory_for(image):
            whole = _to_rgb(image)
            pixels = np.asarray(whole.resize(frame[::-1], Image.Resampling.BILINEAR))
            return pixels, (whole.height, whole.width)


def dimensions(data: bytes) -> tuple[int, int]:
    """(width, height), read from the header only. Raises ImageError."""
    with _opened(data) as image:
        return image.size


def shown_size(data: bytes) -> tuple[int, int]:
    """(height, width) as browsers show it, with its EXIF orientation applied. Raises ImageError."""
    with _opened(data) as image:
        if image.format != "PNG":
            return _shown(image)
        with _memory_for(image):  # a PNG's EXIF data may come after its pixels, which are then read too
            return _shown(image)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image without reading its pixels. Any failure, here or inside the block, becomes an ImageError."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("the image has more pixels than can be decoded safely") from error
    except Exception as error:  # Pillow's readers raise many kinds: OSError, ValueError, SyntaxError …
        raise ImageError(_why_unreadable(data, error)) from error


@contextlib.contextmanager
def _memory_for(image: Image.Image) -> Iterator[None]:
    """Refuse an image that is too large to decode, and decode large images one at a time, because many threads do so
    at once."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ImageError(f"the image has {image.width}×{image.height} pixels: more than can be decoded safely")
    with _one_large_at_a_time if pixels >= LARGE_PIXELS else contextlib.nullcontext():
        yield


def _shown(image: Image.Image) -> tuple[int, int]:
    """(height, width) with the EXIF orientation applied, of an image to which it is not applied yet."""
    # Pillow's TIFF reader swaps width and height by itself
    swapped = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in _SWAPS_SIDES
    return (image.width, image.height) if swapped else (image.height, image.width)


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
    """Gray of 16 or more bits, (H, W) of any type, as uint8. Each kind of values has a fixed scale, as in browsers."""
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
    else:  # this crops before it scales, so that a 10,000×10 image needs no more memory than others
        square = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square)


def _pad(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pad (H, W, 3) to (size, size, 3) by repeating the border pixels."""
    rows, columns = size - pixels.shape[0], size - pixels.shape[1]
    padding = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(pixels, padding, mode="edge")


def _why_unreadable(data: bytes, error: Exception) -> str:
    start = data[:512].lstrip().lower()
    if not data:
        return "the file is empty"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page came instead of an image: the address requires a login, or is not that of an image"
    if b"<svg" in start:
        return "SVG drawings are not supported: use PNG or JPEG"
    detail = " ".join(str(error).split())[:120]
    return f"not a readable image ({type(error).__name__}: {detail})"
