"""Which labeled tasks a cycle finds worth another annotation, more than unlabeled ones are worth a first. Read by
:mod:`backend.reporting.relabeling`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.tasks.votes import Answers, by_annotator
from models.annotators.relabeling import Crowd, scores, weights_of
from models.data import CycleData

FEWEST_SHARED = 10
"""Tasks that two people labeled: with fewer, nothing is known of how often annotators are right."""

PROPOSED_KEPT = 30


def relabeling_figures(
    learner: Learner,
    tasks: Sequence[int],
    data: CycleData,
    answers: Mapping[int, Answers],
    pool: ScoredPool,
    budget: int,
) -> dict[str, Any]:
    """For the metrics of the cycle, as JSON; nothing where no label was left out in turn, or one person labels alone.

    The next ``budget`` annotations go to the lowest of ActiveLab's scores, of labeled and unlabeled tasks together: the
    labeled ones among them are worth asking again. ``tasks`` (L,): those that ``data`` is of, on which the learner was
    trained. ``answers``: labeled task → those of its annotators.
    """
    judged, confidence = learner.net.judged, pool.confidence
    if judged is None or confidence is None or not len(confidence):
        return {}
    real = np.asarray(tasks) if data.synthetic is None else np.asarray(tasks)[~data.synthetic]
    said = {int(task): by_annotator(answers.get(int(task), ())) for task in real[judged.places]}
    if len({person for one in said.values() for person in one}) < 2:
        return {}
    shared = sum(len(one) > 1 for one in said.values())
    if shared < FEWEST_SHARED:
        return {"relabel": {"shared": shared, "needed": FEWEST_SHARED}}
    known = np.array([bool(one) for one in said.values()])
    chosen = real[judged.places][known]
    crowd = _crowd(
        [said[int(task)] for task in chosen], learner.classes, judged.given[known], judged.probabilities[known]
    )
    weights = weights_of(crowd)
    labeled, unlabeled = scores(crowd, weights, confidence)
    next_ones = np.argsort(np.concatenate([unlabeled, labeled]), kind="stable")[:budget]
    order = next_ones[next_ones >= len(unlabeled)] - len(unlabeled)
    proposed = [[int(chosen[i]), round(float(labeled[i]), 4), len(said[int(chosen[i])])] for i in order[:PROPOSED_KEPT]]
    found = {"shared": shared, "count": len(order), "of": budget, "best_new": round(float(unlabeled.min()), 4)}
    return {"relabel": found | {"proposed": proposed}}


def _crowd(
    said: Sequence[Mapping[int, str]], classes: Sequence[str], labels: np.ndarray, probabilities: np.ndarray
) -> Crowd:
    people: dict[int, int] = {}
    index = {name: place for place, name in enumerate(classes)}
    votes = [
        (item, people.setdefault(person, len(people)), index[one])
        for item, given in enumerate(said)
        for person, one in given.items()
    ]
    items, annotators, answers = np.array(votes, dtype=np.int64).T
    return Crowd(items, annotators, answers, labels, probabilities)
