"""What decoding a photograph to what the networks read costs, against the fastest way that we know of.

:func:`backend.images.decoding.decode`, as a sync calls it for each new image, against OpenCV: a JPEG decoded at a
fraction of its size, its center cut out, shrunk by areas. Both read bytes in memory and give (S, S, 3) RGB. OpenCV's
way has no answer to a hostile or odd image: it looks at no limits, colors with 16 bits, or transparent pixels.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from backend.images.decoding import decode
from benchmarks.speed.measuring import Measured, in_turns

SIDE = 224
PHOTOGRAPH, _SMALL_PHOTOGRAPH = (1536, 2048), (480, 640)
_PHOTOGRAPHS, _REPETITIONS = 12, 9
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def measure(small: bool) -> Measured:
    """JPEGs of photographs' size, one after the other."""
    shape, count = (_SMALL_PHOTOGRAPH, 2) if small else (PHOTOGRAPH, _PHOTOGRAPHS)
    files = [photograph(seed, shape) for seed in range(count)]
    over, under = in_turns(
        lambda: [decode(file, SIDE) for file in files],
        lambda: [decode_reduced(file, SIDE) for file in files],
        1 if small else _REPETITIONS,
    )
    return Measured(
        "decode",
        f"decoding a JPEG to {SIDE} px ÷ OpenCV's reduced decoding",
        over,
        under,
        "s",
        notes=(
            f"{count} JPEGs of {shape[1]} × {shape[0]} px, quality 90, one thread of ours; OpenCV "
            f"{cv2.__version__} with its {cv2.getNumThreads()} threads, at the smallest of 1/2, 1/4 and 1/8 that "
            "suffices; it checks nothing that comes from outside",
        ),
    )


def decode_reduced(data: bytes, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a JPEG whose shorter side is at least that."""
    buffer = np.frombuffer(data, np.uint8)
    width, height = Image.open(io.BytesIO(data)).size  # the header only
    factor = max((one for one in _REDUCED if min(width, height) // one >= size), default=1)
    image = cv2.imdecode(buffer, _REDUCED.get(factor, cv2.IMREAD_COLOR))
    assert image is not None
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side]
    return np.asarray(cv2.cvtColor(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB))


def photograph(seed: int, shape: tuple[int, int]) -> bytes:
    """A JPEG of (H, W) with large shapes, fine texture and a little noise: about as large as a photograph."""
    draw = np.random.default_rng(seed)
    layers = [
        cv2.resize(draw.normal(0, strength, (cells, cells, 3)), shape[::-1], interpolation=cv2.INTER_CUBIC)
        for cells, strength in ((4, 50.0), (32, 25.0), (256, 12.0))
    ]
    noise = draw.normal(0, 3.0, (*shape, 3))
    pixels = np.clip(128 + sum(layers) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()
