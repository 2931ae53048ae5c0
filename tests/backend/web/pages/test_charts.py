"""A chart says what its figures say, and stays within its frame."""

from __future__ import annotations

import pytest

from backend.reporting.accuracy import accuracy_of
from backend.web.pages.charts import NARROW, WIDE, learning_curve
from backend.web.pages.figures import Point


def point(labels: int, share: float, count: int | None = None) -> Point:
    accuracy = accuracy_of({"train_cv_accuracy": share, "train_cv_labels": count})
    assert accuracy is not None
    return Point(labels, accuracy, labels // 50)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(
    "points",
    [
        [point(50, 0.6, 50), point(100, 0.8, 100), point(1234, 0.97, 1234)],
        [point(7, 1.0, 7)],
        [point(50, 0.0, 50), point(60, 1.0, 60)],
        [point(1, 0.5)],
        [point(999_999, 0.91, 999_999), point(1_000_001, 0.92, 1_000_001)],
    ],
)
def test_everything_is_within_the_frame_and_in_order(points: list[Point], width: int) -> None:
    chart = learning_curve(points, width)
    for mark in chart.marks:
        assert chart.left <= mark.x <= chart.right
        for height in (mark.low, mark.y, mark.high):
            assert height is None or chart.top <= height <= chart.bottom
        if mark.low is not None and mark.high is not None:
            assert mark.high <= mark.y <= mark.low, "more is further up"
    assert [mark.x for mark in chart.marks] == sorted(mark.x for mark in chart.marks)
    assert 3 <= len(chart.rows) <= 6 and chart.columns[0].words == "0"
    assert len({tick.words for tick in chart.rows}) == len(chart.rows)


def test_a_point_without_an_interval_has_none_drawn() -> None:
    chart = learning_curve([point(50, 0.6, 50), point(100, 0.8)], WIDE)
    assert chart.marks[0].low is not None and chart.marks[1].low is None
    assert chart.band == "", "a band would claim one"
    assert "(" not in chart.marks[1].words


def test_a_row_of_the_grid_is_where_a_point_of_that_share_is() -> None:
    chart = learning_curve([point(100, 0.6, 100), point(200, 0.8, 200)], WIDE)
    (row,) = [tick for tick in chart.rows if tick.words == "80 %"]
    assert row.at == pytest.approx(chart.marks[1].y, abs=0.11)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_what_is_expected_goes_on_behind_the_last_point_within_the_frame(width: int) -> None:
    ahead = [[250, 0.86, 0.84, 0.88], [500, 0.91, 0.85, 0.97]]
    chart = learning_curve([point(125, 0.8, 125), point(250, 0.87, 250)], width, ahead)
    line, band = (
        [tuple(map(float, place.split(","))) for place in text.split()] for text in (chart.ahead_line, chart.ahead_band)
    )
    assert len(line) == 2 and len(band) == 4
    assert line[0][0] == chart.marks[-1].x and line[1][0] > chart.marks[-1].x
    for x, y in [*line, *band]:
        assert chart.left <= x <= chart.right and chart.top <= y <= chart.bottom
    assert band[1][1] < line[1][1] < band[2][1], "the upper end is further up"
    assert learning_curve([point(125, 0.8, 125)], width).ahead_line == ""
