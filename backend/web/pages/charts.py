"""Charts as SVG, drawn on the server: where everything goes. How it looks, page.css says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backend.reporting.accuracy import percent
from backend.web.pages.figures import Point

WIDE, NARROW = 640, 340
"""Widths in pixels: a chart is drawn for both, because text that is scaled along is too small on a phone."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 42
_HEIGHT = 260
_STEPS = (0.1, 0.2, 0.25, 0.5, 1.0)
_POINTS_MARKED = 40  # with more, a line says more than the marks on it


@dataclass(frozen=True)
class Tick:
    """A line of the grid: where it is, and what stands beside it."""

    at: float
    words: str


@dataclass(frozen=True)
class Frame:
    """What every chart has: its size, where the drawing ends, and the lines of the grid, all in pixels."""

    width: int
    height: int
    left: float
    right: float
    bottom: float
    rows: Sequence[Tick]
    columns: Sequence[Tick]


@dataclass(frozen=True)
class Mark:
    """A point: its place, where its interval ends (None without one), and what it says."""

    x: float
    y: float
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True)
class Chart:
    """A learning curve: accuracy from bottom to top against labels from left to right, all in pixels."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    rows: Sequence[Tick]
    columns: Sequence[Tick]
    marks: Sequence[Mark]
    line: str
    band: str
    marked: bool
    ahead_line: str
    ahead_band: str
    beside: Sequence[Mark] = ()


def learning_curves(
    points: Sequence[Point], ahead: Sequence[Sequence[float]] = (), beside: Sequence[Point] = ()
) -> list[Chart]:
    """For wide and for narrow screens: see :func:`learning_curve`. None without a point."""
    return [learning_curve(points, width, ahead, beside) for width in (WIDE, NARROW)] if points else []


def learning_curve(
    points: Sequence[Point], width: int, ahead: Sequence[Sequence[float]] = (), beside: Sequence[Point] = ()
) -> Chart:
    """The curve of one point or more, in an image of this width. ``ahead``: (labels, accuracy, low, high) where it is
    expected to go on (:mod:`backend.reporting.outlook`). ``beside``: the points of another curve."""
    every = [*points, *beside]
    lows = [p.accuracy.value if p.accuracy.low is None else p.accuracy.low for p in every]
    highs = [p.accuracy.value if p.accuracy.high is None else p.accuracy.high for p in every]
    lows, highs = lows + [low for _, _, low, _ in ahead], highs + [high for _, _, _, high in ahead]
    bottom, top = math.floor(min(lows) * 10) / 10, min(1.0, math.ceil(max(highs) * 10) / 10)
    if top - bottom < 0.2:
        bottom = max(0.0, round(top - 0.2, 1))
    most = round_up(max([*(p.labels for p in every), *(math.ceil(labels) for labels, *_ in ahead)]))
    inner_width, inner_height = width - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(labels: float) -> float:
        return round(_LEFT + inner_width * labels / most, 1)

    def up(share: float) -> float:
        return round(_TOP + inner_height * (top - share) / (top - bottom), 1)

    def mark(p: Point) -> Mark:
        low, high = p.accuracy.low, p.accuracy.high
        ends = None if low is None else up(low), None if high is None else up(high)
        return Mark(across(p.labels), up(p.accuracy.value), *ends, _words(p))

    marks = [mark(p) for p in points]
    step = next(step for step in _STEPS if (top - bottom) / step <= 5.01)
    shares = [bottom + step * place for place in range(math.floor((top - bottom) / step + 1e-6) + 1)]
    parts = 4 if width >= WIDE else 2
    return Chart(
        width,
        _HEIGHT,
        _LEFT,
        width - _RIGHT,
        _TOP,
        _HEIGHT - _BOTTOM,
        [Tick(up(share), percent(share)) for share in shares],
        [Tick(across(most * part / parts), f"{most * part / parts:,.0f}") for part in range(parts + 1)],
        marks,
        _path([(mark.x, mark.y) for mark in marks]),
        _band(marks),
        len(points) <= _POINTS_MARKED,
        _path([(across(labels), up(value)) for labels, value, _, _ in ahead]),
        _path(
            [(across(labels), up(high)) for labels, _, _, high in ahead]
            + [(across(labels), up(low)) for labels, _, low, _ in reversed(ahead)]
        ),
        [mark(p) for p in beside],
    )


def round_up(count: int) -> int:
    """The next number of labels that divides well by four."""
    size = 10 ** max(0, math.floor(math.log10(max(1, count))) - 1)
    steps = (4, 8, 12, 16, 20, 24, 32, 40, 60, 80, 100)
    return max(4, next(step * size for step in steps if step * size >= count))


def _words(point: Point) -> str:
    accuracy = point.accuracy
    interval = ""
    if accuracy.low is not None and accuracy.high is not None:
        interval = f" ({percent(accuracy.low)} to {percent(accuracy.high)})"
    return f"Cycle {point.cycle}: {percent(accuracy.value)}{interval} with {point.labels} labels"


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _band(marks: Sequence[Mark]) -> str:
    """The area between the ends of the intervals, where all points have one."""
    above = [(mark.x, mark.high) for mark in marks if mark.high is not None]
    below = [(mark.x, mark.low) for mark in reversed(marks) if mark.low is not None]
    return _path([*above, *below]) if len(above) == len(below) == len(marks) > 1 else ""
