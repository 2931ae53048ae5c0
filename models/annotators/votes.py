"""Votes of several annotators, weighed by how often each is right.

Axis letters: V votes, I items, A annotators, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PRIOR_VOTES = 5.0
"""An annotator's accuracy is estimated as if they had given so many more votes, as often right as all together: few
votes tell little."""

SUREST = 0.995
"""No annotator is taken to be right more often: one vote would outweigh any number of others."""

ROUNDS, CLOSE = 200, 1e-6


@dataclass(frozen=True)
class WeighedVotes:
    """``accuracy`` (A,): how often each annotator is right, as estimated. ``share`` (I, C): how probable each class is
    of each item; rows sum to 1."""

    accuracy: np.ndarray
    share: np.ndarray


def weighed_votes(
    items: np.ndarray, annotators: np.ndarray, answers: np.ndarray, classes: int, known: np.ndarray | None = None
) -> WeighedVotes:
    """Accuracies of annotators and what is right, each estimated from the other in turn: Dawid & Skene (1979, Applied
    Statistics 28, pages 20 to 28), equations 2.3 and 2.5, with one accuracy for each annotator in place of a table of
    error rates, and with all classes equally probable beforehand, so that what decides are the votes.

    An annotator who is right with probability a votes for each wrong class with probability (1 − a) / (C − 1). Somebody
    who is right no more often than by chance has no weight, and nobody has a negative one.

    Args:
        items, annotators, answers: (V,) int64, vote by vote: which item it is of, 0 to I − 1, all of which have one;
            who gave it, 0 to A − 1; and for which class.
        classes: C, at least 2.
        known: (I,) int64: the class that is known to be right, -1 where none is.
    """
    count, people = int(items.max()) + 1, int(annotators.max()) + 1
    given = np.zeros((count, classes))
    np.add.at(given, (items, answers), 1.0)
    share = _settled(given / given.sum(axis=1, keepdims=True), known)
    votes = np.bincount(annotators, minlength=people)
    accuracy = np.full(people, np.nan)
    for _ in range(ROUNDS):
        right = share[items, answers]
        mean = right.mean()
        now = (np.bincount(annotators, right, people) + PRIOR_VOTES * mean) / (votes + PRIOR_VOTES)
        now = np.clip(now, 1 / classes, SUREST)
        if np.allclose(now, accuracy, atol=CLOSE, rtol=0):
            break
        accuracy = now
        weight = np.log(accuracy * (classes - 1) / (1 - accuracy))  # of the odds of a class, for a vote for it
        logits = np.zeros((count, classes))
        np.add.at(logits, (items, answers), weight[annotators])
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        share = _settled(odds / odds.sum(axis=1, keepdims=True), known)
    return WeighedVotes(accuracy, share)


def _settled(share: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """``share`` (I, C), all of it the known class's where one is."""
    if known is not None and (known >= 0).any():
        share[known >= 0] = 0.0
        share[known >= 0, known[known >= 0]] = 1.0
    return share
