"""How often people leave pre-annotations as they are, figured from all annotations of one comparison. Read by
:mod:`backend.reporting.acceptance`.

Label Studio notes with an annotation which prediction its editor began it from (``parent_prediction``), and forgets
that when the prediction is removed, as those of superseded versions are. So what was filled in is kept in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backend.labelstudio.records import TaskAnnotations
from backend.state import StoredLabel
from backend.tasks.base import AnyTaskKind
from backend.tasks.label_config import Annotation
from backend.tasks.votes import answers_from
from models.intervals import exact_interval

DIGITS = 4


def begun_from(kind: AnyTaskKind, item: TaskAnnotations, before: Sequence[Any] | None) -> Sequence[Any] | None:
    """Of a task's first annotation that is a label: [its id, the version whose pre-annotation it was begun from, what
    that said in the form of :meth:`TaskKind.content_of`]. None where nothing was filled in, or that is not known.
    ``before``: what this was when the task was last read.

    Where people draw, what annotations say is kept nowhere else. So there the list goes on: what the annotation says,
    None if its result was not read since it was changed, and when it had last been changed as it was read."""
    first = _first_label(kind, item)
    if first is None:
        return None
    # a project whose label config asks for another kind of task now has what was known in the form of the other
    known = before if before and before[0] == _number(first) and (len(before) > 3) == kind.draws else None
    if kind.draws and "result" not in first:
        return known and [*known[:3], known[3] if known[4] == first["updated_at"] else None, known[4]]
    filled_in = _filled_in(kind, first, item) if known is None else known[1:3]
    if filled_in is None:
        return None
    drawn = [kind.content_of(first["result"] or []), first["updated_at"]] if kind.draws else []
    return [_number(first), *filled_in, *drawn]


def to_be_read(kind: AnyTaskKind, items: Iterable[TaskAnnotations], before: Mapping[int, Sequence[Any]]) -> list[int]:
    """Those of these drawn tasks, read without results, whose results and predictions are needed to tell whether their
    first label was accepted. ``before``: of each of them, where it is known, what this was."""
    found = []
    for item in items:
        first, begun = _first_label(kind, item), begun_from(kind, item, before.get(item.task_id))
        if begun[3] is None if begun else first is not None and first.get("parent_prediction"):
            found.append(item.task_id)
    return found


def _first_label(kind: AnyTaskKind, item: TaskAnnotations) -> Annotation | None:
    return min((one for one in item.annotations if kind.why_not(one) is None), key=_number, default=None)


def _filled_in(kind: AnyTaskKind, first: Annotation, item: TaskAnnotations) -> Sequence[Any] | None:
    """[version, content] of the prediction that the editor began the annotation from."""
    parent = first.get("parent_prediction")
    shown = next((one for one in item.predictions if one["id"] == parent), None)
    if shown is None or not shown["result"]:
        return None
    content = kind.content_of(shown["result"])
    return None if content is None else [str(shown["model_version"]), content]


def figures(stored: Sequence[StoredLabel], cycles: Mapping[str, int]) -> dict[str, Any] | None:
    """Of all tasks and of those of each cycle's version, as JSON: how many were pre-annotated (``n``), the share
    (``value``) that says the same, and the ends of its exact interval. None where there is none. ``cycles``: the name
    of each of our versions → its cycle."""
    tasks: Counter[int] = Counter()
    unchanged: Counter[int] = Counter()
    for one in stored:
        if one.preannotated is None or one.preannotated[1] not in cycles:
            continue
        number, version, filled_in, *drawn = one.preannotated
        if drawn and drawn[0] is None:
            continue
        said = {answer.annotation: answer.said for answer in answers_from(one.answers)}
        tasks[cycles[version]] += 1
        unchanged[cycles[version]] += (drawn[0] if drawn else said.get(number)) == filled_in
    if not tasks:
        return None
    by_cycle = [{"cycle": cycle, **_share(unchanged[cycle], tasks[cycle])} for cycle in sorted(tasks)]
    return {**_share(unchanged.total(), tasks.total()), "cycles": by_cycle}


def _number(annotation: Annotation) -> int:
    return int(annotation["id"])


def _share(count: int, n: int) -> dict[str, Any]:
    low, high = exact_interval(count, n)
    return {"n": n, "value": round(count / n, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}
