"""Learning curves of several choices: what a label is, what mean average precision is of, and the command itself."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.curves import command as curves
from benchmarks.curves.plan import Plan, PlanError, Run
from benchmarks.curves.run import play
from benchmarks.curves.tasks import task_of
from benchmarks.curves.tasks.multilabel import Multilabel, classes_in
from benchmarks.data import scenes
from benchmarks.data.kept_masks import MaskSet
from models import IGNORE
from models.data import MultilabelTargets, Runtime, targets_of
from models.inference.predictions import predict
from tests.benchmarks.curves.curves_bench import quiet

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL = {"task_width": 4, "epochs": 1}


def folder_of(root: Path, height: int = 16) -> Path:
    """20 noisy images ``height`` × 16 px, every second with a light box and every third with a red one."""
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(20):
        image, mask = draw.integers(0, 90, (height, 16, 3), dtype=np.uint8), np.zeros((height, 16), dtype=np.uint8)
        for index, color in ((1, (230, 230, 230)), (2, (220, 10, 10))):
            if number % (index + 1) == 0:
                top = 8 * (index - 1)
                image[top : top + 7, 4:12], mask[top : top + 7, 4:12] = color, index
        Image.fromarray(image).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    (root / "classes.txt").write_text("background\nlight\nred\nblue\n")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boxes")
    return Multilabel.prepare(str(folder_of(root / "set")), 0, Path("unused"), root / "work", quiet)


def plan_of(**sizes: int) -> Plan:
    return Plan(
        "boxes", "digest", **{"initial": 6, "budget": 3, "cycles": 2, **sizes}, overrides=SMALL, task="multilabel"
    )


def test_classes_of_masks() -> None:
    """By hand: the background and what is ignored are no class."""
    masks = np.array([[[0, 1], [1, 3]], [[0, 0], [0, IGNORE]], [[2, 2], [2, 2]]], dtype=np.uint8)
    assert classes_in(masks, 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert classes_in([], 3).shape == (0, 3)


def test_a_label_is_the_set_of_classes_in_the_mask(made: Path) -> None:
    task = task_of(made, plan_of())
    rows = np.arange(10)
    data = task.data(rows, np.array([12]))
    assert (data.task, data.num_classes, task.classes) == ("multilabel", 3, ("light", "red", "blue"))
    chosen, masks = targets_of(data, MultilabelTargets).chosen, MaskSet.open(made).train_masks
    assert chosen.tolist() == [[int((masks[row] == index).any()) for index in (1, 2, 3)] for row in rows]
    assert {tuple(row) for row in chosen.tolist()} == {(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)}


def test_mean_average_precision_is_of_the_classes_that_are_there(made: Path) -> None:
    """No test image is blue: of the others, scikit-learn's."""
    from sklearn.metrics import average_precision_score  # here: slow to import

    task = task_of(made, plan_of())
    learner = Learner.fresh(Settings(sampler="random", task_width=4), task.classes, 16, CPU, 0, task="multilabel")
    found = predict(learner.net, task.images.test_images, task.test, Runtime(CPU, 0)).predicted
    truth = classes_in(task.images.test_masks[task.test], 3)
    assert truth.any(axis=0).tolist() == [True, True, False]
    expected = np.mean([average_precision_score(truth[:, index], found[:, index]) for index in (0, 1)])
    assert task.judged(learner, Runtime(CPU, 0)) == {"map": pytest.approx(expected)}


@pytest.mark.parametrize("sampler", ["margin", "core-set"])
def test_a_run_goes_through_the_workers_cycle(made: Path, tmp_path: Path, sampler: str) -> None:
    lines = play(task_of(made, plan_of()), plan_of(), Run(sampler, 1), tmp_path, CPU, quiet)
    assert [line["labels"] for line in lines] == [6, 9] and all(0 < line["map"] <= 1 for line in lines)


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    made = Multilabel.prepare(str(folder_of(tmp_path / "set", 24)), 0, Path("unused"), tmp_path / "work", quiet)
    with pytest.raises(PlanError, match="the images of boxes are 16×24 px"):
        task_of(made, plan_of())


def test_scenes_of_its_own_are_made_whose_items_stand_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[scenes.Arrangement] = []

    def prepare(*_: object, arrangement: scenes.Arrangement) -> Path:
        asked.append(arrangement)
        return tmp_path

    monkeypatch.setattr(scenes, "prepare_scenes", prepare)
    assert Multilabel.prepare("fashion-scenes", 0, tmp_path, tmp_path, quiet) == tmp_path
    assert asked == [scenes.CATALOG]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--samplers", "dast-al"], "not for multilabel: dast-al, its semantic augmentation needs exactly one class"),
        (["--dataset", "cifar10"], "has a class for each image and no masks: leave out --task multilabel"),
    ],
)
def test_what_cannot_be_honored_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    options = ["--task", "multilabel", "--dataset", "fashion-scenes", "--work", str(tmp_path), "--devices", "cpu"]
    assert curves.main([*options, *more]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.long
def test_from_the_command_to_the_page(tmp_path: Path) -> None:
    options = ["--task", "multilabel", "--dataset", str(folder_of(tmp_path / "set")), "--samplers", "random,margin"]
    options += ["--initial", "6", "--budget", "3", "--cycles", "2", "--trials", "1", "--devices", "cpu"]
    options += [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    assert curves.main([*options, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "curves.csv").read_text())))
    assert [(row["sampler"], row["labels"]) for row in rows] == [(s, n) for s in ("random", "margin") for n in "69"]
    assert all(0 < float(row["map"]) <= 1 for row in rows)
    assert "final mean average precision, %" in (tmp_path / "out" / "curves.md").read_text()
