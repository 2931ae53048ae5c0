"""Votes weighed by accuracies that are estimated from the same votes."""

from __future__ import annotations

import numpy as np
import pytest

from models.annotators.votes import SUREST, weighed_votes

ACCURACIES = (0.60, 0.75, 0.90)


def simulated(seed: int, items: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What is right (I,), and what three annotators say (I, 3), in the order in which they come to each item."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, items)
    wrong = (truth[:, None] + rng.integers(1, classes, (items, 3))) % classes
    return truth, np.where(rng.random((items, 3)) < ACCURACIES, truth[:, None], wrong)


def weighed(said: np.ndarray, classes: int, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    items, people = np.indices(said.shape)
    found = weighed_votes(items.ravel(), people.ravel(), said.ravel(), classes, known)
    return found.share.argmax(axis=1), found.accuracy


def majority(said: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The latest of the leading ones. ``order`` (I, 3): the annotators of each item, from the first to the latest."""
    votes = (said[:, :, None] == said[:, None, :]).sum(axis=2)
    rows = np.arange(len(said))
    ranked = np.take_along_axis(votes + 0.1 * np.argsort(order, axis=1), order, axis=1)
    return said[rows, order[rows, ranked.argmax(axis=1)]]


def test_weighed_votes_are_right_more_often_than_the_majority_and_that_than_the_latest() -> None:
    """Three annotators who are right 60, 75 and 90 % of the time, 300 images of 5 classes, 20 seeds: the latest is
    right 75 % of the time by construction, the majority is to be 10 points better, and weighed votes 2 more."""
    latest, most, weighty, accuracies = [], [], [], []
    for seed in range(20):
        truth, said = simulated(seed, 300, 5)
        order = np.argsort(np.random.default_rng(1000 + seed).random(said.shape), axis=1)
        latest.append((said[np.arange(300), order[:, -1]] == truth).mean())
        most.append((majority(said, order) == truth).mean())
        chosen, accuracy = weighed(said, 5)
        weighty.append((chosen == truth).mean())
        accuracies.append(accuracy)
    assert np.mean(latest) == pytest.approx(0.75, abs=0.02)
    assert np.mean(most) > np.mean(latest) + 0.10
    assert np.mean(weighty) > np.mean(most) + 0.02
    assert np.mean(accuracies, axis=0) == pytest.approx(ACCURACIES, abs=0.02)


def test_two_who_differ_settle_nothing() -> None:
    """Nothing tells who of two is right: both are equally accurate, and a tie stays a tie."""
    said = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])
    items, people = np.indices(said.shape)
    found = weighed_votes(items.ravel(), people.ravel(), said.ravel(), 2)
    assert found.accuracy[0] == pytest.approx(found.accuracy[1])
    assert found.share[2:] == pytest.approx(0.5)


def test_what_is_known_decides_and_tells_who_is_right() -> None:
    said = np.array([[0, 1]] * 20)
    known = np.full(20, -1)
    known[:10] = 1
    chosen, accuracy = weighed(said, 2, known)
    assert (chosen == 1).all(), "the second one was right ten times, so they are also in the other ten"
    assert accuracy[1] > 0.8 and accuracy[0] == 0.5, "nobody is worth less than chance"


def test_nobody_outweighs_everybody() -> None:
    _, accuracy = weighed(np.zeros((500, 3), dtype=np.int64), 4)
    assert (accuracy == SUREST).all()
