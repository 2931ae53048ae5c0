"""How far annotators agree, beyond what chance would bring about.

Axis letters: N tasks that two people labeled, U tasks that two or more did, C classes.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np


def cohens_kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Cohen's kappa (1960, Educational and Psychological Measurement 20, pages 37 to 46) of the classes (N,) int64 that
    two people gave the same tasks: 1: always the same one; 0: as often as chance would have it. None where both always
    gave one and the same class: chance alone would do that."""
    classes = int(max(first.max(), second.max())) + 1
    shares = [np.bincount(one, minlength=classes) / len(one) for one in (first, second)]
    expected = float(shares[0] @ shares[1])
    return None if expected >= 1 else (float((first == second).mean()) - expected) / (1 - expected)


def krippendorffs_alpha(counts: np.ndarray) -> float | None:
    """Krippendorff's alpha for classes without an order (Hayes & Krippendorff, 2007, Communication Methods and Measures
    1, pages 77 to 89): 1 − observed / expected disagreement. Tasks may have any number of answers.

    counts: (U, C), how many people gave each task each class; those with fewer than two answers do not count. None
    where no task has two, or all answers are the same.
    """
    counts = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    each, of_class = counts.sum(axis=1), counts.sum(axis=0)
    answers = of_class.sum()
    expected = answers**2 - (of_class**2).sum()
    if not expected:
        return None
    observed = ((each**2 - (counts**2).sum(axis=1)) / (each - 1)).sum()
    return 1 - float(observed * (answers - 1) / expected)


def jaccard(first: Set[str], second: Set[str]) -> float:
    """What two sets have in common, as a share of what either has (Jaccard, 1912); 1 for two empty ones."""
    either = first | second
    return len(first & second) / len(either) if either else 1.0
