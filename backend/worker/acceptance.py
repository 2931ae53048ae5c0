"""How often people leave pre-annotations as they are, figured from all annotations of one comparison. Read by
:mod:`backend.reporting.acceptance`.

Label Studio notes with an annotation which prediction its editor began it from (``parent_prediction``), and forgets
that when the prediction is removed, as those of superseded versions are. So what was filled in is kept in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    that said in the form of :meth:`TaskKind.answer_of`]. None where nothing was filled in, or that is not known.
    ``before``: what this was when the task was last read."""
    first = min((one for one in item.annotations if kind.answer_of(one) is not None), key=_number, default=None)
    if first is None:
        return None
    if before is not None and before[0] == _number(first):
        return before
    parent = first.get("parent_prediction")
    shown = next((one for one in item.predictions if one["id"] == parent), None)
    if shown is None or not shown["result"]:
        return None
    filled_in = kind.answer_of({"result": shown["result"]})
    return None if filled_in is None else [_number(first), str(shown["model_version"]), filled_in]


def figures(stored: Sequence[StoredLabel], cycles: Mapping[str, int]) -> dict[str, Any] | None:
    """Of all tasks and of those of each cycle's version, as JSON: how many were pre-annotated (``n``), the share
    (``value``) that says the same, and the ends of its exact interval. None where there is none. ``cycles``: the name
    of each of our versions → its cycle."""
    tasks: Counter[int] = Counter()
    unchanged: Counter[int] = Counter()
    for one in stored:
        if one.preannotated is None or one.preannotated[1] not in cycles:
            continue
        number, version, filled_in = one.preannotated
        said = {answer.annotation: answer.said for answer in answers_from(one.answers)}
        tasks[cycles[version]] += 1
        unchanged[cycles[version]] += said.get(number) == filled_in
    if not tasks:
        return None
    by_cycle = [{"cycle": cycle, **_share(unchanged[cycle], tasks[cycle])} for cycle in sorted(tasks)]
    return {**_share(unchanged.total(), tasks.total()), "cycles": by_cycle}


def _number(annotation: Annotation) -> int:
    return int(annotation["id"])


def _share(count: int, n: int) -> dict[str, Any]:
    low, high = exact_interval(count, n)
    return {"n": n, "value": round(count / n, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}
