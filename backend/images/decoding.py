"""Decoding: from an encoded image, which is not trusted, to the uint8 pixels that the networks read.

For classifiers, images are cropped to a square around their center. For masks, whole images are stretched to one size.
What browsers show is decoded, with the orientation that they apply: a damaged file is mended and tried a second time
(:mod:`backend.images.mending`). Each image first takes the memory that it needs from the budget of the process.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from backend.errors import ImageError
from backend.images.mending import mended
from backend.images.orientation import SWAPS_SIDES, UPRIGHT, of_tiff, orientation
from backend.memory import budget

SMALL_SIZE, SMALL_UP_TO = 32, 40
"""Images of up to 40 px on their longer side are cached at 32 px."""

MAX_PIXELS = 100_000_000
"""Limit after a JPEG is scaled down while decoding, whatever memory there is."""

LARGE_PIXELS = 4_000_000
"""From here on, images are converted and scaled down strip by strip: a second copy of all pixels is never made."""

_STRIP_PIXELS = 1_000_000

# The formats that browsers show, and the usual ones of photographs; not all that Pillow reads: for example, its EPS
# reader starts Ghostscript.
_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", "PCX",
)  # fmt: skip

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2, "I": 32, "F": 32}
"""Bytes per pixel of Pillow's copy, and of the arrays that :func:`_to_8_bits` makes; 4 of other modes."""

_DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "JPEG2000": 16, "TIFF": 8, "GIF": 8, "ICO": 8}
"""Bytes per pixel that a format's decoder takes besides."""

_PROGRESSIVE_BYTES = 6
"""Bytes per pixel of a progressive JPEG's coefficients, which are all kept, at whatever size it is decoded."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → what turns the stored pixels upright."""

_NOTHING_DECODED = 128
"""What libjpeg leaves in all pixels of a JPEG whose data do not begin."""

Used = TypeVar("Used")


class _TooLarge(ImageError):
    """Not damage: a second try would not help."""


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode an image in any common format to (size, size, 3) uint8 RGB.

    Transparent pixels become white, 16-bit gray keeps its upper 8 bits, and of an animation the first frame is used.
    Then the shorter side is scaled to ``size`` and the center is cropped. At ``size`` 32, images up to 40 px are not
    cropped: if both sides are 28 to 32 px, they are padded by repeating their border, so that no pixel of a 28×28 digit
    is blurred; otherwise they are scaled to 32×32.

    Raises:
        ImageError: it is not an image, has no pixels, takes too much memory, or is in an unsupported format; the
            message says which.
    """

    def square(image: Image.Image, turn: int) -> np.ndarray:
        stored = image.width * image.height
        image.draft(None, (size, size))  # JPEG: decode at 1/2, 1/4 or 1/8 of its size, if that is at least ``size``
        with _memory_for(image, stored):
            rgb, _ = _to_rgb(image, size)
            return _fit(_turned(rgb, turn), size)

    return _tried(data, square, lambda pixels: pixels)


def decode_whole(data: bytes, frame: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image in any common format to (H, W, 3) uint8 RGB, stretched to ``frame`` (H, W) without cropping.

    Otherwise like :func:`decode`. Also returns the (height, width) of the image as browsers show it.

    Raises:
        ImageError: as :func:`decode`.
    """

    def stretched(image: Image.Image, turn: int) -> tuple[np.ndarray, tuple[int, int]]:
        shown, stored = _shown(image, turn), image.width * image.height
        wanted = frame if turn in SWAPS_SIDES else frame[::-1]  # (width, height), as in Pillow
        # as in ``decode``; the box is the exact area, because the scaled size in pixels is rounded up
        box = (image.draft(None, wanted) or (None, None))[1]
        with _memory_for(image, stored):
            rgb, factor = _to_rgb(image, max(frame))
            if image.format == "TIFF":  # its sides may have changed places when its pixels were read
                shown = (image.height, image.width)
            box = box or (0, 0, *image.size)
            exact = (box[0] / factor, box[1] / factor, box[2] / factor, box[3] / factor)
            return np.asarray(_turned(rgb.resize(wanted, Image.Resampling.BILINEAR, exact), turn)), shown

    return _tried(data, stretched, lambda found: found[0])


def dimensions(data: bytes) -> tuple[int, int]:
    """(width, height) as stored, read from the header only. Raises ImageError."""
    return _tried(data, lambda image, turn: image.size)


def shown_size(data: bytes) -> tuple[int, int]:
    """(height, width) as browsers show it, read from the header only. Raises ImageError."""
    return _tried(data, _shown)


# -- opening -----------------------------------------------------------------------------------------------------------


def _tried(
    data: bytes, use: Callable[[Image.Image, int], Used], pixels_of: Callable[[Used], np.ndarray] | None = None
) -> Used:
    """``use`` of the image and its orientation; if that fails, of the mended image.

    Raises:
        ImageError: neither can be used; the message says why the first cannot.
    """
    turn = orientation(data)
    try:
        with _opened(data) as image:
            return use(image, _turn_of(image, turn))
    except _TooLarge:
        raise
    except ImageError as error:
        with contextlib.suppress(Exception):  # the first try says better what is wrong
            again = mended(data)
            if again is not None:
                with _opened(again) as image:
                    found = use(image, turn)
                if pixels_of is None or (pixels_of(found) != _NOTHING_DECODED).any():
                    return found
        raise error


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open an image without reading its pixels. Any failure, here or inside the block, becomes an ImageError."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _TooLarge("the image has more pixels than can be decoded safely") from error
    except Exception as error:  # Pillow's readers raise many kinds: OSError, ValueError, SyntaxError …
        raise ImageError(_why_unreadable(data, error)) from error


@contextlib.contextmanager
def _memory_for(image: Image.Image, stored: int) -> Iterator[None]:
    """Take the memory that decoding an image of ``stored`` pixels takes, at the size that is drafted by now."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise _TooLarge(f"the image has {image.width}×{image.height} pixels: more than can be decoded safely")
    needed = pixels * (_BYTES.get(image.mode, 4) + _DECODER_BYTES.get(image.format or "", 0))
    if image.info.get("progressive"):
        needed += stored * _PROGRESSIVE_BYTES
    needed += 12 * min(pixels, LARGE_PIXELS)  # in RGB, over white, and turned
    try:
        taken = budget().decoding(needed)
        taken.__enter__()
    except ImageError as error:
        raise _TooLarge(f"the image has {image.width}×{image.height} pixels: {error}") from error
    try:
        yield
    finally:
        taken.__exit__(None, None, None)


def _turn_of(image: Image.Image, turn: int) -> int:
    if image.format == "AVIF":  # says so in its container, which Pillow translates
        return of_tiff(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    return UPRIGHT if image.format == "TIFF" else turn  # whose reader turns it by itself


def _shown(image: Image.Image, turn: int) -> tuple[int, int]:
    """(height, width) of an image to which ``turn`` is not applied yet."""
    return (image.width, image.height) if turn in SWAPS_SIDES else (image.height, image.width)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


# -- pixels ------------------------------------------------------------------------------------------------------------


def _turned(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _to_rgb(image: Image.Image, side: int) -> tuple[Image.Image, int]:
    """The image in RGB, and by which factor it is smaller: 1, or for large images as much as leaves twice ``side``."""
    image.seek(0)
    image.load()
    if image.mode in ("I", "F") or image.width * image.height < LARGE_PIXELS:
        return _converted(image), 1
    factor = max(1, min(image.size) // (2 * side))
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    step = max(1, _STRIP_PIXELS // image.width // factor) * factor
    for top in range(0, image.height, step):
        strip = image.crop((0, top, image.width, min(image.height, top + step)))
        strip.info = image.info  # a palette's transparent color
        small.paste(_converted(strip).reduce(factor), (0, top // factor))
    return small, factor


def _converted(image: Image.Image) -> Image.Image:
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
