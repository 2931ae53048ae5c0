"""Networks, their losses, their training loops and checkpoints. Imports torch, never the backend."""

from collections.abc import Callable

TASK_TABLE = {
    "classification": "models.tasks.classification:ClassificationTask",
    "multilabel": "models.tasks.multilabel:MultilabelTask",
    "segmentation": "models.tasks.segmentation:SegmentationTask",
}
"""The kinds of task, name -> module:class, to be read without torch; the objects are in `models.tasks.TASKS`."""

IGNORE = 255
"""In an index mask: no class is known of this pixel."""

ProgressFn = Callable[[str, int, int], None]
"""Called as (phase, done, total) while something runs; may raise to stop it."""
