"""The demo's scenes: what is painted is the scene's mask, and a version is measured on scenes that no one paints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.learning.learner import Learner
from backend.settings.core import Settings
from backend.state import Cycle, State, Version
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import mask_to_regions
from benchmarks.data.datasets import FASHION_CLASSES, Dataset
from benchmarks.data.scenes import Scenes, cut_out
from demo.annotator import Annotator, PreannotationError, image_index
from demo.brush import paint, painted
from demo.judge import Judge
from demo.oracle import Oracle, QueueError
from demo.subjects.segmentation import PaintedScenes
from models.data import Runtime
from models.inference.predictions import predict_masks
from tests.rig.servers import LabelStudioServer

SIDE, TASKS, HELD_OUT = 32, 5, 13


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Gray blocks on black, broader with each class; the test part's are less high."""
    parts = []
    for high in (22, 14):
        images = np.zeros((10, 28, 28), dtype=np.uint8)
        for label in range(10):
            images[label, 3 : 3 + high, 10 - label : 18 + label] = 90 + 10 * label
        parts += [images, np.arange(10)]
    return Dataset(*parts, FASHION_CLASSES, "Blocks, made up")


@pytest.fixture(scope="module")
def subject(dataset: Dataset) -> PaintedScenes:
    return PaintedScenes(dataset, TASKS, side=SIDE, held_out=HELD_OUT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A version whose network is as it was initialised: as bad as they come, but of every part."""
    settings = Settings(sampler="random", task_width=4)
    learner = Learner.fresh(settings, FASHION_CLASSES, (SIDE, SIDE), torch.device("cpu"), 0, task="segmentation")
    path = tmp_path_factory.mktemp("version") / "checkpoint.pt"
    learner.save(path)
    return version("by-hand", str(path))


def version(name: str, checkpoint: str | None) -> Version:
    return Version(1, 1, 0, name, "random", "current", checkpoint, [], {}, 0.0, 0.0, None)


CYCLE = Cycle(1, 1, 0, "random", 0, "w", "done", "", 0, 0, 0, 0.0, 1.0, {"labels": 0, "seconds": {"read": 0.5}}, None)


def test_the_ground_truth_is_the_mask_of_the_scene_that_is_shown(subject: PaintedScenes, dataset: Dataset) -> None:
    drawn = Scenes(cut_out(dataset.train_images, dataset.train_labels), SIDE, seed=0)
    names = [name for name, _ in subject.images()]
    assert len(set(names)) == subject.count == TASKS and subject.title == "Scenes of Blocks"
    for index in (3, 0):
        mask = drawn.scene(index)[1]
        assert np.array_equal(painted(subject.ground_truth(index), FASHION_CLASSES, mask.shape), mask) and mask.any()


def test_the_quality_is_the_mean_iou_over_all_held_out_scenes(
    subject: PaintedScenes, dataset: Dataset, trained: Version
) -> None:
    """Intersections and unions counted over all pixels at once; a class that is nowhere does not count."""
    drawn = Scenes(cut_out(dataset.test_images, dataset.test_labels), SIDE, seed=0, part="test")
    images, masks = (np.stack(part) for part in zip(*map(drawn.scene, range(HELD_OUT)), strict=True))
    assert trained.checkpoint is not None
    net = Learner.load(trained.checkpoint, torch.device("cpu")).net
    found = np.empty(masks.shape, np.uint8)
    for places, predicted, _ in predict_masks(net, images, np.arange(HELD_OUT), Runtime(torch.device("cpu"), 0)):
        found[places] = predicted
    shares = []
    for index in range(1 + len(FASHION_CLASSES)):
        either = ((found == index) | (masks == index)).sum()
        if either:
            shares.append(((found == index) & (masks == index)).sum() / either)
    assert Judge(subject).judge(trained)() == pytest.approx(np.mean(shares), abs=1e-6)
    assert 0 < np.mean(shares) < 1 and len(np.unique(found)) > 1
    assert Judge(subject).judge(version("untrained", None))() is None


def test_held_out_scenes_are_not_kept(
    subject: PaintedScenes, trained: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of four, and in one: the same figure."""
    once = Judge(subject).judge(trained)()
    monkeypatch.setattr("demo.subjects.segmentation.AT_A_TIME", 4)
    assert Judge(subject).judge(trained)() == pytest.approx(once)


def test_agreement_is_the_mean_iou_of_what_is_proposed(subject: PaintedScenes) -> None:
    """By hand: nothing but background is right where the truth is background, and a half of a class where half of its
    pixels are painted."""
    right = [(index, subject.ground_truth(index)) for index in range(3)]
    assert subject.agreement(iter(right)) == 1
    mask = painted(subject.ground_truth(0), FASHION_CLASSES, (SIDE, SIDE))
    first = int(np.unique(mask)[1])
    where = np.argwhere(mask == first)
    for row, column in where[: len(where) // 2]:
        mask[row, column] = 0
    kept = len(where) - len(where) // 2
    background = (mask == 0).sum()
    classes = [value for value in np.unique(mask).tolist() if value not in (0, first)]
    expected = (kept / len(where) + (background - len(where) // 2) / background + len(classes)) / (2 + len(classes))
    assert subject.agreement([(0, paint(mask, FASHION_CLASSES))]) == pytest.approx(expected, abs=1e-6)


def test_a_head_without_any_mask_is_refused(subject: PaintedScenes) -> None:
    assert subject.agreement([(0, []), (1, subject.ground_truth(1))]) is not None, "one scene may be all background"
    with pytest.raises(PreannotationError, match="no task at the head"):
        subject.agreement([(0, []), (1, [])])


@pytest.fixture
def annotator(label_studio: LabelStudioServer) -> Annotator:
    return Annotator(label_studio.url, label_studio.personal_access_token())


@pytest.fixture
def project(annotator: Annotator, subject: PaintedScenes) -> Iterator[int]:
    number = annotator.create_project(subject.title, subject.label_config)
    annotator.add(number, subject.images())
    yield number
    annotator.call("DELETE", f"/api/projects/{number}/")


def propose(annotator: Annotator, project: int, subject: PaintedScenes, side: int) -> None:
    """Publishes every scene's own mask as the backend would, for images of ``side`` px."""
    spec = segmentation_spec(annotator.project(project)["label_config"])
    for task in annotator.call("GET", "/api/tasks/", params={"project": project})["tasks"]:
        mask = painted(subject.ground_truth(image_index(task)), FASHION_CLASSES, (SIDE, SIDE))
        regions = mask_to_regions(mask, spec, (side, side), smallest=0)
        body = {"task": task["id"], "result": regions, "score": 1 / task["id"], "model_version": "by-hand"}
        annotator.call("POST", "/api/predictions/", json=body)
    values = {"model_version": "by-hand", "sampling": "Uncertainty sampling"}
    annotator.call("PATCH", f"/api/projects/{project}/", json=values)


@pytest.mark.slow
def test_the_oracle_looks_at_the_masks_and_paints(
    annotator: Annotator, project: int, subject: PaintedScenes, trained: Version, tmp_path: Path
) -> None:
    propose(annotator, project, subject, SIDE)
    oracle = Oracle(annotator, State(f"sqlite:///{tmp_path / 'state.sqlite3'}"), project, subject)
    current = oracle.open_round(trained, CYCLE, 0.0)
    assert current.agreement == 1 and current.quality == Judge(subject).judge(trained)()
    assert oracle.label(current, 2) == 2
    oracle.check_next(current)
    tasks = annotator.call("GET", "/api/tasks/", params={"project": project, "fields": "all"})["tasks"]
    done = [task for task in tasks if task["annotations"]]
    assert sorted(task["id"] for task in done) == sorted(current.published[:2])
    for task in done:
        (annotation,) = task["annotations"]
        truth = painted(subject.ground_truth(image_index(task)), FASHION_CLASSES, (SIDE, SIDE))
        assert np.array_equal(painted(annotation["result"], FASHION_CLASSES, (SIDE, SIDE)), truth)


@pytest.mark.slow
def test_masks_of_another_size_at_the_head_are_noticed(
    annotator: Annotator, project: int, subject: PaintedScenes, trained: Version, tmp_path: Path
) -> None:
    propose(annotator, project, subject, SIDE + 1)
    oracle = Oracle(annotator, State(f"sqlite:///{tmp_path / 'state.sqlite3'}"), project, subject)
    with pytest.raises(QueueError, match=r"by-hand: a region is of an image of \(33, 33\)"):
        oracle.open_round(trained, CYCLE, 0.0)
    before_any_model = oracle.open_round(version("by-hand", None), CYCLE, 0.0)
    assert before_any_model.agreement is None and before_any_model.quality is None
