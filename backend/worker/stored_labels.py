"""What the annotations of one task say, in the form in which the state keeps it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from backend.labelstudio.records import TaskAnnotations
from backend.state import StoredLabel
from backend.tasks.base import AnyTaskKind
from backend.tasks.label_config import Annotation, age
from backend.tasks.votes import annotator_of
from backend.worker.acceptance import begun_from


def stored_label(
    kind: AnyTaskKind,
    item: TaskAnnotations,
    source: str,
    generated: bool,
    unfinished: bool,
    before: Sequence[object] | None = None,
) -> StoredLabel:
    """``source``: that of the task's image, which may be ``generated``. ``unfinished``: Label Studio serves the task to
    further annotators. ``before``: what was known of a pre-annotation of the task."""
    label = kind.label_of(item.annotations, source)
    counted = [] if label is None else kind.counted(item.annotations)
    skips = [annotation for annotation in item.annotations if annotation.get("was_cancelled")]
    told = item.annotations
    if generated:  # to skip one is to say that it shows nothing, which is an answer
        counted += [(int(skip["id"]), str(skip.get("updated_at") or "")) for skip in skips]
        told = [annotation for annotation in told if not annotation.get("was_cancelled")]
    spent = {int(annotation["id"]): _lead_time(annotation) for annotation in item.annotations}
    return StoredLabel(
        item.task_id,
        None if label is None else kind.stored_label(label),
        [[number, stamp, spent[number]] for number, stamp in counted],
        submitted=len(item.annotations) - len(skips),
        skipped=len(skips),
        unfinished=unfinished,
        ignored=dict(Counter(filter(None, map(kind.why_not, told)))) or None,
        answers=None if generated else _answers(kind, item.annotations),
        preannotated=None if generated else begun_from(kind, item, before),
    )


def _answers(kind: AnyTaskKind, annotations: Sequence[Annotation]) -> list[list[object]] | None:
    said = [(one, kind.answer_of(one)) for one in sorted(annotations, key=age)]
    return [
        [int(one["id"]), annotator_of(one), answer, bool(one.get("ground_truth"))]
        for one, answer in said
        if answer is not None
    ] or None


def _lead_time(annotation: Annotation) -> float | None:
    """The seconds that somebody spent on it, as the browser measured them."""
    spent = annotation.get("lead_time")
    return round(float(spent), 1) if isinstance(spent, int | float) and 0 < spent < math.inf else None
