"""Brush masks as Label Studio stores them: a run-length code in bits (`@thi.ng/rle-pack`) of RGBA pixels.

    32 bits  number of values, 4 · H · W (R, G, B, A of every pixel, row by row)
     5 bits  bits of a value − 1
  4 × 4 bits  the four sizes of a length, in bits, − 1
    then pieces, until there are all values:
     1 bit   1: one value that is repeated; 0: different values follow
     2 bits  which of the four sizes
    size     the length − 1: of the repetition, or of the list of values
     value(s)

The editor writes a stroke's alpha into all four channels and displays pixels by their alpha, so only the alpha is used
here. Pieces cannot be found in parallel, but the first bits of a piece determine where it ends. So these are evaluated
at every bit position at once, and only the walk from piece to piece is a Python loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backend.errors import BackendError

_SIZES = (3, 4, 8, 16)  # of lengths: what the editor and the SDK write
_WORD = 8
_HEADER = 32 + 5 + 4 * 4
HALF = 128
"""A pixel belongs to a brush region where its alpha is at least this: the edges of strokes are smoothed."""


class BrushError(BackendError):
    """A brush code cannot be read; the message is a phrase that says why."""


def decode_mask(rle: Sequence[int], width: int, height: int) -> np.ndarray:
    """The pixels of a brush region, (H, W) bool. H and W are the ``original_height`` and ``original_width`` of its
    result.

    Raises:
        BrushError: the code is damaged, or for an image of another size.
    """
    runs = _read(rle)
    if runs.count != 4 * width * height:
        raise BrushError(f"its code has {runs.count / 4:g} pixels, not {width}×{height}")
    ends = np.cumsum(runs.lengths)
    alphas = ends // 4 - (ends - runs.lengths) // 4  # how many values of each run are an alpha, every fourth value
    return np.repeat(runs.values >= HALF, alphas).reshape(height, width)


def encode_mask(mask: np.ndarray) -> list[int]:
    """The code of a mask (H, W) bool, as ``mask2rle(255 * mask)`` of the SDK writes it."""
    flat = np.ascontiguousarray(mask, bool).reshape(-1)
    lengths, starts = run_lengths(flat)
    return encode_runs(4 * lengths, 255 * flat[starts].astype(np.uint8))


def decode(rle: Sequence[int]) -> np.ndarray:
    """All values of a code, (4·H·W,) uint8. Raises BrushError if it is damaged."""
    runs = _read(rle)
    return np.repeat(runs.values, runs.lengths)


def encode(values: np.ndarray) -> list[int]:
    """The code of values (M,) uint8."""
    flat = np.ascontiguousarray(values, np.uint8).reshape(-1)
    lengths, starts = run_lengths(flat)
    return encode_runs(lengths, flat[starts])


def run_lengths(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The length and the start of each run of equal values, both (R,) int64."""
    if not len(flat):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return np.diff(starts, append=len(flat)), starts


def encode_runs(lengths: np.ndarray, values: np.ndarray) -> list[int]:
    """The code of runs with ``lengths`` (R,) int64, at least 1 each, of ``values`` (R,) uint8.

    Raises:
        BrushError: there are 2^32 values or more.
    """
    count = int(lengths.sum())
    if count >> 32:
        raise BrushError(f"{count} values are more than a brush code can hold")
    # a run longer than 2^16 is cut into pieces, the last of which uses the same size of length as the others, as in the
    # SDK
    cuts = (lengths - 1) >> 16
    sizes = np.repeat(np.searchsorted([8, 16, 256], lengths), cuts + 1)
    rest = lengths - (cuts << 16)
    pieces = np.full(len(sizes), 1 << 16)
    pieces[np.cumsum(cuts + 1) - 1] = rest
    values = np.repeat(values.astype(np.int64), cuts + 1)

    bits_of_length = np.asarray(_SIZES)[sizes]
    many = pieces > 1  # a single value is written as a list of one value
    many |= np.repeat(cuts > 0, cuts + 1)
    head = (many.astype(np.int64) << 2) | sizes
    codes = (((head << bits_of_length) | (pieces - 1)) << _WORD) | values
    widths = 3 + bits_of_length + _WORD  # at most 27

    # shift every code to the left end of 32 bits, then take the bits that are used, one code after the other
    left = (codes << (32 - widths)).astype(">u4")
    bits = np.unpackbits(left.view(np.uint8).reshape(-1, 4), axis=1)
    bits = bits[np.arange(32) < widths[:, None]]
    header = [(count, 32), (_WORD - 1, 5), *((size - 1, 4) for size in _SIZES)]
    start = np.array([bit == "1" for value, width in header for bit in f"{value:0{width}b}"], np.uint8)
    # the SDK pads with 1 to 8 zeros, so that a code never ends on the last bit of a byte
    padding = np.zeros(8 - (len(start) + len(bits)) % 8, np.uint8)
    return np.packbits(np.concatenate([start, bits, padding])).tolist()


@dataclass(frozen=True)
class _Runs:
    count: int
    lengths: np.ndarray  # (R,) int64, their sum is count
    values: np.ndarray  # (R,) uint8


def _read(rle: Sequence[int]) -> _Runs:
    bits = np.unpackbits(_bytes(rle))
    if len(bits) < _HEADER:
        raise BrushError("its code is too short")
    digits = (bits + ord("0")).tobytes()  # as text, for int(…, 2)
    count, word = int(digits[:32], 2), int(digits[32:37], 2) + 1
    sizes = [int(digits[at : at + 4], 2) + 1 for at in range(37, _HEADER, 4)]
    if word > _WORD:
        raise BrushError(f"its code has {word}-bit values")

    heads = (bits[:-2] << 2) | (bits[1:-1] << 1) | bits[2:]
    starts = np.array(_walk(heads, digits, sizes, word), np.int64)
    many, size = heads[starts] >> 2 == 1, np.asarray(sizes)[heads[starts] & 3]
    lengths = np.empty(len(starts), np.int64)
    for width in set(sizes):
        lengths[size == width] = 1 + _words(bits, starts[size == width] + 3, width)

    # a list of values becomes as many runs of length one
    runs = np.where(many, 1, lengths)
    piece = np.repeat(np.arange(len(starts)), runs)
    inside = np.arange(len(piece)) - np.repeat(np.cumsum(runs) - runs, runs)
    values = _words(bits, (starts + 3 + size)[piece] + word * inside, word).astype(np.uint8)
    lengths = np.where(many, lengths, 1)[piece]

    ends = np.cumsum(lengths)
    if count > (ends[-1] if len(ends) else 0):
        raise BrushError("its code ends too early")
    kept = int(np.searchsorted(ends, count)) + 1 if count else 0  # the rest is padding of the last byte
    lengths, values = lengths[:kept], values[:kept]
    if kept:
        lengths[-1] -= ends[kept - 1] - count
    return _Runs(count, lengths, values)


def _walk(heads: np.ndarray, digits: bytes, sizes: Sequence[int], word: int) -> list[int]:
    """The start of each complete piece, as a bit position. ``heads``: the three bits from each position on, as a
    number."""
    step_of = np.array([0] * 4 + [3 + size + word for size in sizes], np.uint8)  # 0: depends on the piece's length
    steps = step_of[heads].tobytes()
    starts, at, last = [], _HEADER, len(steps)
    while at < last:
        starts.append(at)
        step = steps[at]
        if not step:
            size = sizes[int(digits[at + 1 : at + 3], 2)]
            step = 3 + size + word * (1 + int(digits[at + 3 : at + 3 + size] or b"0", 2))
        at += step
    if at > len(digits):
        starts.pop()
    return starts


def _words(bits: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """The numbers of ``width`` bits that start at the bit positions ``at``, int64."""
    words = np.zeros(len(at), np.int64)
    for k in range(width):
        words = (words << 1) | bits[at + k]
    return words


def _bytes(rle: Sequence[int]) -> np.ndarray:
    try:
        numbers = np.asarray(rle)
    except ValueError:
        numbers = np.empty(0)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise BrushError("its code is not a list of bytes")
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) <= 255:
        raise BrushError("its code is not a list of bytes")
    return numbers.astype(np.uint8)
