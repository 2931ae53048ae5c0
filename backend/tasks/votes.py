"""The answers of several annotators to one task, and what to take for right where their votes are weighed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backend.tasks.label_config import Annotation
from models.annotators.votes import weighed_votes

NOBODY = 0
"""Stands for annotators whose account Label Studio does not name."""

TIE = 1e-9


class Answer(NamedTuple):
    """What an annotation says: its id, the id of who gave it (None: not known), what it says in the form in which the
    state keeps it, and whether it is marked as ground truth."""

    annotation: int
    annotator: int | None
    said: Any
    truth: bool


Answers = Sequence[Answer]
"""Of one task, in the order in which they were given."""


def answers_from(stored: Iterable[Sequence[Any]] | None) -> list[Answer]:
    """As the state keeps them: see :class:`backend.state.labels.StoredLabel`."""
    return [Answer(*one) for one in stored or ()]


def annotator_of(annotation: Annotation) -> int | None:
    """The id of who gave an annotation; None where Label Studio does not say."""
    who = annotation.get("completed_by")
    who = who.get("id") if isinstance(who, Mapping) else who
    return who if isinstance(who, int) and not isinstance(who, bool) else None


def by_annotator(answers: Answers) -> dict[int, Any]:
    """Annotator → what they said last. Without answers of which it is not known who gave them."""
    return {one.annotator: one.said for one in answers if one.annotator is not None}


def _one_of_each(answers: Answers) -> list[Answer]:
    """The last answer of each annotator, in their order, and all of which it is not known who gave them."""
    last = {one.annotator: one.annotation for one in answers if one.annotator is not None}
    return [one for one in answers if one.annotator is None or last[one.annotator] == one.annotation]


def weighed_classes(answers: Mapping[int, Answers], classes: Collection[str]) -> dict[int, str]:
    """Task → its class by the votes on all of the tasks, each weighed by how often its annotator is right; in a tie,
    of those that lead, the one given last. A ground truth decides, and tells how often annotators are right."""
    index = {name: place for place, name in enumerate(classes)}
    tasks = [task for task, given in answers.items() if given]
    if not tasks:
        return {}
    votes = [[(0, index[one.said], one) for one in _one_of_each(answers[task])] for task in tasks]
    share = _share(votes, 1, len(index))[:, 0]
    names = list(index)
    found = {}
    for task, row in zip(tasks, share, strict=True):
        leading = {names[place] for place in np.flatnonzero(row >= row.max() - TIE)}
        found[task] = next((one.said for one in reversed(answers[task]) if one.said in leading), min(leading))
    return found


def weighed_sets(answers: Mapping[int, Answers], classes: Collection[str]) -> dict[int, list[str]]:
    """The same of sets of classes: each class of each task is a question of its own, to which an annotation says yes or
    no, and an annotator is as often right about one class as about another. In a tie, the latest one decides."""
    names = list(classes)
    tasks = [task for task, given in answers.items() if given]
    if not tasks:
        return {}
    votes = [
        [(place, int(name in one.said), one) for one in _one_of_each(answers[task]) for place, name in enumerate(names)]
        for task in tasks
    ]
    share = _share(votes, len(names), 2)[:, :, 1]
    found = {}
    for task, row in zip(tasks, share, strict=True):
        latest = answers[task][-1].said
        yes = [p > 0.5 + TIE or (p >= 0.5 - TIE and name in latest) for name, p in zip(names, row, strict=True)]
        found[task] = sorted(name for name, is_there in zip(names, yes, strict=True) if is_there)
    return found


def _share(votes: Sequence[Sequence[tuple[int, int, Answer]]], questions: int, classes: int) -> np.ndarray:
    """How probable each class is of each question of each task, (tasks, questions, classes). ``votes``: task by task,
    (question, class, answer) each."""
    people: dict[int, int] = {}
    rows = []
    known = np.full(len(votes) * questions, -1)
    for task, given in enumerate(votes):
        for question, said, one in given:
            item = task * questions + question
            rows.append((item, people.setdefault(one.annotator or NOBODY, len(people)), said))
            if one.truth:
                known[item] = said  # the latest of them
    items, annotators, answers = np.array(rows, dtype=np.int64).T
    return weighed_votes(items, annotators, answers, classes, known).share.reshape(len(votes), questions, classes)
