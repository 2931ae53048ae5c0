"""Polygons and masks: small shapes worked out by hand, and random masks that must come back pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backend.tasks.segmentation.polygons import area, box, fill, outlines


def picture(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def show(mask: np.ndarray) -> list[str]:
    return ["".join("#" if pixel else "." for pixel in row) for row in mask]


def winding(x: float, y: float, points: np.ndarray) -> int:
    """How often a closed line goes around (x, y), by the angles its corners are seen at."""
    to = points - [x, y]
    angles = np.arctan2(to[:, 1], to[:, 0])
    turns = np.diff(angles, append=angles[0])
    return round(float(((turns + np.pi) % (2 * np.pi) - np.pi).sum() / (2 * np.pi)))


def together(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for points in polygons:
        mask |= fill(points, *shape)
    return mask


def test_a_pixel_is_inside_when_its_middle_is() -> None:
    assert show(fill(np.array([[1, 1], [3, 1], [3, 2], [1, 2]]), 3, 4)) == ["....", ".##.", "...."]
    assert show(fill(np.array([[0.4, 0.6], [2.6, 0.6], [2.6, 2.4], [0.4, 2.4]]), 3, 3)) == ["...", "###", "..."]
    assert show(fill(np.array([[0, 0], [4, 0], [0, 4]]), 4, 4)) == ["###.", "##..", "#...", "...."]


def test_what_lies_outside_is_cut_off() -> None:
    assert show(fill(np.array([[-9, -9], [1.5, -9], [1.5, 1.5], [-9, 1.5]]), 3, 3)) == ["#..", "...", "..."]
    assert show(fill(np.array([[-1e300, -5], [1e300, -5], [1e300, 2], [-1e300, 2]]), 3, 2)) == ["##", "##", ".."]
    assert not fill(np.array([[5, 5], [9, 5], [9, 9]]), 3, 3).any()
    assert not fill(np.array([[0, 0], [3, 3]]), 3, 3).any()


def test_a_line_that_crosses_itself_is_filled_as_in_a_browser() -> None:
    twice = np.array([[0, 0], [4, 0], [4, 4], [0, 4]] * 2)
    assert fill(twice, 4, 4).all()
    and_back = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0], [1, 1], [1, 3], [3, 3], [3, 1], [1, 1]])
    assert show(fill(and_back, 4, 4)) == ["####", "#..#", "#..#", "####"]


OFF_THE_MIDDLES = np.array([1, 200]) / 80_000
"""Moves quarters of pixels so that no line between two of them meets the middle of a pixel: from (a, b) / 4 to
(a + u, b + v) / 4 that takes a whole number for (v - 200 u) / 20,000, and these lines have |u|, |v| ≤ 80."""


@given(st.lists(st.tuples(st.integers(-20, 60), st.integers(-20, 60)), min_size=3, max_size=9))
@example([(0, 0), (0, 0), (2, 2)])  # through the middle of the first pixel, but for the shift
def test_fill_is_where_the_line_winds_around(corners: list[tuple[int, int]]) -> None:
    points = np.array(corners) / 4 + OFF_THE_MIDDLES
    expected = [[winding(x + 0.5, y + 0.5, points) != 0 for x in range(10)] for y in range(8)]
    assert fill(points, 8, 10).tolist() == expected


def test_a_box_is_turned_around_its_upper_left_corner() -> None:
    assert box(1, 2, 3, 4, 0).tolist() == [[1, 2], [4, 2], [4, 6], [1, 6]]
    assert np.allclose(box(1, 2, 3, 4, 90), [[1, 2], [1, 5], [-3, 5], [-3, 2]])  # clockwise on the screen


def test_one_pixel_has_an_area() -> None:
    (polygon,) = outlines(picture("...", ".#.", "..."))
    assert sorted(map(tuple, polygon)) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert area(polygon) == 1


def test_parts_are_apart_and_the_largest_is_first() -> None:
    mask = picture("#..##", ".#.##", ".....")
    assert [area(polygon) for polygon in outlines(mask)] == [4, 1, 1]  # corners do not connect
    assert outlines(np.zeros((3, 3), bool)) == []


def test_holes_are_joined_by_a_cut() -> None:
    mask = picture("#####", "#.#.#", "#####")
    (polygon,) = outlines(mask)
    assert area(polygon) == 13
    assert show(fill(polygon, 3, 5)) == show(mask)
    (filled,) = outlines(mask, smallest_hole=2)
    assert fill(filled, 3, 5).all()


@settings(max_examples=200)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_every_mask_comes_back(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    polygons = outlines(mask)
    assert np.array_equal(together(polygons, mask.shape), mask)
    assert sum(area(polygon) for polygon in polygons) == mask.sum()


@pytest.mark.parametrize("tolerance", [0.75, 1.0, 2.0])
def test_simpler_outlines_stay_near(tolerance: float) -> None:
    y, x = np.mgrid[:100, :120]
    mask = (np.hypot(y - 50, x - 60) < 40) & (np.hypot(y - 50, x - 60) > 15)
    (exact,), (simple,) = outlines(mask), outlines(mask, tolerance)
    assert len(simple) < len(exact) / 2
    near = together([simple], mask.shape)
    assert (near & mask).sum() / (near | mask).sum() > 1 - 0.05 * tolerance
    (dot,) = outlines(picture("#"), tolerance)  # not simplified away
    assert area(dot) == 1
