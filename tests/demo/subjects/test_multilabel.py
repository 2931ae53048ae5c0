"""The demo's scenes to tick: the ground truth is what a scene holds, and a version is measured on scenes held out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.errors import BackendError
from backend.learning.learner import Learner
from backend.settings.core import Settings
from backend.state import Cycle, State, Version
from backend.tasks import kind_of
from benchmarks.data.datasets import FASHION_CLASSES, Dataset
from benchmarks.data.scenes import CATALOG, Scenes, cut_out
from demo.annotator import Annotator, PreannotationError, image_index
from demo.choices import choose, chosen
from demo.judge import Judge
from demo.oracle import Oracle, QueueError
from demo.subjects.multilabel import TickedScenes
from models.data import Runtime
from models.inference.predictions import predict
from tests.rig.servers import LabelStudioServer

SIDE, TASKS, HELD_OUT = 32, 12, 40


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
def subject(dataset: Dataset) -> TickedScenes:
    return TickedScenes(dataset, TASKS, side=SIDE, held_out=HELD_OUT)


def version(name: str, checkpoint: str | None) -> Version:
    return Version(1, 1, 0, name, "random", "current", checkpoint, [], {}, 0.0, 0.0, None)


def initialized(folder: Path, task: str) -> Version:
    """A version whose network is as it was initialized: as bad as they come, but complete."""
    settings = Settings(sampler="random", task_width=4)
    learner = Learner.fresh(settings, FASHION_CLASSES, SIDE, torch.device("cpu"), 0, task=task)
    learner.save(folder / f"{task}.pt")
    return version("by-hand", str(folder / f"{task}.pt"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return initialized(tmp_path_factory.mktemp("version"), "multilabel")


CYCLE = Cycle(1, 1, 0, "random", 0, "w", "done", "", 0, 0, 0, 0.0, 1.0, {"labels": 0, "seconds": {"read": 0.5}}, None)


def test_the_project_asks_for_several_choices(subject: TickedScenes) -> None:
    kind = kind_of(subject.label_config, Settings(sampler="margin"))
    assert kind.name == subject.task == "multilabel" and kind.classes == subject.classes
    assert subject.title == "Scenes of Blocks" and subject.measure == "mean average precision"


def test_the_ground_truth_is_every_class_in_the_scene(subject: TickedScenes, dataset: Dataset) -> None:
    drawn = Scenes(cut_out(dataset.train_images, dataset.train_labels), SIDE, 0, "train", CATALOG)
    counts = set()
    for index in range(TASKS):
        there = {FASHION_CLASSES[value - 1] for value in np.unique(drawn.scene(index)[1]).tolist() if value}
        assert chosen(subject.ground_truth(index), FASHION_CLASSES) == there
        counts.add(len(there))
    assert {0, 1, 2} <= counts, "empty scenes too, and some with several classes"


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """The mean, over the positives, of the precision among all that score at least as much."""
    return float(np.mean([truth[scores >= score].mean() for score in scores[truth]]))


def test_the_quality_is_the_mean_average_precision_of_the_held_out_scenes(
    subject: TickedScenes, dataset: Dataset, trained: Version
) -> None:
    drawn = Scenes(cut_out(dataset.test_images, dataset.test_labels), SIDE, 0, "test", CATALOG)
    images, masks = (np.stack(part) for part in zip(*map(drawn.scene, range(HELD_OUT)), strict=True))
    assert trained.checkpoint is not None
    net = Learner.load(trained.checkpoint, torch.device("cpu")).net
    scores = predict(net, images, np.arange(HELD_OUT), Runtime(torch.device("cpu"), 0)).predicted
    truths = [(masks == 1 + index).any(axis=(1, 2)) for index in range(10)]
    assert all(truth.any() for truth in truths)
    expected = np.mean([average_precision(scores[:, index], truth) for index, truth in enumerate(truths)])
    assert Judge(subject).judge(trained)() == pytest.approx(expected, abs=1e-5)
    assert Judge(subject).judge(version("untrained", None))() is None


def test_a_version_of_another_kind_of_task_is_refused(subject: TickedScenes, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="by-hand has a network for classification"):
        Judge(subject).judge(initialized(tmp_path, "classification"))


def test_agreement_is_the_f1_of_what_is_ticked(subject: TickedScenes) -> None:
    """By hand: with a ticks right of b ticked and c wanted, 2a / (b + c)."""
    truths = [(index, subject.ground_truth(index)) for index in range(TASKS)]
    assert subject.agreement(iter(truths)) == 1
    full = next(index for index, result in truths if len(chosen(result, FASHION_CLASSES)) == 2)
    empty = next(index for index, result in truths if not result)
    first = sorted(chosen(truths[full][1], FASHION_CLASSES))[0]
    wrong = next(name for name in FASHION_CLASSES if name not in chosen(truths[full][1], FASHION_CLASSES))
    assert subject.agreement([(full, choose([first, wrong]))]) == 2 / 4
    assert subject.agreement([(full, choose([first])), (empty, choose([wrong]))]) == 2 / 4
    assert subject.agreement([(full, [])]) == 0
    assert subject.agreement([(empty, [])]) == 1, "nothing to tick, and nothing ticked"
    with pytest.raises(PreannotationError, match="not choices of the label config"):
        subject.agreement([(full, choose(["boat"]))])


@pytest.fixture
def project(label_studio: LabelStudioServer, subject: TickedScenes) -> Iterator[tuple[Annotator, int]]:
    annotator = Annotator(label_studio.url, label_studio.personal_access_token())
    number = annotator.create_project(subject.title, subject.label_config)
    annotator.add(number, subject.images())
    for task in annotator.call("GET", "/api/tasks/", params={"project": number})["tasks"]:
        result = subject.ground_truth(image_index(task))
        body = {"task": task["id"], "result": result, "score": 1 / task["id"], "model_version": "by-hand"}
        annotator.call("POST", "/api/predictions/", json=body)
    values = {"model_version": "by-hand", "sampling": "Uncertainty sampling"}
    annotator.call("PATCH", f"/api/projects/{number}/", json=values)
    yield annotator, number
    annotator.call("DELETE", f"/api/projects/{number}/")


@pytest.mark.slow
def test_the_oracle_compares_what_is_ticked_and_ticks_every_class(
    project: tuple[Annotator, int], subject: TickedScenes, trained: Version, tmp_path: Path
) -> None:
    annotator, number = project
    oracle = Oracle(annotator, State(f"sqlite:///{tmp_path / 'state.sqlite3'}"), number, subject)
    current = oracle.open_round(trained, CYCLE, 0.0)
    assert current.agreement == 1 and current.quality == Judge(subject).judge(trained)()
    assert oracle.label(current, TASKS) == TASKS
    tasks = annotator.call("GET", "/api/tasks/", params={"project": number, "fields": "all"})["tasks"]
    for task in tasks:
        (annotation,) = task["annotations"]
        truth = chosen(subject.ground_truth(image_index(task)), FASHION_CLASSES)
        assert chosen(annotation["result"], FASHION_CLASSES) == truth
    assert any(not task["annotations"][0]["result"] for task in tasks), "an empty scene is labeled by no choice"


@pytest.mark.slow
def test_ticks_of_no_choice_at_the_head_are_noticed(
    project: tuple[Annotator, int], dataset: Dataset, trained: Version, tmp_path: Path
) -> None:
    annotator, number = project
    of_others = TickedScenes(dataset._replace(class_names=("boat",) * 10), TASKS, side=SIDE, held_out=HELD_OUT)
    oracle = Oracle(annotator, State(f"sqlite:///{tmp_path / 'state.sqlite3'}"), number, of_others)
    with pytest.raises(QueueError, match="by-hand: a region picks"):
        oracle.open_round(trained, CYCLE, 0.0)
