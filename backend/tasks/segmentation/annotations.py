"""Which annotations of a segmentation project are labels, and which of them determines a task's mask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from backend.settings.core import Settings
from backend.tasks.label_config import Annotation, age
from backend.tasks.records import ELSEWHERE, EMPTY, SKIPPED
from backend.tasks.segmentation.config import SegmentationSpec


def decisive_annotation(
    annotations: Sequence[Annotation], spec: SegmentationSpec, settings: Settings
) -> Annotation | None:
    """The annotation that determines a task's mask, or None if the task has no label.

    An annotation without regions means that everything is background; if ``unlabelled`` is "ignore", it means nothing.
    An annotation that contains results of other controls only is not a label.
    """
    decisive = decisive_of([one for one in map(_with_result, annotations) if _is_ours(one, spec)])
    return decisive if decisive is not None and _says_something(decisive, spec, settings) else None


def drawn_annotations(
    annotations: Sequence[Annotation], spec: SegmentationSpec, settings: Settings
) -> list[tuple[int, str]]:
    """(annotation id, ``updated_at``) of those annotations that are labels, which count toward the budget."""
    return [
        (int(one["id"]), str(one.get("updated_at") or ""))
        for one in annotations
        if why_not_drawn(one, spec, settings) is None
    ]


def why_not_drawn(annotation: Annotation, spec: SegmentationSpec, settings: Settings) -> str | None:
    """Why an annotation is not a label; None if it is: see :meth:`backend.tasks.base.TaskKind.why_not`."""
    if annotation.get("was_cancelled"):
        return SKIPPED
    annotation = _with_result(annotation)
    if not isinstance(annotation["result"], list):
        return EMPTY
    if not _is_ours(annotation, spec):
        return ELSEWHERE
    return None if _says_something(annotation, spec, settings) else EMPTY


def mask_digest(annotation: Annotation, source: str, spec: SegmentationSpec, settings: Settings) -> str:
    """32 hex digits that change whenever a task's mask may change: with its annotation, its image, the label config or
    the settings."""
    controls = [(control.kind, control.labels) for control in spec.controls]
    reading = [spec.to_name, spec.classes, controls, settings.unlabelled, settings.rectangles]
    inputs = [int(annotation["id"]), str(annotation.get("updated_at") or ""), source, *reading]
    return hashlib.blake2b(json.dumps(inputs).encode(), digest_size=16).hexdigest()


def _with_result(annotation: Annotation) -> Annotation:
    """The annotation with an empty result if it has none, because it is null or was not requested."""
    return {**annotation, "result": annotation.get("result") or []}


def _is_ours(annotation: Annotation, spec: SegmentationSpec) -> bool:
    result = annotation["result"]
    return not isinstance(result, list) or not result or any(spec.kind_of(region) for region in result)


def _says_something(annotation: Annotation, spec: SegmentationSpec, settings: Settings) -> bool:
    return settings.unlabelled != "ignore" or any(spec.kind_of(region) for region in annotation["result"])


def decisive_of(annotations: Sequence[Annotation]) -> Annotation | None:
    """The annotation whose regions count: the latest ground truth, else the latest one. None if all were skipped.

    An annotation without regions counts too: it says that the image shows none of the classes.
    """
    valid = [one for one in annotations if not one.get("was_cancelled") and isinstance(one.get("result"), list)]
    return max([one for one in valid if one.get("ground_truth")] or valid, key=age, default=None)
