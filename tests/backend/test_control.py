"""The control arm: who belongs to it, whose labels count, and in which order tasks are served."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.control import Arm, first_annotations, history_after, interleaved

KEY = "7.2024-05-06T07:08:09Z"
TASKS = np.arange(1, 20_001, dtype=np.int64)
ALWAYS = [[0.0, 0.1]]


def arm(fraction: float = 0.1, history: list[list[float]] | None = None, key: str = KEY) -> Arm:
    return Arm(key, fraction, ALWAYS if history is None else history)


def test_the_places_are_uniform_and_half_of_the_arm_measures() -> None:
    """Kolmogorov's statistic of 20,000 uniform draws is above 0.0138 one time in a thousand."""
    places = np.sort(arm().places(TASKS))
    distance = np.abs(places - (np.arange(len(places)) + 0.5) / len(places)).max()
    assert distance < 0.0138
    drawn = arm().of(TASKS)
    assert abs(len(drawn) - 2_000) < 4 * np.sqrt(20_000 * 0.1 * 0.9)
    assert abs(arm().measures(drawn).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(drawn))


def test_tasks_with_neighboring_numbers_are_drawn_independently() -> None:
    """Data are often imported class by class: what follows another in the arm must not follow a pattern of numbers."""
    inside = (arm(0.5).places(TASKS) < 0.5).astype(float)
    for step in (1, 2, 3, 7, 10, 64, 1_000):
        assert abs(np.corrcoef(inside[:-step], inside[step:])[0, 1]) < 4 / np.sqrt(len(TASKS) - step), step


def test_projects_draw_independently() -> None:
    here, there = arm().places(TASKS), arm(key="8.2024-05-06T07:08:09Z").places(TASKS)
    assert abs(np.corrcoef(here, there)[0, 1]) < 4 / np.sqrt(len(TASKS))


def test_a_smaller_fraction_is_the_beginning_of_a_larger_one() -> None:
    small, large = arm(0.05).of(TASKS), arm(0.2).of(TASKS)
    assert small.tolist() == large[: len(small)].tolist()


def test_without_a_fraction_nothing_is_drawn_and_nothing_is_kept_out() -> None:
    off = arm(0.0)
    assert not len(off.of(TASKS))
    assert not len(off.drawn({int(task): 1 for task in TASKS}))


@given(
    here=st.sets(st.integers(1, 2_000), max_size=200),
    late=st.sets(st.integers(2_001, 4_000), max_size=200),
    gone=st.sets(st.integers(1, 4_000), max_size=200),
)
def test_late_and_deleted_tasks_change_nothing_for_the_others(here: set[int], late: set[int], gone: set[int]) -> None:
    before, after = (arm(0.3).of(np.array(sorted(tasks), dtype=np.int64)) for tasks in (here, (here | late) - gone))
    assert [task for task in after.tolist() if task in here] == [task for task in before.tolist() if task not in gone]


@given(served=st.integers(0, 400), late=st.integers(0, 400), more=st.integers(0, 400))
def test_whenever_tasks_are_imported_the_labeled_ones_are_those_below_one_place(
    served: int, late: int, more: int
) -> None:
    """So they are as good as drawn at random from all of the pool, and not from what was there first: once the arm is
    served as far as it was before the import, no place is favored."""
    one = arm(0.5)
    first = np.arange(1, 1_001, dtype=np.int64)
    everything = np.arange(1, 1_001 + late, dtype=np.int64)
    labeled = one.of(first)[:served].tolist()
    waiting = [task for task in one.of(everything).tolist() if task not in labeled]
    labeled += waiting[:more]
    unlabeled = waiting[more:]
    if labeled and unlabeled and more >= late:
        highest = one.places(np.array(labeled)).max()
        assert one.places(np.array(unlabeled)).min() > highest


@given(
    chosen=st.integers(0, 300),
    drawn=st.integers(0, 300),
    fraction=st.floats(0.01, 0.5),
)
def test_every_beginning_of_an_order_has_the_fraction_until_one_side_is_used_up(
    chosen: int, drawn: int, fraction: float
) -> None:
    order = interleaved(list(range(chosen)), list(range(1_000, 1_000 + drawn)), fraction)
    assert sorted(order) == [*range(chosen), *range(1_000, 1_000 + drawn)]
    of_arm = [task for task in order if task >= 1_000]
    assert of_arm == sorted(of_arm)
    assert [task for task in order if task < 1_000] == list(range(chosen))
    for count in range(1, len(order) + 1):
        taken = sum(task >= 1_000 for task in order[:count])
        if taken < drawn and count - taken < chosen:
            assert taken == int(count * fraction + 1e-9)


def test_every_tenth_place_is_drawn_and_the_first_is_not() -> None:
    order = interleaved([f"c{n}" for n in range(20)], ["d0", "d1", "d2"], 0.1)  # type: ignore[type-var]
    assert [place for place, task in enumerate(order, 1) if str(task).startswith("d")] == [10, 20, 23]


def test_labels_that_the_sampler_chose_before_the_arm_began_do_not_count() -> None:
    """An installation of before: its first 500 annotations were given in the sampler's order alone."""
    first = {int(task): number for number, task in enumerate(TASKS[:1_000], 1)}
    counted = arm(0.1, [[500.0, 0.1]]).drawn(first)
    belong = arm().of(TASKS[:1_000]).tolist()
    assert set(counted.tolist()) == {task for task in belong if first[task] > 500}
    assert len(counted)


def test_labels_count_by_the_fraction_they_were_given_under() -> None:
    """Raised from 0.1 to 0.3 after annotation 500: what was between the two was the sampler's to choose before."""
    first = {int(task): number for number, task in enumerate(TASKS[:1_000], 1)}
    one = arm(0.3, [[0.0, 0.1], [500.0, 0.3]])
    counted = set(one.drawn(first).tolist())
    for task, place in zip(TASKS[:1_000].tolist(), one.places(TASKS[:1_000]), strict=True):
        assert (task in counted) == (place < (0.1 if first[task] <= 500 else 0.3)), task


def test_a_label_that_is_corrected_or_given_by_more_annotators_stays_what_it_was() -> None:
    """The first annotation says when the task was served."""
    told = [(5, [[40, "later"], [12, "then"]]), (6, [[30, "then"]]), (7, [])]
    assert first_annotations(told) == {5: 12, 6: 30}
    again = [(5, [[41, "again"], [12, "corrected"]]), (6, [[30, "corrected"]])]
    assert first_annotations(again) == {5: 12, 6: 30}


def test_an_arm_begins_once_an_order_with_it_is_in_use() -> None:
    assert history_after([], 0.1, 120) == [[120.0, 0.1]]
    assert history_after([[120.0, 0.1]], 0.1, 400) == [[120.0, 0.1]]
    assert history_after([[120.0, 0.1]], 0.2, 400) == [[120.0, 0.1], [400.0, 0.2]]


def test_after_a_time_without_an_arm_everything_begins_anew() -> None:
    """What was kept out of training has been learned from in the meantime."""
    assert history_after([[120.0, 0.1]], 0.0, 400) == []
    assert history_after([], 0.1, 700) == [[700.0, 0.1]]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_first_label_of_any_project_is_one_to_learn_from(fraction: float) -> None:
    for count in range(1, 60):
        tasks = TASKS[:count]
        drawn = arm(fraction).of(tasks).tolist()
        rest = [task for task in tasks.tolist() if task not in drawn]
        if rest:
            assert interleaved(rest, drawn, fraction)[0] in rest
