"""Learning curves of segmentation: what mean IoU is of, what a run may look at, and the command from end to end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend.learning.learner import Learner
from backend.settings.core import Settings
from benchmarks.curves import command as curves
from benchmarks.curves.answers import Answers
from benchmarks.curves.foreground import foreground_first, predicted_shares
from benchmarks.curves.plan import CONTROLS, FOREGROUND, Arm, Plan, PlanError, Run, initial_set, trial_seed
from benchmarks.curves.run import play
from benchmarks.curves.store import Line, RunStore
from benchmarks.curves.tasks import task_of
from benchmarks.curves.tasks.segmentation import Segmentation
from benchmarks.data.kept_masks import MaskSet, draft_of, finish
from models import IGNORE
from models.data import MaskTargets, Runtime, targets_of
from models.inference.predictions import predict_masks
from models.pixels import normalize
from samplers import SAMPLERS
from tests.benchmarks.curves.curves_bench import NOT_COMPARED, Stopped, quiet

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FRAME = (32, 48)
SMALL = {"task_width": 4, "epochs": 2, "vaal_width": 4, "vaal_latent": 4, "vaal_iterations": 2, "vaal_batch_size": 8}
SETS = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 images of 32×48 with a light and a red box each, 20 to learn from; the last column is not said to be any."""
    root = tmp_path_factory.mktemp("boxes")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    draw = np.random.default_rng(0)
    for number in range(25):
        image = draw.integers(0, 90, (*FRAME, 3), dtype=np.uint8)
        mask = np.zeros(FRAME, dtype=np.uint8)
        for index, color in ((1, (230, 230, 230)), (2, (220, 10, 10))):
            top, left = draw.integers(0, 18), draw.integers(0, 34)
            image[top : top + 14, left : left + 14], mask[top : top + 14, left : left + 14] = color, index
        mask[:, -1] = IGNORE
        Image.fromarray(image).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    (root / "classes.txt").write_text("background\nlight\nred\n")
    return root


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Segmentation.prepare(str(folder), 0, Path("unused"), tmp_path_factory.mktemp("work"), quiet)


def plan_of(folder: Path, cycles: int = 3, **overrides: object) -> Plan:
    sizes = {"initial": 6, "budget": 3, "cycles": cycles}
    return Plan(str(folder), "digest", **sizes, overrides={**SMALL, **overrides}, task="segmentation")


def learner_of(task: Segmentation) -> Learner:
    settings = Settings().for_project({"task_width": 4, "sampler": "random"})
    return Learner.fresh(settings, task.classes, FRAME, CPU, 0, task="segmentation")


def set_of(folder: Path, masks: np.ndarray) -> MaskSet:
    """The masks as both parts, with noise for images."""
    frame, draw = (masks.shape[1], masks.shape[2]), np.random.default_rng(0)
    with draft_of(folder, frame) as (draft, writers):
        for mask in masks:
            for writer in writers.values():
                writer.write(draw.integers(0, 256, (*frame, 3), dtype=np.uint8), mask)
        finish(draft, writers, frame, ("background", "light", "red"), "made up")
    return MaskSet.open(folder)


def test_mean_iou_of_a_network_that_says_light_everywhere(tmp_path: Path) -> None:
    """By hand, two images of 32×48 with a quarter ignored, and of the rest (1,152 pixels each): light 1/2 of the first,
    all of the second; the others background. IoU of light 3/4, of background 0; red is in neither, so it is no class of
    the mean: 3/8. Added up over the images: the mean of theirs would be (1/4 + 1) / 2."""
    masks = np.zeros((2, *FRAME), dtype=np.uint8)
    masks[0, :16], masks[1], masks[:, :, :12] = 1, 1, IGNORE
    images = set_of(tmp_path / "set", masks)
    task = Segmentation(np.arange(2), np.arange(2), images)
    learner = learner_of(task)
    with torch.no_grad():
        learner.net.head.weight.zero_()
        learner.net.head.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    judged = task.judged(learner, Runtime(CPU, 0))
    assert judged == {"miou": pytest.approx(0.375), "pixel_accuracy": pytest.approx(0.75)}


def test_judging_in_batches_is_judging_all_at_once(made: Path, folder: Path) -> None:
    """Rows of the test in their own order, three at a time."""
    from torchmetrics.functional.classification import multiclass_jaccard_index  # here: slow to import

    images = MaskSet.open(made)
    task = Segmentation(np.arange(20), np.array([4, 0, 3, 1]), images)
    learner = learner_of(task)
    answers = np.empty((4, *FRAME), dtype=np.uint8)
    for places, predicted, _ in predict_masks(learner.net, images.test_images, task.test, Runtime(CPU, 0)):
        answers[places] = predicted
    truth = images.test_masks[task.test]
    expected = multiclass_jaccard_index(torch.from_numpy(answers), torch.from_numpy(truth), 3, ignore_index=IGNORE)
    assert len(np.unique(answers)) > 1, "a network that has something to be judged"
    for size in (1, 3, 0):
        judged = task.judged(learner, Runtime(CPU, 0, eval_batch_size=size))
        assert judged["miou"] == pytest.approx(float(expected))
        assert judged["pixel_accuracy"] == pytest.approx((answers == truth)[truth != IGNORE].mean())


def test_a_label_is_the_mask_of_its_image(made: Path, folder: Path) -> None:
    task = task_of(made, plan_of(folder))
    data = task.data(np.array([3, 7]), np.array([0, 1]))
    assert data.task == "segmentation" and data.num_classes == 3 and task.classes == ("light", "red")
    targets, whole = targets_of(data, MaskTargets), MaskSet.open(made)
    assert np.array_equal(targets.masks[targets.rows], whole.train_masks[[3, 7]])
    assert data.frame == FRAME and task.pixels.shape == (20, *FRAME, 3)


@pytest.fixture
def purchases(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What is labeled after each purchase, of all runs of the test in turn."""
    kept: list[np.ndarray] = []
    original = RunStore.keep_labeled

    def keep(store: RunStore, cycle: int, rows: np.ndarray, answers: Answers) -> None:
        kept.append(rows)
        original(store, cycle, rows, answers)

    monkeypatch.setattr(RunStore, "keep_labeled", keep)
    return kept


@pytest.mark.parametrize(
    "sampler", ["vaal", FOREGROUND, *(pytest.param(name, marks=pytest.mark.long) for name in ("entropy", "dast-al"))]
)
def test_masks_that_were_not_bought_and_those_of_the_test_change_no_choice(
    folder: Path, made: Path, tmp_path: Path, purchases: list[np.ndarray], sampler: str
) -> None:
    plan, run = plan_of(folder, cycles=2), Run(sampler, 1)
    task = task_of(made, plan)
    assert isinstance(task, Segmentation)
    initial = initial_set(task.pool, 6, trial_seed(0, 1))
    poisoned = (np.array(task.images.train_masks) + 1) % 3
    poisoned[initial] = task.images.train_masks[initial]
    other = replace(task.images, train_masks=poisoned, test_masks=(np.array(task.images.test_masks) + 1) % 3)
    for number, one in enumerate((task.images, other)):
        play(replace(task, images=one), plan, run, tmp_path / str(number), CPU, quiet)
    assert purchases[0].tolist() == purchases[1].tolist() and len(purchases) == 2
    assert len(np.unique(purchases[0])) == 9 and set(initial) < set(purchases[0]) <= set(task.pool)


def test_what_has_more_foreground_than_most_comes_first_each_half_in_its_random_order() -> None:
    """The median of the shares is 0.25, and a share that is equal to it is not above it."""
    random = np.array([0.3, -2.0, 1.5, 0.9, -0.1])
    shares = np.array([0.0, 0.25, 0.25, 0.7, 0.6])
    assert np.argsort(-foreground_first(random, shares)).tolist() == [3, 4, 2, 0, 1]


def test_a_pool_of_background_is_in_random_order() -> None:
    random = np.random.default_rng(0).normal(size=9)
    assert np.argsort(foreground_first(random, np.zeros(9))).tolist() == np.argsort(random).tolist()


def test_foreground_is_what_the_network_takes_for_another_class_than_the_background(made: Path, folder: Path) -> None:
    """Against the map itself, up to a pixel of 24 at which two logits are practically equal; and a head that says one
    class everywhere."""
    task = task_of(made, plan_of(folder))
    learner, rows, runtime = learner_of(task), np.array([4, 0, 9]), Runtime(CPU, 0)
    shares = predicted_shares(learner.net, task.pixels, rows, runtime)
    with torch.no_grad():
        net = learner.net.eval()
        maps = net.head(net.features(normalize(torch.from_numpy(task.pixels[rows]))))
    assert shares == pytest.approx((maps.argmax(dim=1) > 0).double().mean(dim=(1, 2)).numpy(), abs=0.05)
    assert 0 < shares.mean() < 1, "a network that tells something apart"
    for bias, share in ((torch.tensor([9.0, 0.0, 0.0]), 0.0), (torch.tensor([0.0, 0.0, 9.0]), 1.0)):
        with torch.no_grad():
            learner.net.head.weight.zero_()
            learner.net.head.bias.copy_(bias)
        assert (predicted_shares(learner.net, task.pixels, rows, runtime) == share).all()


def test_the_control_buys_where_the_network_sees_more_foreground_than_in_most(
    folder: Path, made: Path, tmp_path: Path, purchases: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shares are replaced by the rows' own numbers: what is bought is above the median of what is unlabeled."""
    monkeypatch.setattr(
        "benchmarks.curves.run.predicted_shares", lambda net, pixels, rows, runtime: rows.astype(np.float64)
    )
    plan = plan_of(folder, cycles=2)
    task = task_of(made, plan)
    play(task, plan, Run(FOREGROUND, 1), tmp_path / "run", CPU, quiet)
    initial = initial_set(task.pool, 6, trial_seed(0, 1))
    unlabeled = np.setdiff1d(task.pool, initial)
    bought = np.setdiff1d(purchases[0], initial)
    assert len(bought) == 3 and (bought > np.median(unlabeled)).all()
    assert bought.tolist() != unlabeled[-3:].tolist(), "at random among them, and not those with most"
    assert Arm.named(FOREGROUND) == Arm("random", "chance", foreground=True)


def stop_at(cycle: int, phase: str) -> Callable[[int, str, int, int], None]:
    def hook(now: int, what: str, done: int, total: int) -> None:
        if (now, what) == (cycle, phase):
            raise Stopped

    return hook


def results(lines: list[Line]) -> list[Line]:
    return [{key: value for key, value in line.items() if key not in NOT_COMPARED} for line in lines]


@pytest.mark.parametrize("sampler", ["entropy", pytest.param("vaal", marks=pytest.mark.long)])
def test_a_run_that_was_cut_off_gives_the_numbers_of_one_that_was_not(
    folder: Path, made: Path, tmp_path: Path, sampler: str
) -> None:
    plan, run = plan_of(folder), Run(sampler, 1)
    task = task_of(made, plan)
    whole = play(task, plan, run, tmp_path / "whole", CPU, quiet)
    cut = tmp_path / "cut"
    for hook in (stop_at(1, "train"), stop_at(2, "test"), stop_at(3, "test")):
        with pytest.raises(Stopped):
            play(task, plan, run, cut, CPU, hook)
    assert len(RunStore(cut).lines()) == 2
    assert results(play(task, plan, run, cut, CPU, quiet)) == results(whole)
    assert [line["labels"] for line in whole] == [6, 9, 12]


def command(folder: Path, root: Path, *more: str) -> list[str]:
    kept = ["--work", str(root / "work"), "--out", str(root / "out"), "--devices", "cpu"]
    return ["--task", "segmentation", "--dataset", str(folder), "--initial", "6", "--budget", "3", *SETS, *kept, *more]


@pytest.mark.long
def test_from_the_command_to_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs side by side, each in a process of its own."""
    asked = command(folder, tmp_path, "--samplers", "entropy,random", "--cycles", "2", "--trials", "1")
    assert curves.main([*asked, "--image-size", "36"]) == 0
    out = tmp_path / "out"
    rows = list(csv.DictReader(io.StringIO((out / "curves.csv").read_text())))
    assert [(row["sampler"], row["labels"]) for row in rows] == [(s, n) for s in ("random", "entropy") for n in "69"]
    assert all(0 < float(row["miou"]) < 1 and 0 < float(row["pixel_accuracy"]) <= 1 for row in rows)
    assert "accuracy" not in rows[0]
    page = (out / "curves.md").read_text()
    assert "--task segmentation" in page and "--image-size 36" in page and "random here" in page
    assert "final mean IoU, %" in page and "final pixel accuracy, %" in page
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["task"], plan["image_size"]) == ("segmentation", 36)
    found = MaskSet.open(next((tmp_path / "work" / "images").iterdir()))
    assert found.train_masks.shape == (20, 24, 36)
    with Image.open(out / "curves.png") as picture:
        assert min(picture.size) > 300

    table = (out / "curves.csv").read_text()
    capsys.readouterr()
    assert curves.main([*asked, "--image-size", "36"]) == 0  # nothing is left to do
    assert (out / "curves.csv").read_text() == table and "4 of 4 cycles" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--samplers", "entropy,ads"], "not for segmentation: ads, it compares two classifiers of a whole image"),
        (["--samplers", "entropy,svm-pixels"], "not for segmentation: svm-pixels"),
        (["--samplers", "entropy,astrology"], "unknown sampler astrology: choose of random"),
        (["--dataset", "cifar10-x10"], "has a class for each image and no masks: leave out --task segmentation"),
        (["--dataset", "voc", "--data", "nowhere"], "VOCdevkit is no segmentation data set: choose fashion-scenes"),
        (["--set", "task=classification"], "use --task"),
        (["--cycles", "7"], "6 labels and 6 purchases of 3 are 24, and the pool has 20 images"),
        (["--task", "multilabel", "--samplers", FOREGROUND], "not for multilabel: foreground-random"),
        (["--task", "classification"], "holds images with masks: it is for --task segmentation"),
    ],
)
def test_what_cannot_be_honored_is_refused_in_words(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert curves.main(command(folder, tmp_path, *more)) == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_classes_has_no_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "pets" / name / "1.png")
    assert curves.main(command(tmp_path / "pets", tmp_path)) == 2
    assert "pets is no segmentation data set: choose fashion-scenes, or a folder with" in capsys.readouterr().err


def test_all_leaves_out_what_is_for_classification_only() -> None:
    every = curves._samplers("all", "segmentation")
    of_images = {"ads", "asal", "badge", "bait", "ceal", "dropquery", "gaal", "typiclust", "uherding"}
    assert set(SAMPLERS) - set(every) == of_images
    assert set(curves._samplers("all", "classification")) == set(SAMPLERS) - {"gaal"}, "it is asked for by its name"
    assert curves._samplers("gaal,margin", "classification") == ["margin", "gaal"]
    assert set(CONTROLS).isdisjoint(every), "a control is asked for by its name"
    assert curves._samplers(f"entropy,random,{FOREGROUND}", "segmentation") == [FOREGROUND, "random", "entropy"]


def test_a_sampler_whose_images_no_data_set_has_labels_of_is_refused() -> None:
    with pytest.raises(PlanError, match="gaal, no data set has labels of the images that it generates"):
        curves._samplers("margin,gaal", "multilabel")
