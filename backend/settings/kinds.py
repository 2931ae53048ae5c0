"""The settings that depend on the kind of task: how its answers are read, learned, and shown."""

from __future__ import annotations

from dataclasses import dataclass

from backend.settings.spec import YES_NO, project
from backend.settings.values import is_share
from samplers.options import Check, between, one_of, zero_or


@dataclass(frozen=True)
class KindSettings:
    """What :class:`backend.settings.core.Settings` has of them."""

    rectangles: bool = project(False, "Masks: read `RectangleLabels` too, as filled boxes.", YES_NO)
    unlabelled: str = project(
        "background",
        "Masks: what pixels are that no region covers; ignore: nothing is learned from them.",
        one_of("background", "ignore"),
    )
    multilabel_threshold: float = project(
        0.5,
        "Several choices per image: a class is ticked in the pre-annotation from this probability on.",
        between(0.01, 0.99),
    )
    preannotate_above: str = project(
        "auto",
        "The confidence from which on a task opens with a prediction: the predicted class ticked, a region of a mask "
        "drawn; 0: always, 1: never; auto: classes from the lowest on above which at least 9 in 10 are right, by "
        "labels that were left out, and all regions.",
        Check("auto, or 0 to 1", lambda value: value == "auto" or is_share(value)),
    )
    class_balance: bool = project(
        False, "Masks: weigh each class by 1 / ln(1.02 + its share of the labeled pixels) in the loss.", YES_NO
    )
    crop_size: int = project(0, "Masks: side of the training crops in pixels; 0: the whole image.", zero_or(32, 1024))
    preannotation: str = project(
        "brush", "Masks: what answers are drawn with where the label config has both.", one_of("brush", "polygon")
    )
    preannotate: int = project(
        200,
        "Masks: tasks at the head of a new order that get a mask with their score, at least `budget` + `shortlist`; "
        "0: all. Those behind them get one with the next order.",
        between(0, 1_000_000),
    )
