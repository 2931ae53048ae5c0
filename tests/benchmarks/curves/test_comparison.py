"""The comparisons of the curves: tests, corrections and intervals, with values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backend.reporting.comparison import compared, holm, labels_saved, paired_interval, signed_rank_p, wins
from benchmarks.curves.plan import Plan
from benchmarks.curves.purchases import close_distance, effective_classes, share_of_copies, share_of_duplicates
from benchmarks.curves.store import Line
from benchmarks.curves.versus import at_of, candidate_losses, first_order_gains, sections

LABELS = [100, 200, 300, 400]
RANDOM = [0.5, 0.6, 0.7, 0.8]


def shifted(by: float) -> list[float]:
    return [value + by for value in RANDOM]


def test_ten_differences_of_one_sign_are_one_case_of_512() -> None:
    """Each of 2¹⁰ patterns of signs is as likely; the two most extreme are all + and all −."""
    differences = np.arange(1.0, 11.0)
    assert signed_rank_p(differences) == pytest.approx(2 / 1024)
    assert signed_rank_p(-differences) == pytest.approx(2 / 1024)


def test_the_largest_of_five_differences_against_the_others() -> None:
    """Ranks 1 to 4 against 5: of 32 subsets of the ranks 10 have a sum of at most 5, and p is twice that."""
    assert signed_rank_p(np.array([1.0, 2.0, 3.0, 4.0, -5.0])) == pytest.approx(20 / 32)
    assert signed_rank_p(np.zeros(5)) == 1.0


def test_holm_multiplies_the_smallest_most_and_never_falls() -> None:
    """0.01 · 3, 0.03 · 2, and 0.04 · 1, which is less than the one before it."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.7, "b": 0.6}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def test_wins_are_counted_by_trial_and_a_tie_is_half() -> None:
    """Areas of margin: 0.71, 0.6, 0.65; of random: 0.65 three times."""
    curves = {"random": dict.fromkeys((1, 2, 3), RANDOM), "margin": {1: shifted(0.06), 2: shifted(-0.05), 3: RANDOM}}
    names, table = wins(LABELS, curves)
    assert names == ["margin", "random"], "the larger mean area first"
    assert table[0, 1] == pytest.approx(0.5) and table[1, 0] == pytest.approx(0.5)
    assert math.isnan(table[0, 0])
    names, table = wins(LABELS, {**curves, "margin": {1: shifted(0.05), 2: RANDOM, 4: shifted(-1)}})
    assert names[0] == "random" and table[0, 1] == pytest.approx(0.25), "of common trials: one lost, one tie"
    assert table[1, 0] == pytest.approx(0.75)


def test_labels_that_are_saved_are_read_off_straight_lines() -> None:
    """0.1 more everywhere: random's 0.8 with 300 in place of 400. 0.05 more: half-way from 300 to 400."""
    randoms = np.array([RANDOM] * 6)
    reached, saved = labels_saved(LABELS, randoms + 0.1, randoms, 400)
    assert reached == pytest.approx(300) and (saved.value, saved.low, saved.high) == pytest.approx((0.25, 0.25, 0.25))
    reached, saved = labels_saved(LABELS, randoms + 0.05, randoms, 400)
    assert reached == pytest.approx(350) and saved.value == pytest.approx(0.125)
    reached, saved = labels_saved(LABELS, randoms - 0.1, randoms, 400)
    assert reached is None and (saved.value, saved.low, saved.high) == (0, 0, 0)
    assert labels_saved(LABELS, randoms + 0.1, randoms, 300)[0] == pytest.approx(200)


def test_the_interval_of_saved_labels_spans_what_trials_differ_in() -> None:
    """Half of the trials save a quarter and half save nothing: resamples of 10 lie between, the mean at an eighth."""
    ours = np.array([shifted(0.1)] * 5 + [RANDOM] * 5)
    _, saved = labels_saved(LABELS, ours, np.array([RANDOM] * 10), 400)
    assert saved.value == pytest.approx(0.125) and 0.0 < saved.low < 0.125 < saved.high < 0.25


def test_the_interval_of_a_mean_is_students() -> None:
    """1, 2, 3: mean 2, standard deviation 1, and 4.303 for two degrees of freedom."""
    found = paired_interval(np.array([1.0, 2.0, 3.0]))
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)


def many(trials: int = 10) -> dict[str, dict[int, list[float]]]:
    """margin is ahead of random in every trial, bald behind in every one, entropy either way."""
    ups = [0.01 * (1 + trial) for trial in range(trials)]
    return {
        "random": dict.fromkeys(range(trials), RANDOM),
        "margin": {trial: shifted(up) for trial, up in enumerate(ups)},
        "bald": {trial: shifted(-up) for trial, up in enumerate(ups)},
        "entropy": {trial: shifted(up * (-1) ** trial) for trial, up in enumerate(ups)},
    }


def test_random_is_beaten_only_by_the_corrected_test() -> None:
    found = {one.arm: one for one in compared(LABELS, many(), 400)}
    assert {arm: one.verdict for arm, one in found.items()} == {"margin": "+", "bald": "−", "entropy": "~"}
    assert found["margin"].corrected == pytest.approx(3 * 2 / 1024), "one of two smallest of three"
    assert found["margin"].gain.mean == pytest.approx(0.055)
    five = {one.arm: one.verdict for one in compared(LABELS, many(5), 400)}
    assert five == {"margin": "~", "bald": "~", "entropy": "~"}, "five trials cannot show it: p is 0.06 at best"
    assert compared(LABELS, many(4), 400) == [] and compared(LABELS, {"margin": many()["margin"]}, 400) == []


def test_labels_are_counted_at_400_where_curves_come_so_far() -> None:
    assert at_of([20, 50, 400, 600]) == 400 and at_of([20, 50, 100]) == 100


def test_the_first_order_is_compared_while_nothing_was_bought() -> None:
    plan = Plan("toy", "", initial=200, budget=100, cycles=3, early=(100,))
    curves = {"random": {1: RANDOM, 2: RANDOM}, "own+random": {1: shifted(0.1), 2: shifted(0.2)}}
    gains = first_order_gains(plan, curves)
    assert list(gains) == [100, 200], "two stages of first labels"
    own, chance, gain = gains[100]
    assert (own, chance, gain.value) == pytest.approx((0.65, 0.5, 0.15))


def test_the_page_shows_every_comparison() -> None:
    plan = Plan("toy", "", initial=200, budget=100, cycles=3, early=(100,), first="own")
    curves = {**many(), "own+random": many()["margin"]}
    lines: list[Line] = [
        {"sampler": "margin", "picked_classes": 4.0, "picked_error": 0.5, "pool_error": 0.2, "picked_duplicates": 0.1},
        {"sampler": "margin", "picked_classes": 6.0, "picked_error": 0.3, "pool_error": 0.1, "picked_duplicates": 0.1},
        {"sampler": "margin"},
    ]
    text = "\n".join(sections(plan, curves, lines, "accuracy"))
    assert "| margin | +5.5 [+3.3, +7.7] | 0.0020 | 0.0078 | + | 345 | 14 % [" in text, "0.8 with 400 − 55 labels"
    assert "| bald | −5.5 [" in text and "| − | never | 0 % [0, 0] |" in text
    assert "| 100 | 55.5 | 50.0 | +5.5 [+3.3, +7.7] |" in text, "the first order"
    assert "| margin | 5.0 | 40.0 | 15.0 | 10.0 |" in text, "what was bought"
    assert sections(plan, many(3), lines, "accuracy") == []


@pytest.mark.parametrize(
    ("labels", "effective"),
    [([0, 0, 1, 1], 2.0), ([3, 3, 3], 1.0), ([0, 1, 2, 3], 4.0), ([0, 0, 0, 1], 4 / 3**0.75)],
)
def test_effective_classes(labels: list[int], effective: float) -> None:
    """Shares ¾ and ¼: the entropy is ¾ ln 4/3 + ¼ ln 4 = ln (4 / 3^¾)."""
    assert effective_classes(np.array(labels)) == pytest.approx(effective)


def test_copies_count_once() -> None:
    """Rows 0 and 1 are copies of image 0, row 7 of image 1; row 12 is one of image 2, of which row 10 was labeled."""
    assert share_of_copies(np.array([0, 7, 1, 12]), np.array([10]), 5) == 0.5
    assert share_of_copies(np.array([0, 5, 10]), np.array([], dtype=int), 5) == 0.0


def at(*degrees: float) -> np.ndarray:
    """Points on a circle, of any length."""
    angles = np.radians(degrees)
    return 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_near_duplicates_are_of_what_was_labeled_before_or_picked_in_front() -> None:
    """One degree is a distance of 0.0175. 91° is near the label, 1° near the first pick, and 45° near nothing."""
    picks, before = at(0, 45, 91, 1), at(90)
    assert share_of_duplicates(picks, before, close=0.02) == 0.5
    assert share_of_duplicates(picks, before, close=0.01) == 0.0
    assert share_of_duplicates(picks[:1], before[:0], close=3.0) == 0.0, "nothing to be a duplicate of"


def test_what_is_close_depends_on_the_pool() -> None:
    """A point each degree: the nearest is 2 sin ½° away, from all of them."""
    assert close_distance(at(*range(360))) == pytest.approx(2 * np.sin(np.radians(0.5)), rel=1e-3)


def test_what_candidates_cost_is_paired_with_the_same_sampler_on_the_whole_pool() -> None:
    curves = {
        "random": dict.fromkeys(range(1, 7), RANDOM),
        "margin@whole": {trial: shifted(0.01 * trial) for trial in range(1, 7)},
        "margin@uncertainty": {trial: shifted(0.01 * trial - 0.02) for trial in range(1, 7)},
        "entropy@random": dict.fromkeys(range(1, 7), RANDOM),
    }
    losses = candidate_losses(LABELS, curves)
    assert list(losses) == ["margin@uncertainty"]
    loss, p = losses["margin@uncertainty"]
    assert (loss.value, loss.low, loss.high) == pytest.approx((-0.02, -0.02, -0.02))
    assert p == pytest.approx(2 / 2**6)
    page = "\n".join(sections(Plan("", "", 100, 100, 4), curves, [], "accuracy"))
    assert "| margin@uncertainty | −2.0 [−2.0, −2.0] |" in page
