"""Chance-corrected agreement, against values worked out by hand or printed by its authors."""

from __future__ import annotations

import numpy as np
import pytest

from models.annotators.agreement import cohens_kappa, jaccard, krippendorffs_alpha

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve units; 0: none.
OBSERVED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)


def test_krippendorffs_alpha_is_what_he_prints() -> None:
    counts = np.stack([(value == OBSERVED).sum(axis=0) for value in range(1, 6)], axis=1)
    assert krippendorffs_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_one_below_zero_or_unknown() -> None:
    assert krippendorffs_alpha(np.array([[2, 0], [0, 2]])) == 1
    found = krippendorffs_alpha(np.array([[1, 1], [1, 1]]))
    assert found is not None and found < 0
    assert krippendorffs_alpha(np.array([[2, 0], [3, 0]])) is None, "all say the same"
    assert krippendorffs_alpha(np.array([[1, 0], [0, 1]])) is None, "nobody is compared with anybody"


def test_cohens_kappa_by_hand() -> None:
    """20 both yes, 15 both no, 5 and 10 different: 0.7 observed; 0.5 · 0.6 + 0.5 · 0.4 = 0.5 by chance."""
    first = np.array([1] * 25 + [0] * 25)
    second = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert cohens_kappa(first, second) == pytest.approx(0.4)
    assert cohens_kappa(first, first) == 1
    assert cohens_kappa(np.zeros(4, dtype=int), np.zeros(4, dtype=int)) is None


def test_jaccard_of_sets() -> None:
    assert jaccard({"cat", "dog"}, {"dog", "owl"}) == pytest.approx(1 / 3)
    assert (jaccard(set(), set()), jaccard({"cat"}, set())) == (1, 0)
