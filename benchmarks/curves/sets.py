"""The data set of an experiment: of images with a class each, or of images with masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.curves.measures import SEGMENTATION
from benchmarks.data import image_sets as curves_data
from benchmarks.data import mask_folders as segmentation_folders
from benchmarks.data import scenes
from benchmarks.data.datasets import NAMED, DatasetUnavailable
from benchmarks.data.kept_images import ImageSet
from benchmarks.data.kept_masks import MaskSet

Tell = Callable[[str, int, int], None]


def prepare(task: str, dataset: str, size: int, downloads: Path, work: Path, tell: Tell) -> Path:
    """The folder that :func:`opened` reads, made where it is missing. ``size``: the (longer) side in px, 0 = its own.

    Raises:
        DatasetUnavailable: no such data set, one of the other task, or its files are not at hand or are broken.
    """
    if task == SEGMENTATION:
        _refuse_classes(dataset)
        return segmentation_folders.prepare(dataset, size, downloads, work, tell)
    _refuse_masks(dataset)
    return curves_data.prepare(curves_data.split_name(dataset)[0], size, downloads, work, tell)


def opened(task: str, folder: Path) -> ImageSet | MaskSet:
    """What :func:`prepare` made for this task."""
    return MaskSet.open(folder) if task == SEGMENTATION else ImageSet.open(folder)


def _refuse_classes(dataset: str) -> None:
    if Path(dataset).is_dir():
        return  # the layouts say what a folder lacks
    if dataset in {name + suffix for name in NAMED for suffix in ("", *curves_data.TAILS)}:
        raise DatasetUnavailable(
            f"{dataset} has a class for each image and no masks: leave out --task segmentation, or choose"
            f" {segmentation_folders.CHOICES}"
        )


def _refuse_masks(dataset: str) -> None:
    named = dataset in (scenes.NAME, *segmentation_folders.FOLDERS) and not Path(dataset).is_dir()
    if named or segmentation_folders.is_mask_folder(Path(dataset)):
        raise DatasetUnavailable(f"{dataset} holds images with masks: it is for --task segmentation")
