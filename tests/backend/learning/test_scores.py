"""Published scores: direction, range, strictness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BackendError
from backend.learning.scores import joining_priority_scores, priority_scores

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(st.lists(finite, min_size=1, max_size=200))
def test_every_score_is_different_in_range_and_falls_as_the_acquisition_rises(values: list[float]) -> None:
    acquisition = np.array(values)
    published = priority_scores(acquisition, seed=0)
    assert (published > 0).all() and (published <= 1).all()
    assert len(np.unique(published)) == len(values)
    by_acquisition = acquisition[np.argsort(published)]
    assert (np.diff(by_acquisition) <= 0).all()


def test_values_by_hand() -> None:
    # 1 / (1 + exp(a)): a = 0 -> 1/2, a = ln 3 -> 1/4, a = -ln 3 -> 3/4
    published = priority_scores(np.array([0.0, np.log(3.0), -np.log(3.0)]), seed=0)
    np.testing.assert_allclose(published, [0.5, 0.25, 0.75], rtol=1e-14)


def test_plain_softmax_confidence_at_zero_covariance() -> None:
    # EPMCM's bound at zero covariance is 1/p - 1, so log(bound) must publish p.
    p = np.array([0.9, 0.35, 0.999])
    np.testing.assert_allclose(priority_scores(np.log(1 / p - 1), seed=0), p, rtol=1e-12)


def test_underflow_and_saturation_keep_the_order() -> None:
    acquisition = np.array([2000.0, 1999.0, 1e308, -50.0, -51.0, -1e308])
    published = priority_scores(acquisition, seed=0)
    assert np.argsort(published).tolist() == [2, 0, 1, 3, 4, 5]


def test_ties_are_broken_by_the_seed_and_by_nothing_else() -> None:
    acquisition = np.zeros(1000)
    first, again, other = (priority_scores(acquisition, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (np.argsort(first) != np.argsort(other)).any()
    assert abs(np.corrcoef(np.argsort(np.argsort(first)), np.arange(1000))[0, 1]) < 0.15  # not the tasks' age


def test_not_finite_is_an_error() -> None:
    with pytest.raises(BackendError, match="1 of 3"):
        priority_scores(np.array([0.0, np.nan, 1.0]), seed=0)


def test_joining_scores_keep_off_taken_ones() -> None:
    taken = priority_scores(np.array([0.0, 1.0, -1.0]), seed=0)
    joined = joining_priority_scores(np.array([0.0, 1.0, 5.0]), taken, seed=0)
    assert len(np.unique(np.concatenate([taken, joined]))) == 6
    np.testing.assert_allclose(joined, 1 / (1 + np.exp([0.0, 1.0, 5.0])), rtol=1e-12)
