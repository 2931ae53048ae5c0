"""The code of brush masks: bytes worked out by hand, and the SDK's pure-Python codec as the reference."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.tasks.segmentation.brush import BrushError, decode, decode_mask, encode, encode_mask


def sdk_codec() -> ModuleType:
    """``label_studio_sdk.converter.brush`` without its package, which imports nltk and scipy for other formats."""
    package = importlib.util.find_spec("label_studio_sdk")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "converter" / "brush.py"
    spec = importlib.util.spec_from_file_location("sdk_brush", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SDK = sdk_codec()

# 32 bits: the count; 00111: words of 8; 0010 0011 0111 1111: lengths of 3, 4, 8, 16 bits; then the pieces:
#                          1 00 011 11111111   4 × 255          1 00 011 00000000   4 × 0
ONE_THEN_NONE = [0, 0, 0, 8, 0b00111001, 0b00011011, 0b11111_100, 0b01111111, 0b111_10001, 0b10000000, 0]
#                          0 00 010   three values follow: 1, 2, 3
ONE_TWO_THREE = [0, 0, 0, 3, 0b00111001, 0b00011011, 0b11111_000, 0b010_00000, 0b001_00000, 0b010_00000, 0b011_00000]

Pieces = list[tuple[bool, int, list[int]]]


def code(count: int, pieces: Pieces, sizes: list[int], word: int = 8) -> list[int]:
    """A code bit by bit, as the format's description says: (many, which size, values)."""
    bits = f"{count:032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for many, size, values in pieces:
        bits += f"{int(many)}{size:02b}{len(values) - 1:0{sizes[size]}b}"
        bits += "".join(f"{value:0{word}b}" for value in (values[:1] if many else values))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


@st.composite
def codes(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """(code, values) of any sizes of lengths and words, with pieces of both kinds: what an editor may write."""
    sizes = draw(st.lists(st.integers(1, 16), min_size=4, max_size=4))
    word = draw(st.integers(1, 8))
    pieces: Pieces = []
    for _ in range(draw(st.integers(0, 12))):
        many, size = draw(st.booleans()), draw(st.integers(0, 3))
        length = draw(st.integers(1, min(40, 1 << sizes[size])))
        one = st.integers(0, (1 << word) - 1)
        values = [draw(one)] * length if many else draw(st.lists(one, min_size=length, max_size=length))
        pieces.append((many, size, values))
    values = [value for _, _, some in pieces for value in some]
    return code(len(values), pieces, sizes, word), values


def test_bytes_by_hand() -> None:
    assert encode_mask(np.array([[True, False]])) == ONE_THEN_NONE
    assert decode_mask(ONE_THEN_NONE, width=2, height=1).tolist() == [[True, False]]
    assert decode_mask(ONE_THEN_NONE, width=1, height=2).tolist() == [[True], [False]]
    assert decode(ONE_TWO_THREE).tolist() == [1, 2, 3]
    assert code(3, [(False, 0, [1, 2, 3])], [3, 4, 8, 16]) == ONE_TWO_THREE


def test_reads_what_the_editor_writes() -> None:
    """Written by the rle-pack of Label Studio 1.23.2's editor: runs, and values one by one between them."""
    rle = [0, 0, 0, 13, 57, 27, 252, 65, 32, 128, 129, 70, 6, 8, 40, 52, 32, 224]
    assert decode(rle).tolist() == [9, 9, 9, 1, 2, 3, 3, 3, 3, 5, 6, 7, 7]


@given(codes())
def test_reads_every_code_as_it_is_meant_and_as_the_sdk_does(coded: tuple[list[int], list[int]]) -> None:
    rle, values = coded
    assert decode(rle).tolist() == values
    if values:
        assert decode(rle).tolist() == SDK.decode_rle(rle).tolist()


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.sampled_from([1, 2, 3, 4, 8, 9, 16, 17, 256, 257])), min_size=1, max_size=15
    )
)
def test_writes_the_bytes_of_the_sdk(runs: list[tuple[int, int]]) -> None:
    values = np.concatenate([np.full(length, value, np.uint8) for value, length in runs])
    assert encode(values) == SDK.encode_rle(values)
    assert decode(encode(values)).tolist() == values.tolist()


@pytest.mark.parametrize("length", [65535, 65536, 65537, 65536 + 3, 2 * 65536, 2 * 65536 + 1])
def test_long_runs_are_cut_where_the_sdk_cuts_them(length: int) -> None:
    values = np.repeat(np.array([7, 0, 9], np.uint8), [2, length, 1])
    assert encode(values) == SDK.encode_rle(values)
    assert np.array_equal(decode(encode(values)), values)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_mask_comes_back(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    rle = encode_mask(mask)
    assert rle == SDK.mask2rle(mask.astype(np.uint8) * 255)
    assert np.array_equal(decode_mask(rle, width, height), mask)
    assert np.array_equal(SDK.decode_rle(rle).reshape(height, width, 4)[:, :, 3] > 0, mask)


def test_only_the_alpha_counts_and_half_of_it_is_enough() -> None:
    pixels = [255, 0, 0, 255, 255, 255, 255, 127, 0, 0, 0, 128]  # red; white, half seen through; black
    assert decode_mask(encode(np.array(pixels, np.uint8)), 3, 1).tolist() == [[True, False, True]]
    literal = code(12, [(False, 3, pixels)], [3, 4, 8, 16])
    assert decode_mask(literal, 3, 1).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ([], "not a list of bytes"),
        (None, "not a list of bytes"),
        ({"0": 1}, "not a list of bytes"),
        (["1"], "not a list of bytes"),
        ([1.5], "not a list of bytes"),
        ([[1], [1, 2]], "not a list of bytes"),
        ([-1, 3], "not a list of bytes"),
        ([0, 256], "not a list of bytes"),
        ([0, 0, 0, 8], "too short"),
        ([0, 0, 0, 8, 255, 255, 255], "32-bit values"),
        (ONE_THEN_NONE[:-3], "ends too early"),
        ([255, 255, 255, 255, *ONE_THEN_NONE[4:]], "ends too early"),
    ],
)
def test_damaged_codes_are_refused_in_words(rle: list[int], words: str) -> None:
    with pytest.raises(BrushError, match=words):
        decode(rle)


def test_a_code_of_another_size_is_refused() -> None:
    with pytest.raises(BrushError, match="2 pixels, not 3×1"):
        decode_mask(ONE_THEN_NONE, width=3, height=1)


def test_a_large_mask_takes_milliseconds() -> None:
    y, x = np.mgrid[:1024, :1024]
    mask = (np.hypot(y - 512, x - 512) % 100 < 50) & (x % 300 > 20)
    took = []
    for _ in range(3):
        start = time.process_time()
        rle = encode_mask(mask)
        middle = time.process_time()
        again = decode_mask(rle, 1024, 1024)
        took.append((middle - start, time.process_time() - middle))
    assert np.array_equal(again, mask)
    assert all(seconds < 0.05 for seconds in np.min(took, axis=0)), took
