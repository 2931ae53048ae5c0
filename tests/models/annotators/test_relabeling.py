"""ActiveLab's scores, against its authors' implementation and what they are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.annotators.relabeling import Crowd, scores, weights_of

NO = -1
SAID = np.array([[0, 0, NO], [1, 1, 1], [0, 1, NO], [NO, 2, 2], [2, NO, NO], [NO, 1, 0], [0, 0, 0], [NO, NO, 2]])
LABELS = np.array([0, 1, 0, 2, 2, 1, 0, 2])
PROBABILITIES = np.array(
    [
        *([0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]),
        *([0.2, 0.2, 0.6], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4]),
    ]
)
CONFIDENCE = np.array([0.4, 0.9, 0.6])


def crowd(said: np.ndarray = SAID) -> Crowd:
    items, people = np.nonzero(said != NO)
    return Crowd(items, people, said[items, people], LABELS, PROBABILITIES)


def test_scores_and_weights_are_those_of_cleanlab() -> None:
    """cleanlab 2.9.0, ``get_active_learning_scores`` of the same table, without its scaling of the probabilities, and
    with the same consensus labels."""
    weights = weights_of(crowd())
    assert weights.network == pytest.approx(2**0.5)
    assert weights.annotators == pytest.approx([2 / 3, 1 / 2, 2 / 3])
    labeled, unlabeled = scores(crowd(), weights, CONFIDENCE)
    expected = [0.722839, 0.705279, 0.472443, 0.678534, 0.597248, 0.433282, 0.77858, 0.49218]
    assert labeled == pytest.approx(expected, abs=1e-6)
    assert unlabeled == pytest.approx([0.379884, 0.729017, 0.519537], abs=1e-6)


def test_those_who_differ_are_asked_before_those_who_agree_and_another_vote_helps() -> None:
    labeled, _ = scores(crowd(), weights_of(crowd()), CONFIDENCE)
    assert set(np.argsort(labeled)[:2].tolist()) == {2, 5}
    more = SAID.copy()
    more[4, 1:] = 2
    again, _ = scores(crowd(more), weights_of(crowd()), CONFIDENCE)
    assert again[4] > labeled[4]


def test_somebody_who_is_never_compared_counts_as_much_as_others() -> None:
    alone = np.concatenate([SAID, np.full((8, 1), NO)], axis=1)
    alone[4, 0], alone[4, 3] = NO, 2
    found = weights_of(crowd(alone))
    assert found.annotators[3] == pytest.approx(found.annotators[:3].mean(), abs=0.1)


def test_weights_stay_above_zero_where_all_labels_are_one_class_and_the_network_errs() -> None:
    one = replace(crowd(np.where(SAID == NO, NO, 0)), labels=np.zeros(8, dtype=np.int64))
    labeled, unlabeled = scores(one, weights_of(one), CONFIDENCE)
    assert np.isfinite(labeled).all() and np.isfinite(unlabeled).all()
