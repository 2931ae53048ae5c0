"""The interval of an accuracy is the published one, and there is none where nobody knows how many labels were asked."""

from __future__ import annotations

import pytest

from backend.reporting.accuracy import MEAN_IOU, Accuracy, accuracy_of


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_that_of_the_literature(right: int, count: int, low: float, high: float) -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I,
    method 3."""
    found = accuracy_of({"train_cv_accuracy": right / count, "train_cv_labels": count})
    assert found is not None and (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_needs_to_know_how_many_labels_were_asked() -> None:
    assert accuracy_of({"train_cv_accuracy": 0.8}) == Accuracy(0.8)
    found = accuracy_of({"train_cv_accuracy": 0.8, "train_cv_labels": 50})
    assert found is not None and found.n == 50 and found.low is not None and found.low < 0.8


@pytest.mark.parametrize("metrics", [{}, {"train_cv_accuracy": None}, {"train_cv_accuracy": float("nan")}])
def test_what_was_not_measured_is_not_shown(metrics: dict[str, float]) -> None:
    assert accuracy_of(metrics) is None


def test_the_mean_iou_of_masks_is_no_share_of_cases_and_has_no_interval() -> None:
    found = accuracy_of({"train_mean_iou": 0.55, "train_pixel_accuracy": 0.9, "train_cv_labels": 12})
    assert found == Accuracy(0.55, n=12, measure=MEAN_IOU)
