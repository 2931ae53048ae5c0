"""The figures of the curves, worked out by hand, and what the page and the picture say."""

from __future__ import annotations

import math

import pytest

from backend.reporting.learning_curves import MeanStd, area_under_curve, labels_to_reach
from benchmarks.curves.plan import Plan, Run
from benchmarks.curves.plot import COLORS, OTHERS, panels, picture
from benchmarks.curves.report import Results, as_csv, page, sentences
from benchmarks.curves.stats import summaries
from benchmarks.curves.store import Line
from benchmarks.curves.tasks import TASKS, measure_of
from samplers import SAMPLER_NAMES

LABELS = [100, 200, 400]


def test_the_area_is_a_mean_accuracy() -> None:
    """(100 · 0.6 + 200 · 0.75) / 300 = 0.7; a flat curve is its height; one stage is itself."""
    assert area_under_curve(LABELS, [0.5, 0.7, 0.8]) == pytest.approx(0.7)
    assert area_under_curve(LABELS, [0.3, 0.3, 0.3]) == pytest.approx(0.3)
    assert area_under_curve([100], [0.4]) == 0.4


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.75, 300.0), (0.6, 150.0), (0.8, 400.0), (0.5, 100.0), (0.1, 100.0), (0.81, None)],
)
def test_labels_needed_are_read_off_the_straight_lines(target: float, expected: float | None) -> None:
    assert labels_to_reach(LABELS, [0.5, 0.7, 0.8], target) == pytest.approx(expected)


def test_the_first_crossing_counts_when_a_curve_falls_again() -> None:
    assert labels_to_reach(LABELS, [0.5, 0.7, 0.6], 0.6) == pytest.approx(150)


def test_mean_and_interval() -> None:
    """1, 2, 3: standard deviation 1; t(0.975, 2) = 4.303, so ± 4.303 / √3."""
    value = MeanStd.of([1.0, 2.0, 3.0])
    assert (value.mean, value.std, value.n) == (2.0, 1.0, 3)
    assert value.margin == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert math.isnan(MeanStd.of([1.0]).std) and math.isnan(MeanStd.of([1.0]).margin)
    # t(0.975, 20) = 2.086
    assert MeanStd.of([0.0, 2.0] * 10 + [1.0]).margin * math.sqrt(21) == pytest.approx(2.086, abs=2e-3)


CURVES = {
    "random": {1: [0.5, 0.6, 0.7], 2: [0.3, 0.4, 0.5]},
    "margin": {1: [0.5, 0.7, 0.8], 2: [0.3, 0.5, 0.6]},  # each area 1/12 better
    "vaal": {1: [0.5, 0.6, 0.7], 2: [0.3, 0.4, 0.3]},  # 0 and −1/15
    "bald": {1: [0.5, 0.6, 0.9], 2: [0.3, 0.4, 0.5]},  # 1/15 and 0: t(0.975, 1) = 12.7
}


def test_samplers_are_compared_with_random_in_the_same_trial() -> None:
    """Trials differ by 0.2, which the pairs take out."""
    rows = {row.sampler: row for row in summaries(LABELS, CURVES)}
    assert list(rows) == ["margin", "bald", "random", "vaal"], "by area"
    margin = rows["margin"]
    assert margin.gain is not None
    assert margin.gain.mean == pytest.approx(1 / 12) and margin.gain.std == pytest.approx(0.0, abs=1e-12)
    assert margin.area.std == pytest.approx(0.2 / math.sqrt(2))
    # means of margin: 0.4, 0.6, 0.7; random's end at 0.6
    assert margin.labels_to_random == pytest.approx(200) and rows["vaal"].labels_to_random is None
    assert {name: row.verdict for name, row in rows.items()} == {
        "margin": "ahead",
        "bald": "noise",
        "random": "baseline",
        "vaal": "behind",
    }


def test_only_common_trials_are_paired() -> None:
    rows = {row.sampler: row for row in summaries(LABELS, {**CURVES, "ads": {2: [0.4, 0.5, 0.6], 3: [1, 1, 1]}})}
    assert rows["ads"].gain is not None and rows["ads"].gain.n == 1
    assert rows["ads"].gain.mean == pytest.approx(0.1) and rows["ads"].verdict == "noise", "one trial tells nothing"
    lonely = {row.sampler: row for row in summaries(LABELS, {"ads": {1: [0.4, 0.5, 0.6]}})}
    assert lonely["ads"].gain is None and lonely["ads"].verdict == "unknown"


def lines(curves: dict[str, dict[int, list[float]]]) -> list[Line]:
    return [
        {"sampler": name, "trial": trial, "cycle": cycle + 1, "labels": LABELS[cycle], "accuracy": value}
        | {"train_seconds": 1.0, "fit_seconds": 0.5, "epochs": 3, "peak_rss_mib": 600.0, "peak_cuda_mib": 0.0}
        | ({"score_seconds": 4.0 + cycle} if cycle < 2 else {})
        | {"code": "abc"}
        for name, trials in curves.items()
        for trial, curve in trials.items()
        for cycle, value in enumerate(curve)
    ]


def test_the_page_says_who_did_not_beat_random() -> None:
    """At 100, 200 and 300 labels margin's areas are 0.675 and 0.475, random's 0.6 and 0.4."""
    unfinished = {**CURVES, "sraal": {1: [0.2, 0.3]}}
    results = Results(Plan("toy", "", 100, 100, 3), lines(unfinished), {Run("sraal", 1): "OSError: no disk"})
    text = page(results, "python -m …", "made up", {"date": "today"})
    assert "by more than the noise: margin." in text and "within the noise: bald." in text
    assert "mean paired difference not above 0): vaal." in text
    assert "| margin | 57.50 ± 14.14 | +7.50 ± 0.00 | + | 70.00 ± 14.14 | 200 | 1.0 | 0.5 | 4.5 | 600 MiB |" in text
    assert "| **random** | 50.00 ± 14.14 |  |  | 60.00 ± 14.14 | 300 |" in text and "not reached" in text
    assert "- sraal, trial 1: OSError: no disk" in text and "| sraal" not in text, "what is not finished has no area"


def test_segmentation_is_reported_in_mean_iou_alongside_pixel_accuracy() -> None:
    """margin's last mean IoU are 0.8 and 0.6, and 0.9 and 0.7 of its pixels are right."""
    found = [
        {**line, "miou": line.pop("accuracy"), "pixel_accuracy": 0.9}
        | ({"pixel_accuracy": 0.9 if line["trial"] == 1 else 0.7} if line["cycle"] == 3 else {})
        for line in lines(CURVES)
    ]
    plan = Plan("toy", "", 100, 100, 3, task="segmentation")
    text = page(Results(plan, found, {}), "python -m …", "made up", {})
    assert "| final mean IoU, % | final pixel accuracy, % | labels for random's final |" in text
    assert "| margin | 57.50 ± 14.14 | +7.50 ± 0.00 | + | 70.00 ± 14.14 | 80.00 ± 14.14 | 200 | 1.0 |" in text
    assert "![Mean IoU over labels" in text and "trapezoids under mean IoU" in text and "accuracy over" not in text
    rows = as_csv(found, measure_of(plan)).splitlines()
    assert rows[0].startswith("sampler,trial,cycle,labels,miou,pixel_accuracy,train_seconds,")
    assert rows[1].startswith("random,1,1,100,0.5,0.9,1.0,")


def test_nothing_is_claimed_without_random() -> None:
    assert "nothing can be said" in sentences(summaries(LABELS, {"vaal": CURVES["vaal"]}))[0]


def test_the_csv_is_tidy() -> None:
    rows = [row.split(",") for row in as_csv(lines(CURVES), TASKS["classification"].measure).splitlines()]
    assert rows[0][3:6] == ["labels", "accuracy", "train_seconds"] and len(rows) == 1 + 4 * 2 * 3
    assert {len(row) for row in rows} == {12}


def test_every_sampler_has_one_panel() -> None:
    shown = [name for names in panels([*SAMPLER_NAMES, "mine"]).values() for name in names]
    assert sorted(shown) == sorted({*SAMPLER_NAMES, "mine"} - {"random"})
    assert panels([*SAMPLER_NAMES, "mine"])[OTHERS] == ["mine"] and OTHERS not in panels(SAMPLER_NAMES)
    assert max(len(names) for names in panels(SAMPLER_NAMES).values()) <= len(COLORS), "as many as can be told apart"


def test_the_picture_is_drawn_for_all_and_for_random_alone() -> None:
    everything = {name: {1: [0.5, 0.6, 0.7], 2: [0.4, 0.6, 0.8]} for name in SAMPLER_NAMES}
    for curves in (everything, {"random": {1: [0.5, 0.6, 0.7]}}):
        assert picture("toy", LABELS, curves).startswith(b"\x89PNG")
