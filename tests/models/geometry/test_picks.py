"""Picks are found again by their number and their features."""

from __future__ import annotations

import numpy as np

from models.geometry.picks import Picks

ROWS = np.array([7, 2, 5])
FEATURES = np.eye(3, dtype=np.float32)


def test_picks_have_the_places_in_which_they_were_picked() -> None:
    picks = Picks.of(ROWS, FEATURES)
    rows = np.array([1, 2, 3, 5, 7])
    assert picks.candidates(rows).tolist() == [1, 3, 4]
    assert picks.places(rows[[1, 3, 4]], FEATURES[[1, 2, 0]]).tolist() == [1, 2, 0]


def test_another_image_of_the_same_number_is_no_pick() -> None:
    picks = Picks.of(ROWS, FEATURES)
    moved = FEATURES[[1, 0]] + np.array([[0.04, 0.0, 0.0], [0.06, 0.0, 0.0]], dtype=np.float32)
    assert picks.places(np.array([2, 7]), moved).tolist() == [1, -1]
    assert picks.places(np.array([2]), np.ones((1, 4), dtype=np.float32)).tolist() == [-1], "of another network"


def test_no_picks_are_found_nowhere() -> None:
    picks = Picks.of(np.empty(0, dtype=np.int64), np.empty((0, 3)))
    assert picks.candidates(ROWS).tolist() == []
