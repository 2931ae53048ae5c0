"""What a task network is judged by in the learning curves, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"


@dataclass(frozen=True)
class Measure:
    """The curves are of ``key``, a share from 0 to 1: a column of the CSV, which pages and pictures call ``words``.

    ``beside``: other columns and their words, told but not compared. ``note``: what it is, for the foot of the page.
    """

    key: str
    words: str
    note: str
    beside: Mapping[str, str] = field(default_factory=dict)


MEASURES = {
    CLASSIFICATION: Measure(
        "accuracy", "accuracy", "Accuracy is the task network's on held-out images that nothing else looks at."
    ),
    SEGMENTATION: Measure(
        "miou",
        "mean IoU",
        "Mean IoU is the task network's on held-out images that nothing else looks at: of each class, the background\n"
        "included, the intersection over the union of its pixels in masks and predictions, added up over all images,\n"
        "and the mean over the classes that are in either.",
        {"pixel_accuracy": "pixel accuracy"},
    ),
}
"""By task."""
