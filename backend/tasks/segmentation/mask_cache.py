"""The cache of the masks that a segmenter is trained on: each is decoded from its annotation once.

It is a folder inside the cache of the corresponding images, in the format of :mod:`backend.images.row_cache`:

    masks.u8        rows of H×W bytes: 0 background, i + 1 the class i, 255 unknown
    usable.u8       rows of one byte: 0 if all pixels are unknown
    index           row → task id and the mask's digest: see :func:`~backend.tasks.segmentation.annotations.mask_digest`
    problems.json   task id → digest of its mask, and the problems with its regions
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backend.images.cache import ImageCache
from backend.images.row_cache import RowCache
from backend.images.row_table import TaskIds
from backend.labelstudio.records import TaskAnnotations
from backend.settings.core import Settings
from backend.tasks.records import ReadAnnotations
from backend.tasks.segmentation.annotations import decisive_annotation, mask_digest
from backend.tasks.segmentation.config import SegmentationSpec
from backend.tasks.segmentation.masks import regions_to_mask
from models import IGNORE, ProgressFn
from models.files import replace_file

log = logging.getLogger(__name__)

_MASKS, _USABLE = "masks.u8", "usable.u8"
_PROBLEMS_OF_A_TASK = 3


@dataclass(frozen=True)
class MadeMask:
    """A decoded ``mask`` (H, W) uint8, its ``digest``, and messages about the problems with its regions."""

    task: int
    digest: str
    mask: np.ndarray
    problems: Sequence[str] = ()


class MaskCache(RowCache):
    """The masks of a project's labeled tasks, all of one size. See :class:`backend.images.row_cache.RowCache` for who
    may read and write."""

    def __init__(self, directory: Path, frame: tuple[int, int]) -> None:
        self.frame = frame
        super().__init__(directory, list(frame), {_MASKS: (np.uint8, frame), _USABLE: (np.uint8, ())})
        self._problems: dict[int, tuple[str, list[str]]] = self._read_problems()

    @property
    def masks(self) -> np.ndarray:
        """(K, H, W) uint8, as a read-only memory map. Index it with :meth:`rows`; never copy all of it."""
        return self.mapped(_MASKS)

    def rows(self, task_ids: TaskIds) -> np.ndarray:
        """The row (N,) int64 of each task's mask; -1 if it has none, or if all its pixels are unknown."""
        rows = super().rows(task_ids)
        usable = np.append(self.mapped(_USABLE), 0)  # the last one is for row -1
        return np.where(usable[rows] > 0, rows, -1)

    def problems(self, task_ids: Iterable[int]) -> list[str]:
        """The problems with the regions of these tasks, as "task 12: …"."""
        return [
            f"task {task}: {words}"
            for task in task_ids
            if task in self._problems and self._problems[task][0] == (self._index.digest(task) or b"").hex()
            for words in self._problems[task][1]
        ]

    def sync(
        self,
        digests: Mapping[int, str],
        make: Callable[[Sequence[int]], Iterable[MadeMask]],
        classes: int,
        *,
        keep: Collection[int] = (),
        report: ProgressFn = lambda phase, done, total: None,
    ) -> None:
        """Decode masks that are missing or out of date, and remove all tasks that are not in ``digests`` or ``keep``.

        Args:
            digests: task id → the digest that its mask should have.
            make: returns the masks of the given tasks, as far as they have one. If an annotation changed in the
                meantime, the digest may be another one. If it raises, the sync ends, and what was done is kept.
            classes: the number of classes, including the background.

        Raises:
            ValueError: a mask has a value that is neither a class nor 255.
        """
        with self._writing():
            stale = [task for task in self._index.task_ids() if task not in digests and task not in keep]
            outdated = self._index.outdated(digests, [bytes.fromhex(digest) for digest in digests.values()])
            missing = list(itertools.compress(digests, outdated.tolist()))
            if not missing and not stale:
                return
            with self._batch(self._write_problems, lambda: len(self._problems) // 16) as batch:
                for task in stale:
                    batch.drop(task)
                deleted = set(missing)
                for done, made in enumerate(make(missing) if missing else (), 1):
                    _check_values(made.mask, classes)
                    usable = np.uint8((made.mask != IGNORE).any())
                    self._problems[made.task] = made.digest, list(made.problems)[:_PROBLEMS_OF_A_TASK]
                    batch.add(made.task, bytes.fromhex(made.digest), made.mask, np.asarray(usable))
                    deleted.discard(made.task)
                    report("masks", done, len(missing))
                for task in deleted:  # their annotations have been deleted, so an old mask would be wrong
                    batch.drop(task)

    def _write_problems(self) -> None:
        """Written before the index. Problems only count together with their digest, so one too many does no harm."""
        known = self._index.rows(self._problems) >= 0
        self._problems = {
            task: problems
            for (task, problems), kept in zip(self._problems.items(), known.tolist(), strict=True)
            if problems[1] and kept
        }
        replace_file(self._problem_file, json.dumps(self._problems).encode())

    def _read_problems(self) -> dict[int, tuple[str, list[str]]]:
        try:
            known = json.loads(self._problem_file.read_text())
            return {int(task): (str(digest), list(words)) for task, (digest, words) in known.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    @property
    def _problem_file(self) -> Path:
        return self.directory / "problems.json"


def open_masks(
    spec: SegmentationSpec,
    settings: Settings,
    labels: Mapping[int, str],
    sources: Mapping[int, str],
    cache: ImageCache,
    read_annotations: ReadAnnotations,
    report: ProgressFn,
) -> tuple[MaskCache, list[str]]:
    """The masks of all labeled tasks that have an image, in the size of ``cache``, and the problems with their regions.

    Only the annotations of tasks whose mask is missing or out of date are read from Label Studio.

    Args:
        labels: task id → :func:`~backend.tasks.segmentation.annotations.mask_digest`.
        sources: task id → image source.

    Raises:
        LabelStudioUnavailable, LeaseLost, …: reading failed. The masks decoded up to then are kept.
    """
    masks = MaskCache(cache.directory / "masks", cache.frame)
    with_image = cache.present(labels)

    def decoded(tasks: Sequence[int]) -> Iterator[MadeMask]:
        return _decoded(spec, settings, sources, cache, read_annotations(tasks))

    digests = {task: labels[task] for task in with_image}
    masks.sync(digests, decoded, len(spec.classes) + 1, keep=labels.keys(), report=report)
    problems = masks.problems(with_image)
    if problems:
        log.warning("%d problems with regions; the first: %s", len(problems), problems[0])
    return masks, problems


def _decoded(
    spec: SegmentationSpec,
    settings: Settings,
    sources: Mapping[int, str],
    cache: ImageCache,
    annotated: Iterable[TaskAnnotations],
) -> Iterator[MadeMask]:
    """The masks of these annotations."""
    unlabeled = IGNORE if settings.unlabelled == "ignore" else 0
    for item in annotated:
        annotation = decisive_annotation(item.annotations, spec, settings)
        if annotation is None:
            continue
        height, width = cache.sizes(cache.rows([item.task_id]))[0].tolist()
        mask, problems = regions_to_mask(
            annotation["result"], spec, cache.frame, unlabeled=unlabeled, image_size=(height, width)
        )
        if not problems and (mask == IGNORE).all():
            problems = ["No pixel has a class, so nothing is learned from it."]
        yield MadeMask(item.task_id, mask_digest(annotation, sources[item.task_id], spec, settings), mask, problems)


def _check_values(mask: np.ndarray, classes: int) -> None:
    wrong = mask[(mask >= classes) & (mask != IGNORE)]
    if wrong.size:
        raise ValueError(f"a mask of {classes} classes has the value {wrong.max()}")
