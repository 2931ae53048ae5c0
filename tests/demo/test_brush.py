"""Painted masks through a real Label Studio, and what is proposed at the head of a queue, read with the SDK's codec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import mask_to_regions, regions_to_mask
from demo.annotator import Annotator, PreannotationError, as_png, image_index, image_name
from demo.brush import brush_config, paint, painted
from tests.rig.servers import LabelStudioServer

CLASSES = ("cat", 'the "dog" & <owl>', "Ankle boot")


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """A mask (H, W) of all classes in rectangles, one pixel of the last class, and the last pixel of the first."""
    draw, mask = np.random.default_rng(seed), np.zeros((height, width), np.uint8)
    for index in range(1, len(CLASSES) + 1):
        top, left = draw.integers(0, height // 2), draw.integers(0, width // 2)
        mask[top : top + height // 2, left : left + width // 3] = index
    mask[0, 0], mask[-1, -1] = len(CLASSES), 1
    return mask


MASKS = (blobs(40, 56, 0), blobs(57, 31, 1), np.zeros((20, 20), np.uint8), np.full((3, 700), 2, np.uint8))


@pytest.fixture
def annotator(label_studio: LabelStudioServer) -> Annotator:
    return Annotator(label_studio.url, label_studio.personal_access_token())


@pytest.fixture
def project(annotator: Annotator) -> Iterator[int]:
    """A painting project with a task for each of MASKS, in their order."""
    number = annotator.create_project("Paint them", brush_config(CLASSES))
    gray = (np.repeat(mask[..., None] * np.uint8(60), 3, axis=2) for mask in MASKS)
    annotator.upload(number, ((image_name(index), as_png(pixels)) for index, pixels in enumerate(gray)))
    yield number
    annotator.call("DELETE", f"/api/projects/{number}/")


def tasks_of(annotator: Annotator, project: int) -> list[dict[str, Any]]:
    """In the order of their images."""
    listed = annotator.call("GET", "/api/tasks/", params={"project": project, "fields": "all"})
    return sorted(listed["tasks"], key=image_index)


@pytest.mark.slow
def test_what_was_painted_comes_back_from_label_studio_as_the_same_mask(annotator: Annotator, project: int) -> None:
    spec = segmentation_spec(annotator.project(project)["label_config"])
    assert spec.classes == CLASSES and not spec.has_background_label
    for task, mask in zip(tasks_of(annotator, project), MASKS, strict=True):
        annotator.submit(task["id"], paint(mask, CLASSES))
    for task, mask in zip(tasks_of(annotator, project), MASKS, strict=True):
        (annotation,) = task["annotations"]
        assert len(annotation["result"]) == len(set(np.unique(mask).tolist()) - {0})
        found, problems = regions_to_mask(annotation["result"], spec, mask.shape, image_size=mask.shape)
        assert problems == [] and np.array_equal(found, mask)
        assert np.array_equal(painted(annotation["result"], CLASSES, mask.shape), mask)


@pytest.mark.slow
def test_what_the_backend_proposes_is_read_from_label_studio(annotator: Annotator, project: int) -> None:
    """The backend's masks are smaller than the images here: every pixel of theirs is 2 × 3 of the image."""
    spec = segmentation_spec(annotator.project(project)["label_config"])
    tasks = tasks_of(annotator, project)
    expected = {}
    for position, (task, mask) in enumerate(zip(reversed(tasks), reversed(MASKS), strict=True)):
        large = mask.repeat(2, axis=0).repeat(3, axis=1)
        expected[task["id"]] = large
        regions = mask_to_regions(mask, spec, large.shape, confidence=0.5, smallest=0)
        body = {"task": task["id"], "result": regions, "score": 0.1 * position, "model_version": "by-hand"}
        annotator.call("POST", "/api/predictions/", json=body)
    found = annotator.predictions(project, "by-hand")
    assert [prediction.task for prediction in found] == [task["id"] for task in reversed(tasks)]
    for prediction in found:
        large = expected[prediction.task]
        assert np.array_equal(painted(prediction.result, CLASSES, large.shape), large)
    assert annotator.predictions(project, "another") == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["upload", "add"])
def test_images_are_made_one_request_at_a_time(annotator: Annotator, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr("demo.annotator.UPLOAD_FILES", 3)
    monkeypatch.setattr("demo.annotator.IMPORT_TASKS", 3)
    made: list[int] = []

    def images() -> Iterator[tuple[str, bytes]]:
        for index in range(7):
            made.append(index)
            yield image_name(index), as_png(np.full((8, 8), index, np.uint8))

    number = annotator.create_project("Seven", brush_config(CLASSES))
    told: list[tuple[int, int]] = []
    getattr(annotator, way)(number, images(), lambda done: told.append((done, len(made))))
    assert told == [(3, 3), (6, 6), (7, 7)]
    assert [image_index(task) for task in tasks_of(annotator, number)] == list(range(7))
    annotator.call("DELETE", f"/api/projects/{number}/")


def test_later_regions_lie_over_earlier_ones() -> None:
    below, above = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    below[:, :4], above[2:, 3:] = 1, 3
    both = painted([*paint(below, CLASSES), *paint(above, CLASSES)], CLASSES, (4, 6))
    assert np.array_equal(both, np.where(above > 0, above, below))
    other = painted([*paint(above, CLASSES), *paint(below, CLASSES)], CLASSES, (4, 6))
    assert np.array_equal(other, np.where(below > 0, below, above))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"original_width": 7}, "of an image of"),
        ({"type": "polygonlabels"}, "not one of the brush"),
        ({"to_name": "picture"}, "not one of the brush"),
        ({"value": {"brushlabels": ["bird"]}}, "has the labels"),
        ({"value": {"brushlabels": ["cat", "cat"]}}, "has the labels"),
        ({"value": {"rle": [1, 2, 3]}}, "cannot be read"),
        ({"value": {"rle": None}}, "cannot be read"),
    ],
)
def test_a_region_that_no_editor_shows_is_refused(change: dict[str, Any], words: str) -> None:
    (region,) = paint(np.ones((4, 6), np.uint8), CLASSES)
    assert painted([region], CLASSES, (4, 6)).all()
    changed = region | change | {"value": region["value"] | change.get("value", {})}
    with pytest.raises(PreannotationError, match=words):
        painted([changed], CLASSES, (4, 6))


def test_a_region_of_another_size_is_refused() -> None:
    (region,), (larger,) = (paint(np.ones(size, np.uint8), CLASSES) for size in ((4, 6), (5, 6)))
    with pytest.raises(PreannotationError, match="of 30 pixels"):
        painted([region | {"value": larger["value"]}], CLASSES, (4, 6))
