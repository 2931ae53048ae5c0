"""Which annotations of a segmentation project are labels, and which of them a task's mask is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from backend.settings.core import Settings
from backend.tasks.label_config import Annotation, age
from backend.tasks.segmentation.config import SegmentationSpec


def decisive_annotation(
    annotations: Sequence[Annotation], spec: SegmentationSpec, settings: Settings
) -> Annotation | None:
    """The annotation that a task's mask is made of, or None: it has no label.

    One without regions says that all is background; where pixels without a region are ignored it says nothing. One that
    answers other controls of the label config only is none of ours.
    """
    decisive = decisive_of([one for one in map(_with_result, annotations) if _is_ours(one, spec)])
    return decisive if decisive is not None and _says_something(decisive, spec, settings) else None


def drawn_annotations(
    annotations: Sequence[Annotation], spec: SegmentationSpec, settings: Settings
) -> list[tuple[int, str]]:
    """(annotation id, ``updated_at``) of those annotations that are labels: what a budget counts."""
    submitted = [_with_result(one) for one in annotations if not one.get("was_cancelled")]
    return [
        (int(one["id"]), str(one.get("updated_at") or ""))
        for one in submitted
        if isinstance(one["result"], list) and _is_ours(one, spec) and _says_something(one, spec, settings)
    ]


def mask_digest(annotation: Annotation, source: str, spec: SegmentationSpec, settings: Settings) -> str:
    """32 hex digits that change whenever the mask of a task may: its annotation, its image, how both are read."""
    drawn = [(control.kind, control.labels) for control in spec.controls]
    reading = [spec.to_name, spec.classes, drawn, settings.unlabelled, settings.rectangles]
    made_of = [int(annotation["id"]), str(annotation.get("updated_at") or ""), source, *reading]
    return hashlib.blake2b(json.dumps(made_of).encode(), digest_size=16).hexdigest()


def _with_result(annotation: Annotation) -> Annotation:
    """As if it had no region, where the result was not asked for or is null."""
    return {**annotation, "result": annotation.get("result") or []}


def _is_ours(annotation: Annotation, spec: SegmentationSpec) -> bool:
    result = annotation["result"]
    return not isinstance(result, list) or not result or any(spec.kind_of(region) for region in result)


def _says_something(annotation: Annotation, spec: SegmentationSpec, settings: Settings) -> bool:
    return settings.unlabelled != "ignore" or any(spec.kind_of(region) for region in annotation["result"])


def decisive_of(annotations: Sequence[Annotation]) -> Annotation | None:
    """The annotation whose regions count: the latest ground truth, else the latest; None when all were skipped.

    One without regions counts: it says that nothing is there.
    """
    valid = [one for one in annotations if not one.get("was_cancelled") and isinstance(one.get("result"), list)]
    return max([one for one in valid if one.get("ground_truth")] or valid, key=age, default=None)
