"""Whether the labels that a sampler chose teach more than labels drawn by chance: heads that learn from either, asked
about labels that they have not learned from.

The heads are those of `models.training.logistic`, under one penalty, so that nothing but the labels differs. Labels
that were drawn by chance come in two halves: a head that learns from one is asked about the other, and heads that learn
from chosen labels are asked about both. So every difference is of answers about the same images, and what is asked is a
random sample of the pool.

Axis letters: S chosen labels, in the order in which they were given; M labels of a half; L all of these, C classes,
F features, P heads, G sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from models.intervals import student_deviations
from models.training.logistic import Scale, in_own_directions, solved, usual_strength

FEWEST = 20
"""Labels of a half: with fewer, no difference that a sampler could make would show."""
MOST = 100
"""Labels of a half that are compared."""
MOST_CHOSEN = 600
"""Labels at most that were chosen: the first ones."""
RESAMPLED = 12
"""Halves of a half, which tell by how much a head differs with the labels that chance gave it."""
GROWTH, SMALLEST = 1.3, 5
"""How the sizes of the curve grow, and the first of them."""
MARGIN = 1.2
"""So many times as wide are the intervals: halves of a half tell too little of how heads differ. In simulated projects,
differences between random labels and other random labels spread 1.18 times as far as estimated without it."""


@dataclass(frozen=True)
class Comparison:
    """What `labels` chosen ones teach, and as many drawn by chance, by `asked` labels of a random sample.

    chosen, drawn: the share of right answers. difference: of these, with the ends of its 95 % interval. sizes, curve:
    the share of right answers after so many chosen labels. needed: after how many of them it is that of the drawn ones;
    with the ends of its interval; None where the labels so far do not reach that.
    """

    labels: int
    asked: int
    chosen: float
    drawn: float
    low: float
    high: float
    sizes: Sequence[int]
    curve: Sequence[float]
    needed: float | None
    needed_low: float | None
    needed_high: float | None

    @property
    def difference(self) -> float:
        return self.chosen - self.drawn


def compared(
    features: Sequence[Tensor], targets: Sequence[Tensor], exclusive: bool, rng: np.random.Generator
) -> Comparison | None:
    """The comparison of chosen labels with those of two halves drawn by chance; None where they are too few.

    features: (S, F), (M, F), (M', F) float32; targets: (S, C), (M, C), (M', C) float, rows of one 1 where classes are
    `exclusive`. Of halves that differ in size, as many labels of each are learned from as the smaller has.
    """
    labels = min(MOST, *(len(part) for part in features))
    if labels < FEWEST:
        return None
    kept = min(len(features[0]), MOST_CHOSEN)
    parts = [features[0][:kept], features[1], features[2]]
    answers = torch.cat([targets[0][:kept], targets[1], targets[2]])
    first, second = kept, kept + len(parts[1])
    count = second + len(parts[2])
    sizes = _sizes(labels, kept)
    learned = [np.arange(size) for size in sizes]
    starts = (first, second)
    learned += [start + np.arange(labels) for start in starts]
    for start in starts:
        learned += [start + rng.permutation(labels)[: labels // 2] for _ in range(RESAMPLED)]
    right = _right(torch.cat(parts), answers, learned, exclusive)
    in_first = np.arange(first, count) < second  # which of the labels that are asked are of the first half
    asked = right[:, first:]
    by_chosen, (of_first, of_second) = asked[: len(sizes)], asked[len(sizes) : len(sizes) + 2]
    by_drawn = np.where(in_first, of_second, of_first)  # each asked about the half that it did not learn from
    resampled = asked[len(sizes) + 2 :]
    spread = _spread(resampled[:RESAMPLED, ~in_first], resampled[RESAMPLED:, in_first])
    differences = by_chosen - by_drawn  # (G, asked)
    asked_count = differences.shape[1]
    own = differences.var(axis=1, ddof=1) / asked_count
    # Either head would be another one with other labels; a head of fewer labels more so. The two of the drawn ones
    # were drawn independently.
    training = spread * (labels / np.array(sizes) + 0.5)
    error = MARGIN * student_deviations(asked_count - 1) * np.sqrt(own + training)
    # more labels teach more, on average
    rising = isotonic_regression(differences.mean(axis=1), weights=sizes).x
    place = sizes.index(labels)
    middle = float(differences[place].mean())
    return Comparison(
        labels,
        asked_count,
        float(by_chosen[place].mean()),
        float(by_drawn.mean()),
        middle - float(error[place]),
        middle + float(error[place]),
        sizes,
        by_chosen.mean(axis=1).round(4).tolist(),
        _crossing(sizes, rising),
        _crossing(sizes, rising + error),
        _crossing(sizes, rising - error),
    )


def _sizes(labels: int, chosen: int) -> list[int]:
    """Ascending, from the smallest to all that were chosen, `labels` among them."""
    found = {labels, chosen}
    size = float(SMALLEST)
    while size < chosen:
        found.add(round(size))
        size *= GROWTH
    return sorted(found)


def _right(features: Tensor, targets: Tensor, learned: Sequence[np.ndarray], exclusive: bool) -> np.ndarray:
    """Of each head (P, L): 1 where it tells a label right, or the share of its choices that it does; `learned`: the
    rows that each learns from."""
    scale = Scale.of(features)
    rows, squares = in_own_directions(scale.standardized(features))
    masks = torch.zeros(len(learned), len(rows), dtype=torch.bool, device=rows.device)
    for mask, places in zip(masks, learned, strict=True):
        mask[torch.from_numpy(places)] = True
    strengths = torch.tensor([usual_strength(len(places)) for places in learned], device=rows.device)
    logits = solved(rows, squares, targets, masks, strengths, exclusive)
    if exclusive:
        right = (logits.argmax(dim=2) == targets.argmax(dim=1)).double()
    else:
        right = ((logits >= 0) == (targets > 0)).double().mean(dim=2)
    return right.cpu().numpy()


def _spread(*resampled: np.ndarray) -> float:
    """The variance of the share of right answers that comes of which labels a head learned from, from (R, asked)
    answers of heads of random halves of them: that of a half-sample is the variance of the whole (McCarthy, Review of
    the International Statistical Institute 37, 1969). What comes of the labels that are asked is taken off, as in an
    analysis of variance with two ways: it is counted with the differences."""
    found = []
    for part in resampled:
        own = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
        heads, asked = part.shape
        chance = (own**2).sum() / ((heads - 1) * (asked - 1)) / asked
        found.append(part.mean(axis=1).var(ddof=1) - chance)
    return max(0.0, float(np.mean(found)))


def _crossing(sizes: Sequence[int], values: np.ndarray) -> float | None:
    """At which size the values (G,) reach 0, between sizes by their logarithm; None if they do not."""
    above = np.flatnonzero(values >= 0)
    if not len(above):
        return None
    place = int(above[0])
    if place == 0:
        return float(sizes[0])
    share = float(-values[place - 1] / (values[place] - values[place - 1]))
    low, high = math.log(sizes[place - 1]), math.log(sizes[place])
    return math.exp(low + share * (high - low))
