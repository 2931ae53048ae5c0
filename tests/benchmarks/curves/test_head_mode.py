"""Curves on frozen features: embedded once, begun as an owner begins, and everything on the page."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.curves import command as curves
from benchmarks.curves import features, suite
from benchmarks.curves.jobs import Jobs, Watcher, batches, play_all
from benchmarks.curves.pixel_svm import accuracy, kernel, vectors
from benchmarks.curves.plan import PIXELS, Arm, Plan, Run
from benchmarks.curves.run import first_labels, play
from benchmarks.curves.tasks import task_of
from benchmarks.curves.tasks.classification import Classification
from benchmarks.data.image_sets import prepare
from benchmarks.data.kept_images import ImageSet
from models.networks.pretrained import FrozenClassifier
from samplers import SAMPLERS
from tests.benchmarks.curves.curves_bench import Stopped, quiet

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
ARMS = "random,own+random,margin,svm-pixels"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 15 images of 16 px, noise around a brightness: 24 to learn from, 6 to test on."""
    root = tmp_path_factory.mktemp("two classes")
    draw = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        (root / name).mkdir()
        for image in range(15):
            pixels = draw.integers(90 * number, 90 * number + 120, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{image:02}.png")
    return root


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def plan_of(folder: Path) -> Plan:
    return Plan(str(folder), "digest", initial=6, budget=3, cycles=2, early=(4,), first="own", redraw=True)


def embedded(folder: Path, work: Path, trial: int = 1) -> Classification:
    made = prepare(str(folder), 16, Path("unused"), work / "images", quiet)
    plan = plan_of(folder)
    task = Classification.of(ImageSet.open(made), plan, trial)
    features.embed([task], plan, made.parent, CPU, quiet)
    return replace(task, kept=features.kept_of(task, plan, made.parent, CPU))


def test_images_are_embedded_once_and_an_interruption_costs_a_batch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_BATCH", 8)
    asked: list[int] = []
    embed = FrozenClassifier.embed

    def counted(net: FrozenClassifier, images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return embed(net, images)

    monkeypatch.setattr(FrozenClassifier, "embed", counted)
    made = prepare(str(folder), 16, Path("unused"), tmp_path, quiet)
    plan = plan_of(folder)
    tasks = [Classification.of(ImageSet.open(made), plan, trial) for trial in (1, 2)]

    def stop(_: str, done: int, total: int) -> None:
        if done == 8:
            raise Stopped

    with pytest.raises(Stopped):
        features.embed(tasks, plan, tmp_path, CPU, stop)
    features.embed(tasks, plan, tmp_path, CPU, quiet)
    assert sum(asked) == 30, "every image of the undivided set, for both trials and both parts"
    kept = features.kept_of(tasks[0], plan, tmp_path, CPU)
    assert kept.train is not None and kept.train.shape == (30, 1776) and kept.width == 1280
    assert kept.train.any(axis=1).all() and kept.train.dtype == np.float16


def test_a_network_from_scratch_keeps_no_features(folder: Path, work: Path) -> None:
    made = prepare(str(folder), 16, Path("unused"), work / "images", quiet)
    plan = replace(plan_of(folder), overrides={"task_net": "resnet18", "weights": "none"})
    assert features.kept_of(task_of(made, plan), plan, work / "images", CPU).train is None


def test_arms_that_begin_alike_share_their_first_labels(folder: Path, work: Path, tmp_path: Path) -> None:
    task, plan = embedded(folder, work), plan_of(folder)
    first = {
        name: first_labels(task, plan, Run(name, 1), tmp_path, CPU).tolist()
        for name in ("random", "margin", "own+random", "chance+margin", PIXELS)
    }
    assert first["margin"] == first["own+random"] != first["random"] == first["chance+margin"] == first[PIXELS]
    assert all(len(set(rows)) == 6 and set(rows) <= set(task.pool) for rows in first.values())
    other = embedded(folder, work, trial=2)
    assert first_labels(other, plan, Run("random", 2), tmp_path, CPU).tolist() != first["random"]


def test_the_control_learns_what_random_learns_first(
    folder: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, plan = embedded(folder, work), plan_of(folder)
    learned: list[set[int]] = []

    def note(_: Classification, labeled: np.ndarray) -> dict[str, float]:
        learned.append(set(labeled.tolist()))
        return {"accuracy": 0.5}

    monkeypatch.setattr(Classification, "judged_on_pixels", note)
    play(task, plan, Run(PIXELS, 1), tmp_path / "run", CPU, quiet)
    order = first_labels(task, plan, Run("random", 1), tmp_path, CPU).tolist()
    assert learned[:2] == [set(order[:4]), set(order)] and learned[1] < learned[2] and len(learned[2]) == 9


def test_an_arm_is_named_after_its_first_order_and_its_sampler(folder: Path) -> None:
    plan = plan_of(folder)
    assert Arm.named("own+random") == Arm("random", "own") and Arm.named("vaal") == Arm("vaal")
    assert Arm.named("random").first_order(plan) == "chance", "as the product has it"
    assert Arm.named("margin").first_order(plan) == "own"
    assert Arm.named("margin").first_order(replace(plan, first="chance")) == "chance"


def test_a_run_is_on_features_and_says_what_was_bought(folder: Path, work: Path, tmp_path: Path) -> None:
    task, plan = embedded(folder, work), plan_of(folder)
    lines = play(task, plan, Run("margin", 1), tmp_path / "run", CPU, quiet)
    assert [line["labels"] for line in lines] == [4, 6, 9] == plan.labels()
    assert ["picked_classes" in line for line in lines] == [False, True, False], "one purchase, after the first labels"
    assert 1 <= lines[1]["picked_classes"] <= 2 and 0 <= lines[1]["picked_duplicates"] <= 1
    assert ["score_seconds" in line for line in lines] == [False, True, False]


@pytest.mark.long
def test_runs_of_a_trial_share_a_process_and_outlive_a_dead_one(folder: Path, work: Path, tmp_path: Path) -> None:
    embedded(folder, work)
    runs = [Run(name, 1) for name in ("random", "astrology", PIXELS)]
    assert batches([*runs, Run("random", 2)], True) == [runs, [Run("random", 2)]]
    assert batches(runs, False) == [[run] for run in runs]
    made = prepare(str(folder), 16, Path("unused"), work / "images", quiet)

    class Heard:
        def __init__(self) -> None:
            self.done: list[Run] = []

        def started(self, run: Run, device: str) -> None:
            pass

        def phase(self, *_: object) -> None:
            pass

        def finished(self, run: Run, lines: list[dict[str, object]]) -> None:
            self.done.append(run)

        def failed(self, run: Run, words: str, details: str) -> None:
            pass

    heard = Heard()
    failures = play_all(plan_of(folder), runs, Jobs(["cpu"], 1, made, tmp_path, together=True), heard)
    assert heard.done == [runs[0], runs[2]] and list(failures) == [runs[1]] and "astrology" in failures[runs[1]]


def play_here(plan: Plan, runs: Sequence[Run], jobs: Jobs, watcher: Watcher) -> dict[Run, str]:
    """play_all without processes."""
    assert jobs.together
    for run in runs:
        task = task_of(jobs.images, plan, run.trial)
        task = replace(task, kept=features.kept_of(task, plan, jobs.images.parent, CPU))
        watcher.started(run, "cpu")
        watcher.finished(run, play(task, plan, run, jobs.runs / run.folder, CPU, quiet))
    return {}


def test_from_the_suite_to_the_summary(
    folder: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "--image-size 16 --early 4 --initial 6 --budget 3 --cycles 2"
    tiny = suite.Experiment("tiny", f"--dataset '{folder}' {sizes}", ("margin", "astrology"))
    missing = suite.Experiment("missing", f"--dataset {tmp_path / 'nowhere'} {sizes}")
    monkeypatch.setattr(suite, "EXPERIMENTS", (tiny, missing))
    monkeypatch.setattr(curves, "play_all", play_here)
    out = tmp_path / "out"
    asked = ["--work", str(work), "--out", str(out), "--devices", "cpu", "--trials", "5"]
    assert curves.main(asked) == 1, "one data set could not be had"
    rows = list(csv.DictReader(io.StringIO((out / "tiny" / "curves.csv").read_text())))
    assert {row["sampler"] for row in rows} == {"random", "own+random", "margin", PIXELS} and len(rows) == 4 * 5 * 3
    page = (out / "tiny" / "curves.md").read_text()
    for heading in ("Against random", "The first order", "Everybody against everybody", "What was bought"):
        assert f"## {heading}" in page
    assert "--early 4" in page and (out / "tiny" / "curves.png").exists()
    summary = (out / "summary.md").read_text()
    assert (
        "| tiny | 4 |" in summary and "| margin | " in summary and "missing is missing: there is no data set" in summary
    )
    assert "astrology" not in summary
    assert "\n".join(suite.tables(suite.stored(out))) in summary, "the docs are made from what is stored"
    options = curves.parse(shlex.split(page.split("`")[1])[4:])
    assert (options.early, options.first, options.one_pool, options.trials) == ((4,), "own", False, 5)
    assert "Written to" in capsys.readouterr().out


def test_the_suite_asks_for_what_there_is() -> None:
    known = {name for one in suite.EXPERIMENTS for name in one.samplers if name in SAMPLERS}
    assert {"margin", "entropy", "dast-al", "core-set", "bald"} <= known
    names = [one.name for one in suite.EXPERIMENTS]
    assert len(set(names)) == len(names) and suite.TRIALS >= 10


def test_the_kernel_is_gaussian() -> None:
    """Distances 5 and 0: exp(−25/50) and 1."""
    found = kernel(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]]), 1 / 50)
    assert found == pytest.approx(np.array([[np.exp(-0.5), 1.0]]))


def test_the_svm_reads_pixels() -> None:
    images = np.repeat(np.arange(0, 240, 20, dtype=np.uint8), 64 * 64 * 3).reshape(12, 64, 64, 3)
    labels = (np.arange(12) >= 6).astype(int)
    assert vectors(images).shape == (12, 32 * 32 * 3) and vectors(images)[3, 0] == pytest.approx(60 / 255)
    assert accuracy(images, labels, images, labels) == 1.0
    assert accuracy(images[:2], labels[:2], images, labels) == 0.5, "one class is known"
