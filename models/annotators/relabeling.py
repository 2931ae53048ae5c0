"""Which labeled images are worth another annotation more than unlabeled ones are worth a first.

ActiveLab (Goh & Mueller, 2023, arXiv 2301.11856), which builds on CROWDLAB (Goh, Tkachenko & Mueller, 2022, arXiv
2210.06812). The formulas are those of the authors' own implementation (cleanlab 2.9, ``get_active_learning_scores``),
except that the label is the one that the project trains with, and probabilities come calibrated.

Axis letters: V votes, L labeled images, U unlabeled ones, A annotators, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 1e-6
"""No voter has a smaller weight, and no error is smaller."""


@dataclass(frozen=True)
class Crowd:
    """Votes on labeled images. items, annotators, answers: (V,) int64, vote by vote, of which image (0 to L − 1), by
    whom (0 to A − 1), and for which class; at most one by each annotator of an image. labels: (L,) int64, what is taken
    for right. probabilities: (L, C), of a network that did not learn from these labels."""

    items: np.ndarray
    annotators: np.ndarray
    answers: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Weights:
    """How much each voter counts: annotators (A,), their mean, and the network. trust: how often an annotator says what
    is taken for right."""

    annotators: np.ndarray
    network: float
    trust: float

    @property
    def mean(self) -> float:
        return float(self.annotators.mean())


def weights_of(crowd: Crowd) -> Weights:
    """The weights of CROWDLAB: of each voter, by how much it errs less than whoever always says the most frequent class
    (w = 1 − error / error of that), measured on the images with more than one vote; the network's, times the root of
    the mean number of votes of an image."""
    people, count = int(crowd.annotators.max()) + 1, len(crowd.labels)
    votes = np.bincount(crowd.items, minlength=count)
    shared = votes > 1
    within = shared[crowd.items]
    items, annotators, answers = crowd.items[within], crowd.annotators[within], crowd.answers[within]
    table = np.zeros((count, crowd.probabilities.shape[1]))
    np.add.at(table, (items, answers), 1.0)
    others = votes[items] - 1
    same = table[items, answers] - 1
    compared = np.bincount(annotators, others, people)
    mean = same.sum() / others.sum()
    agreement = np.where(compared > 0, np.bincount(annotators, same, people) / np.maximum(compared, 1), mean)
    labels = crowd.labels[shared]
    usual = np.bincount(labels).argmax()
    chance = max(LEAST, 1 - float((labels == usual).mean()))
    right = float((crowd.probabilities[shared].argmax(axis=1) == labels).mean())
    network = max(LEAST, 1 - (1 - right) / chance) * np.sqrt(votes.mean())
    trust = float(((answers == crowd.labels[items]) / votes[items]).sum() / shared.sum())
    return Weights(np.maximum(LEAST, 1 - (1 - agreement) / chance), float(network), min(1 - LEAST, trust))


def scores(crowd: Crowd, weights: Weights, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ActiveLab's scores of the labeled images (L,) and of the unlabeled ones (U,), lower = ask sooner: how probable
    what is taken for right would be if one more annotator voted who says nothing (a vote of 1 / C). Many votes leave
    little for another one to change.

    confidence: (U,), the network's probability of the class that it predicts.
    """
    count, classes = crowd.probabilities.shape
    agrees = crowd.answers == crowd.labels[crowd.items]
    believed = np.where(agrees, weights.trust, (1 - weights.trust) / (classes - 1))
    own = weights.annotators[crowd.annotators]
    network = crowd.probabilities[np.arange(count), crowd.labels]
    said = weights.network * network + np.bincount(crowd.items, own * believed, count)
    total = weights.network + np.bincount(crowd.items, own, count)
    labeled = (said + weights.mean / classes) / (total + weights.mean)
    unlabeled = (weights.network * confidence + weights.mean / classes) / (weights.network + weights.mean)
    return labeled, unlabeled
