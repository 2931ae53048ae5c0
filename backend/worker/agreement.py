"""How far annotators agree, figured from all annotations of one comparison. Read by :mod:`backend.reporting.agreement`.

Only tasks that two people labeled or more tell anything. Of each annotator the last answer to a task counts, and those
of which Label Studio does not say who gave them count for none. Generated images are left out: they have no answers.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from backend.errors import BackendError
from backend.state import StoredLabel
from backend.tasks.base import AnyTaskKind
from backend.tasks.votes import answers_from, by_annotator
from backend.worker.job import Job
from models.annotators.agreement import cohens_kappa, jaccard, krippendorffs_alpha
from models.intervals import exact_interval

log = logging.getLogger(__name__)

ANNOTATORS_KEPT, PAIRS_KEPT, DISAGREEMENTS_KEPT = 20, 45, 30
"""Those with the most shared tasks, and the tasks that were annotated last."""

Said = Mapping[int, Mapping[int, Any]]
"""Task → annotator → what they said."""


def keep_agreement(job: Job, kind: AnyTaskKind, stored: Sequence[StoredLabel], *, fresh: bool) -> None:
    """Figure it, and keep it in the state. ``fresh``: ask for the names of annotators again; else only for new ones."""
    shared = shared_answers(stored)
    if not kind.compares or not shared:
        job.state.team.keep_agreement(job.project.id, job.owner, None)
        return
    before = job.state.team.agreement(job.project.id) or {}
    figures = agreement_figures(shared, kind.compares)
    people = {person for said in shared.values() for person in said}
    known = {int(number): str(name) for number, name in before.get("names", {}).items()}
    names = _names(job, known) if fresh or people - known.keys() else known
    figures["names"] = {str(person): names.get(person, "") for person in sorted(people)}
    job.state.team.keep_agreement(job.project.id, job.owner, figures)


def shared_answers(stored: Sequence[StoredLabel]) -> dict[int, dict[int, Any]]:
    """The tasks that two people labeled or more, in the order in which they were annotated last."""
    found: list[tuple[int, int, dict[int, Any]]] = []
    for one in stored:
        if len(one.answers or ()) < 2:
            continue
        answers = answers_from(one.answers)
        said = by_annotator(answers)
        if len(said) > 1:
            found.append((max(answer.annotation for answer in answers), one.task_id, said))
    return {task: said for _, task, said in sorted(found, key=lambda one: one[:2])}


def agreement_figures(shared: Said, compares: str) -> dict[str, Any]:
    """Of one task or more that several people labeled, as JSON. ``compares``: see
    :class:`backend.tasks.base.TaskKind`."""
    sets = compares == "sets"
    alike = _overlap if sets else _same
    values = [_mean([alike(a, b) for a, b in combinations(said.values(), 2)]) for said in shared.values()]
    differ = [task for task, said in shared.items() if any(a != b for a, b in combinations(said.values(), 2))]
    everyone = [float(not any(a != b for a, b in combinations(said.values(), 2))) for said in shared.values()]
    return {
        "compares": compares,
        **_share(values if sets else everyone, exact=not sets),
        "alpha": None if sets else _rounded(krippendorffs_alpha(_counts(shared))),
        "annotators": _annotators(shared, alike, exact=not sets),
        "pairs": _pairs(shared, alike, exact=not sets),
        "disagreements": len(differ),
        "disagreed": [
            [task, [[p, said] for p, said in shared[task].items()]] for task in differ[: -DISAGREEMENTS_KEPT - 1 : -1]
        ],
    }


def _annotators(shared: Said, alike: Callable[[Any, Any], float], *, exact: bool) -> list[dict[str, Any]]:
    """Each annotator against what most others say of the same task, of the classes that lead the one that was given
    last; for sets, against each of the others."""
    values: dict[int, list[float]] = defaultdict(list)
    for said in shared.values():
        for person, own in said.items():
            others = [other for one, other in said.items() if one != person]
            values[person].append(alike(own, _leading(others)) if exact else _mean([alike(own, one) for one in others]))
    most = sorted(values, key=lambda person: (-len(values[person]), person))[:ANNOTATORS_KEPT]
    return [{"id": person, **_share(values[person], exact=exact)} for person in most]


def _pairs(shared: Said, alike: Callable[[Any, Any], float], *, exact: bool) -> list[dict[str, Any]]:
    both: dict[tuple[int, int], list[tuple[Any, Any]]] = defaultdict(list)
    for said in shared.values():
        for one, other in combinations(sorted(said), 2):
            both[one, other].append((said[one], said[other]))
    found = []
    for pair in sorted(both, key=lambda pair: (-len(both[pair]), pair))[:PAIRS_KEPT]:
        kappa = _rounded(_kappa(both[pair])) if exact else None
        values = [alike(one, other) for one, other in both[pair]]
        found.append({"ids": list(pair), **_share(values, exact=exact), "kappa": kappa})
    return found


def _kappa(answers: Sequence[tuple[str, str]]) -> float | None:
    index: dict[str, int] = {}
    places = np.array([[index.setdefault(said, len(index)) for said in pair] for pair in answers], dtype=np.int64)
    return cohens_kappa(places[:, 0], places[:, 1])


def _counts(shared: Said) -> np.ndarray:
    """(tasks, classes): how many people gave each task each class."""
    index: dict[str, int] = {}
    cells = [
        (place, index.setdefault(one, len(index)))
        for place, said in enumerate(shared.values())
        for one in said.values()
    ]
    counts = np.zeros((len(shared), len(index)))
    np.add.at(counts, tuple(np.array(cells).T), 1)
    return counts


def _share(values: Sequence[float], *, exact: bool) -> dict[str, Any]:
    """The mean of ``n`` values, and, where each is 0 or 1, the ends of its exact interval."""
    low, high = exact_interval(round(sum(values)), len(values)) if exact else (None, None)
    return {"n": len(values), "value": _rounded(_mean(values)), "low": _rounded(low), "high": _rounded(high)}


def _leading(said: Sequence[str]) -> str:
    votes = Counter(said)
    return next(one for one in reversed(said) if votes[one] == max(votes.values()))


def _same(one: Any, other: Any) -> float:
    return float(one == other)


def _overlap(one: Any, other: Any) -> float:
    return jaccard(frozenset(one), frozenset(other))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _names(job: Job, known: Mapping[int, str]) -> Mapping[int, str]:
    """Annotator → the name that Label Studio gives them; those ``known`` where it does not say."""
    try:
        return {**known, **job.gateway.team.names()}
    except BackendError as error:  # for example, the key may not list users: no reason to do without all the rest
        log.info("Project %s: Label Studio does not tell the names of annotators: %s", job.project.name, error)
        return known
