"""What tasks with several annotations are learned with, where the votes of all annotators are weighed together; and
which of the labels are new."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from backend.state import StoredLabel
from backend.tasks.base import AnyTaskKind
from backend.tasks.votes import answers_from
from backend.worker.job import Job

WEIGHTED = "weighted"


def decided(job: Job, kind: AnyTaskKind, stored: Sequence[StoredLabel]) -> list[StoredLabel]:
    """``stored``, with the labels of tasks that have several annotations decided by weighed votes, if the project wants
    that. The state is brought in line: so whatever reads a label from it reads the one that is learned with."""
    if kind.settings.consensus != WEIGHTED:
        return list(stored)
    shared = {one.task_id: answers_from(one.answers) for one in stored if one.answers and len(one.answers) > 1}
    weighed = kind.weighed(shared)
    found = [replace(one, label=weighed.get(one.task_id, one.label)) for one in stored]
    changed = {new.task_id: new.label for new, old in zip(found, stored, strict=True) if new.label != old.label}
    job.check()
    job.state.labels.decide(job.project.id, changed)
    return found


def stamps(stored: Sequence[StoredLabel]) -> dict[int, str]:
    """Annotation id → what it is known by once it was learned from: its ``updated_at``; and of the first one of a task
    with several, what they say together, too, which depends on the project's ``consensus`` and on other annotations."""
    found: dict[int, str] = {}
    for one in stored:
        own = {int(number): str(stamp) for number, stamp, *_ in one.counted}
        if len(own) > 1:
            first = min(own)
            own[first] = f"{own[first]} {_digest(one)}"
        found |= own
    return found


def new_annotations(stored: Sequence[StoredLabel], seen: Mapping[int, str]) -> int:
    """How many annotations are new or changed since they were ``seen``, and how many tasks say something else although
    none of theirs are. ``seen``: what :func:`stamps` gave; an earlier version kept the times alone."""
    count = 0
    for one in stored:
        now = stamps([one])
        before = {number: seen.get(number) for number in now}
        new = sum(_time(now[number]) != _time(stamp) for number, stamp in before.items())
        said_else = any(stamp and " " in stamp and stamp != now[number] for number, stamp in before.items())
        count += new or int(said_else)
    return count


def _time(stamp: str | None) -> str | None:
    return None if stamp is None else stamp.partition(" ")[0]


def _digest(one: StoredLabel) -> str:
    return hashlib.blake2b(json.dumps(one.label).encode(), digest_size=4).hexdigest()
