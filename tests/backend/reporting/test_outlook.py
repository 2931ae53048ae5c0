"""What more labels would bring: the law is found again, its interval holds, and stopping is advised where it may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from backend.reporting.outlook import (
    ENOUGH_ASKED,
    FEWEST_ASKED,
    FEWEST_POINTS,
    CurvePoint,
    control_point_of,
    fitted,
    labels_to,
    law,
    measurement_error,
    outlook,
    point_of,
    points_of,
    prospects,
)
from backend.reporting.prospects import in_words, may_stop
from backend.state import Cycle

COUNTS = range(50, 301, 50)


def exact(a: float, b: float, c: float, counts: range = COUNTS) -> list[CurvePoint]:
    return [CurvePoint(count, float(law(count, a, b, c)), count) for count in counts]


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0])
def test_a_curve_that_follows_the_law_is_found_again(power: float) -> None:
    points = exact(0.9, 1.2, power)
    labels, accuracy = (np.array([getattr(one, name) for one in points]) for name in ("labels", "accuracy"))
    found = fitted(labels.astype(float), accuracy[None, :], labels.astype(float))[0]
    assert law(labels, *found) == pytest.approx(accuracy, abs=1e-3)
    assert law(600, *found) == pytest.approx(law(600, 0.9, 1.2, power), abs=5e-3)


def test_a_fit_promises_neither_more_than_everything_nor_a_fall() -> None:
    labels = np.array([50.0, 100.0, 200.0, 400.0])
    steep, falling = fitted(labels, np.array([[0.2, 0.5, 0.8, 1.0], [0.9, 0.8, 0.7, 0.6]]), labels)
    assert steep[0] <= 1 and steep[1] >= 0
    assert falling[1] == 0 and law(800, *falling) == law(50, *falling)


def test_labels_to_an_accuracy_are_those_of_the_law_turned_around() -> None:
    """0.9 - 1 / n ** 0.5 is 0.8 at 100 labels, and never 0.95."""
    curve = np.array([0.9, 1.0, 0.5])
    assert labels_to(curve, 0.8, 50) == pytest.approx(100)
    assert labels_to(curve, 0.8, 200) == 200, "it is met already"
    assert labels_to(curve, 0.95, 50) == labels_to(curve, 0.8999, 50) == math.inf


def test_the_error_of_a_share_is_that_of_a_coin() -> None:
    """Half of 98 right, and one more of each: sqrt(0.25 / 98). Of 98 that are all right it is not 0."""
    assert measurement_error(CurvePoint(98, 0.5, 98)) == pytest.approx(math.sqrt(0.25 / 98))
    assert measurement_error(CurvePoint(98, 1.0, 98)) == pytest.approx(math.sqrt(0.99 * 0.01 / 98))


def test_the_interval_holds_the_true_gain_19_times_in_20() -> None:
    """40 measured curves: of 38 expected, fewer than 34 would happen in less than one case of 50."""
    draw, true = np.random.default_rng(0), float(law(350, 0.9, 1.0, 0.5) - law(300, 0.9, 1.0, 0.5))
    held = 0
    for _ in range(40):
        points = [
            CurvePoint(p.labels, draw.binomial(p.asked, p.accuracy) / p.asked, p.asked) for p in exact(0.9, 1, 0.5)
        ]
        found = outlook(points, 0.0, None)
        assert found is not None and found["low"] <= found["high"]
        held += found["low"] <= true <= found["high"]
    assert held >= 34


def test_too_short_a_curve_tells_nothing() -> None:
    assert outlook(exact(0.9, 1.0, 0.5)[: FEWEST_POINTS - 1], 0.0, None) is None
    assert outlook(exact(0.9, 1.0, 0.5, range(300, 500, 50)), 0.0, None) is None, "it has not doubled"
    assert outlook([], 0.0, None) is None


def cycle(number: int, labels: int, status: str = "done", **metrics: float) -> Cycle:
    return Cycle(number, 1, number, "margin", 0, "w", status, "", 0, 0, labels, 0.0, 1.0, metrics, None)


def test_the_points_are_those_of_cycles_that_measured_a_share() -> None:
    measured = {"train_cv_accuracy": 0.8, "train_cv_labels": 90}
    newest_first = [
        cycle(7, 100, train_cv_accuracy=0.7, train_cv_labels=100),
        cycle(6, 100, **measured),
        cycle(5, 90, "failed", **measured),
        cycle(4, 80, train_mean_iou=0.5, train_cv_labels=80),
        cycle(3, 70),
        cycle(2, 60, train_cv_accuracy=0.6, train_cv_labels=60),
        cycle(1, 0, **measured),
    ]
    assert points_of(newest_first) == [CurvePoint(60, 0.6, 60), CurvePoint(100, 0.7, 100)]
    assert point_of(measured, 95) == CurvePoint(95, 0.8, 90)


def test_a_steep_curve_goes_on_and_a_flat_one_may_stop() -> None:
    """With 160 labels the error of a measured 0.68 is 3.7 points, and a law with power 0.3 adds 2 with the next 50."""
    steep = outlook([CurvePoint(n, float(law(n, 1.0, 1.5, 0.3)), 4_000) for n in range(40, 161, 40)], 0.0, None)
    assert steep is not None and not may_stop(steep, 0)
    assert "labeling may stop" not in in_words(steep, 0)
    flat = outlook(exact(0.9, 40.0, 1.5, range(50, 1_001, 50)), 0.0, 18.0)
    assert flat is not None and may_stop(flat, 0)
    words = in_words(flat, 0)
    assert words.startswith("The next 50 labels (about 15 min) are expected to add 0.0 points (95 % interval ")
    assert "less than the error of the measurement (1.0 points): labeling may stop here" in words
    assert "for 1000 more (about 5.0 h) are worth it." in words


def test_a_curve_that_does_not_rise_advises_nothing() -> None:
    """The sampler may have picked ever harder images: that is no reason to stop."""
    found = outlook([CurvePoint(n, 0.8, n) for n in COUNTS], 0.0, None)
    assert found is not None and not may_stop(found, 0)
    assert in_words(found, 0.9).startswith("The curve has not risen by more than its error")


@pytest.mark.parametrize(
    ("target", "asked_for", "words"),
    [
        (0.0, 0.0, ""),
        (0.75, 0.75, "The target of 75 % is met."),
        (0.9, 0.9, "The target of 90 % is met with about "),
        (0.97, 0.97, "The target of 97 % is not in sight on this curve."),
        (0.0, 0.9, "The target of 90 % is new: the next cycle says when it will be met."),
    ],
)
def test_a_target_is_met_is_in_sight_or_is_not(target: float, asked_for: float, words: str) -> None:
    found = outlook(exact(0.95, 1.2, 0.5), target, 36.0)
    said = in_words(found, asked_for)
    assert words in said and ("target" in said) == bool(asked_for)


def test_a_target_that_is_in_sight_is_not_stopped_short_of() -> None:
    """0.95 - 1.2 / n ** 0.5 is 0.9 at 576 labels; 276 more of them at 36 s take 2.8 h."""
    found = outlook(exact(0.95, 1.2, 0.5), 0.9, 36.0)
    assert found is not None and found["target_labels"] == pytest.approx(576, rel=0.1)
    assert may_stop(found, 0) and not may_stop(found, 0.9)
    assert "may stop" not in in_words(found, 0.9) and in_words(found, 0.9).endswith(" h.")


def test_the_way_ahead_begins_where_the_curve_ends_and_holds_the_law() -> None:
    found = outlook(exact(0.9, 1.2, 0.5), 0.0, None)
    assert found is not None
    assert [count for count, *_ in found["ahead"]] == [300, 375, 450, 525, 600]
    for count, value, low, high in found["ahead"]:
        assert low <= value <= high and value == pytest.approx(law(count, 0.9, 1.2, 0.5), abs=5e-3)


def test_nothing_known_is_nothing_said() -> None:
    assert in_words(None, 0.9) == ""


# -- by random images that nothing learned from ------------------------------------------------------------------------


def measured(asked: int, labels: int, rising: float = 0.9) -> dict[str, Any]:
    """The metrics of a cycle: on left-out labels it always has 60 %, on ``asked`` random ones it follows a law."""
    control = {"labels": 2 * asked, "n": asked, "accuracy": float(law(labels, rising, 3.0, 0.5)), "low": 0, "high": 1}
    return {"train_cv_accuracy": 0.6, "train_cv_labels": labels, "control": control}


def cycle_with(number: int, labels: int, metrics: dict[str, Any]) -> Cycle:
    return Cycle(number, 1, number, "margin", 0, "w", "done", "", 1, 1, labels, 0.0, 1.0, metrics, None)


def by_control(asked: list[int], labels: list[int]) -> dict[str, Any] | None:
    """By cycles with so many labels, of which so many random ones were kept out of training."""
    every = [cycle_with(n, count, measured(of, count)) for n, (of, count) in enumerate(zip(asked, labels, strict=True))]
    return prospects(every[-2::-1], every[-1].metrics, labels[-1], 0.0, None)


def test_where_enough_random_images_are_labeled_the_outlook_goes_by_them() -> None:
    found = by_control([200, 300, 400, 500], [400, 600, 800, 1000])
    assert found is not None and found["by"] == "control"
    assert found["twice"] == pytest.approx(3.0 * (1000**-0.5 - 2000**-0.5), abs=5e-3)
    assert in_words(found, 0.0).startswith("On random images, the next 50 labels are expected to add")


@pytest.mark.parametrize(
    ("asked", "labels", "why"),
    [
        ([200, 300, 400, ENOUGH_ASKED - 1], [400, 600, 800, 1000], "the last point is not sure enough"),
        ([FEWEST_ASKED - 1, 300, 400, 500], [400, 600, 800, 1000], "three points are too few"),
        ([200, 300, 400, 500], [600, 700, 800, 1000], "the last has less than twice the labels of the first"),
    ],
)
def test_until_then_it_goes_by_labels_that_were_left_out(asked: list[int], labels: list[int], why: str) -> None:
    found = by_control([5, *asked], [250, *labels])
    assert found is not None and found["by"] == "left-out labels", why
    assert found["twice"] == pytest.approx(0, abs=1e-6) and not found["rises"]  # that curve is flat


def test_masks_and_networks_that_say_nothing_have_no_point_of_random_images() -> None:
    assert control_point_of({"control": {"labels": 90, "n": 60, "mean_iou": 0.5}}, 500) is None
    assert control_point_of({"control": {"labels": 90, "n": 0}}, 500) is None
    assert control_point_of({}, 500) is None


def test_where_random_images_show_no_gain_it_does_not_blame_the_sampler() -> None:
    """Nor does the curve of left-out labels rise, and neither of the two tells anything."""
    flat = [cycle_with(n, count, measured(60, 10**9)) for n, count in enumerate((400, 600, 800))]
    found = prospects(flat[::-1], measured(60, 10**9), 1000, 0.0, None)
    assert found is not None and not found["rises"]
    assert in_words(found, 0.0).startswith("On random images the network has not become better")


def test_where_random_images_are_too_few_to_show_a_gain_left_out_labels_may() -> None:
    """From 400 to 1,000 labels the law gains 5.5 points: more than the error on 1,000 labels, less than that on 50."""
    every = [
        cycle_with(n, count, measured(50, count) | {"train_cv_accuracy": float(law(count, 0.9, 3.0, 0.5))})
        for n, count in enumerate((400, 600, 800, 1000))
    ]
    found = prospects(every[-2::-1], every[-1].metrics, 1000, 0.0, None)
    assert found is not None and found["rises"] and found["by"] == "left-out labels"
