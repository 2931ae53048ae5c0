"""The chart of confidences against what is right says what its figures say, and the table beside it the same."""

from __future__ import annotations

import pytest

from backend.reporting.judged import Bin
from backend.web.pages.calibration import calibration_card, calibration_chart
from backend.web.pages.charts import NARROW, WIDE
from tests.backend.web.pages.conftest import Site
from tests.backend.web.pages.test_pages import JUDGED, words_of
from tests.backend.web.pages.world import add_cycle, fill


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_confidences_that_are_right_lie_on_the_diagonal_and_others_beside_it(width: int) -> None:
    chart = calibration_chart([Bin(0.5, 0.5, 10), Bin(0.75, 0.6, 20), Bin(0.9, 1.0, 30)], width)
    (x0, y0), (x1, y1) = (tuple(map(float, place.split(","))) for place in chart.diagonal.split())
    ideal = [y0 + (mark.x - x0) / (x1 - x0) * (y1 - y0) for mark in chart.marks]
    assert chart.marks[0].y == pytest.approx(ideal[0], abs=0.11)
    assert chart.marks[1].y > ideal[1] + 5, "too sure: below the line"
    assert chart.marks[2].y < ideal[2] - 5, "not sure enough: above it"
    for mark in chart.marks:
        assert mark.low is not None and mark.high is not None
        assert y1 <= mark.high <= mark.y <= mark.low <= y0 and chart.left <= mark.x <= chart.right


def test_a_bin_of_few_labels_has_a_wider_interval() -> None:
    few, many = calibration_chart([Bin(0.5, 0.5, 4), Bin(0.6, 0.5, 400)], WIDE).marks
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert few.low - few.high > 3 * (many.low - many.high)


def test_the_page_has_the_chart_and_its_table(site: Site) -> None:
    fill(site.state, site.settings)
    assert 'class="calibration' not in site.text("/projects/1") and calibration_card(None) is None
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=JUDGED)
    html = site.text("/projects/1")
    assert html.count('<svg class="calibration') == 2
    # Wilson's interval of 3 of 6, and of 9 of 9
    assert "55 % 50 % 19 % to 81 % 6 92 % 100 % 70 % to 100 % 9" in words_of(html)
    assert "Confidence 55 %: 50 % right, of 6 labels" in html
    add_cycle(site.state, 1, labels=150, pool=range(1, 61), accuracy=0.9, judged=JUDGED | {"reliability": []})
    assert 'class="calibration' not in site.text("/projects/1")
