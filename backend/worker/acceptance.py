"""How often people leave pre-annotations as they are, figured from all annotations of one comparison. Read by
:mod:`backend.reporting.acceptance`.

Label Studio keeps with an annotation which prediction its editor began it from (``parent_prediction``), until that
prediction is removed, and a copy of the prediction of the version in use when it was submitted (``prediction``). Where
both are the same one, it is known what was filled in. So whether an annotation was begun from it is kept in the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from backend.state import StoredLabel
from backend.tasks.base import AnyTaskKind
from backend.tasks.label_config import Annotation
from models.intervals import exact_interval

DIGITS = 4


def begun_from(
    kind: AnyTaskKind, annotations: Sequence[Annotation], before: Sequence[Any] | None
) -> tuple[int, str, bool] | None:
    """Of a task's first annotation that is a label: (its id, the version whose pre-annotation it was begun from,
    whether it says the same). None where nothing was filled in, or that is not known. ``before``: what this was when
    the task was last read."""
    said = {int(one["id"]): answer for one in annotations if (answer := kind.answer_of(one)) is not None}
    if not said:
        return None
    number = min(said)
    first = next(one for one in annotations if int(one["id"]) == number)
    shown, parent = first.get("prediction"), first.get("parent_prediction")
    if not isinstance(shown, Mapping) or not shown.get("result"):
        return None
    known = parent == shown.get("id") if parent is not None else before is not None and before[0] == number
    filled_in = kind.answer_of({"result": shown["result"]})
    version = shown.get("model_version")
    if not known or filled_in is None or not isinstance(version, str):
        return None
    return number, version, said[number] == filled_in


def figures(stored: Sequence[StoredLabel], cycles: Mapping[str, int]) -> dict[str, Any] | None:
    """Of all tasks and of those of each cycle's version, as JSON: how many were pre-annotated (``n``), the share
    (``value``) that says the same, and the ends of its exact interval. None where there is none. ``cycles``: the name
    of each of our versions → its cycle."""
    tasks: Counter[int] = Counter()
    unchanged: Counter[int] = Counter()
    for one in stored:
        if one.preannotated is not None and one.preannotated[1] in cycles:
            _, version, same = one.preannotated
            tasks[cycles[version]] += 1
            unchanged[cycles[version]] += bool(same)
    if not tasks:
        return None
    by_cycle = [{"cycle": cycle, **_share(unchanged[cycle], tasks[cycle])} for cycle in sorted(tasks)]
    return {**_share(unchanged.total(), tasks.total()), "cycles": by_cycle}


def _share(count: int, n: int) -> dict[str, Any]:
    low, high = exact_interval(count, n)
    return {"n": n, "value": round(count / n, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}
