"""Intervals of shares that were counted."""

from __future__ import annotations

from math import comb

import pytest

from models.intervals import exact_interval


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.30849711),  # 1 - 0.025 ** (1 / 10)
        (10, 10, 0.69150289, 1.0),
        (1, 1, 0.025, 1.0),
        (8, 10, 0.44390454, 0.97478927),  # R 4.3, binom.test(8, 10)
        (70, 100, 0.60018531, 0.78759364),  # binom.test(70, 100)
    ],
)
def test_the_exact_interval_is_that_of_clopper_and_pearson(right: int, count: int, low: float, high: float) -> None:
    assert exact_interval(right, count) == pytest.approx((low, high), abs=2e-7)


@pytest.mark.parametrize("share", [0.03, 0.5, 0.82])
@pytest.mark.parametrize("count", [5, 20, 60])
def test_it_covers_every_share_in_19_of_20_cases_or_more(share: float, count: int) -> None:
    """Summed over all outcomes, so that chance has no part in it."""
    covered = 0.0
    for right in range(count + 1):
        low, high = exact_interval(right, count)
        covered += comb(count, right) * share**right * (1 - share) ** (count - right) * (low <= share <= high)
    assert 0.95 <= covered <= 1.0


def test_a_thousand_labels_are_no_trouble() -> None:
    low, high = exact_interval(700, 1_000)
    assert (low, high) == pytest.approx((0.6705383, 0.7282789), abs=1e-6)
    assert exact_interval(50_000, 100_000)[0] == pytest.approx(0.5 - 1.96 * 0.5 / 100_000**0.5, abs=1e-4)
