"""The learning curves: what a run may look at, that it goes on where it was cut off, and what the command says."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from backend.errors import SettingsError
from backend.learning.candidates import Candidates
from backend.learning.learner import cycle_seed, random_subset
from benchmarks.curves import command as curves
from benchmarks.curves.answers import Answers
from benchmarks.curves.display import Display
from benchmarks.curves.jobs import Jobs, Watcher, _child, play_all
from benchmarks.curves.plan import CANDIDATES, Plan, PlanError, Run, initial_set, overrides_of, part_of, trial_seed
from benchmarks.curves.report import Results, columns
from benchmarks.curves.run import play
from benchmarks.curves.store import Line, RunStore
from benchmarks.curves.tasks import measure_of
from benchmarks.curves.tasks.classification import Classification
from benchmarks.data.image_sets import prepare
from benchmarks.data.kept_images import ImageSet
from samplers import SAMPLERS
from tests.benchmarks.curves.curves_bench import NOT_COMPARED, Stopped, quiet
from tests.rig.processes import REPOSITORY

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SMALL = {"task_width": 4, "epochs": 1, "vaal_width": 4, "vaal_latent": 4, "vaal_iterations": 2, "vaal_batch_size": 8}
SETS = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
SIZES = ["--initial", "10", "--budget", "5", "--image-size", "16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 25 images of 16 px, noise around a brightness: 60 to learn from, 15 to test on."""
    root = tmp_path_factory.mktemp("three classes")
    draw = np.random.default_rng(0)
    for number, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir()
        for image in range(25):
            pixels = draw.integers(60 * number, 60 * number + 100, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{image:02}.png")
    return root


@pytest.fixture(scope="module")
def images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return ImageSet.open(prepare(str(folder), 16, Path("unused"), tmp_path_factory.mktemp("work"), quiet))


def plan_of(folder: Path, cycles: int = 3, **overrides: object) -> Plan:
    return Plan(str(folder), "digest", initial=10, budget=5, cycles=cycles, overrides={**SMALL, **overrides})


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


def results(lines: Sequence[Line]) -> list[Line]:
    return [{key: value for key, value in line.items() if key not in NOT_COMPARED} for line in lines]


@pytest.mark.parametrize("sampler", ["random", "entropy"])
def test_nothing_is_bought_twice_and_the_pool_is_conserved(
    folder: Path, images: ImageSet, tmp_path: Path, purchases: list[np.ndarray], sampler: str
) -> None:
    plan = replace(plan_of(folder), pool=40)
    task, run = Classification.of(images, plan), Run(sampler, 1)
    lines = play(task, plan, run, tmp_path / "run", CPU, quiet)
    assert [line["labels"] for line in lines] == [10, 15, 20] == plan.labels()
    held = [initial_set(task.pool, 10, trial_seed(0, 1)), *purchases]
    assert [len(np.unique(rows)) for rows in held] == [10, 15, 20]
    assert set(held[0]) < set(held[1]) < set(held[2]) <= set(task.pool)
    unlabeled = np.setdiff1d(task.pool, held[-1])
    assert len(unlabeled) + len(held[-1]) == len(task.pool) == 40


def test_a_run_that_pays_for_other_rows_than_it_holds_is_stopped(
    folder: Path, images: ImageSet, tmp_path: Path
) -> None:
    plan = plan_of(folder)
    task, run = Classification.of(images, plan), Run("random", 1)
    with pytest.raises(Stopped):
        play(task, plan, run, tmp_path, CPU, stop_at(2, "train"))
    store = RunStore(tmp_path)
    rows = store.labeled(1)
    rows[0] = rows[1]
    store.keep_labeled(1, rows, Answers.none())
    with pytest.raises(AssertionError, match="14 of 15"):
        play(task, plan, run, tmp_path, CPU, quiet)


def test_a_trial_starts_from_one_initial_set_and_trials_differ(folder: Path, images: ImageSet, tmp_path: Path) -> None:
    """Equal sets, recipe and seeds: before the first purchase, a sampler that adds no loss is exactly the baseline."""
    plan = plan_of(folder, cycles=1, epochs=3)
    task = Classification.of(images, plan)
    first: dict[Run, float] = {}
    for run in (Run("random", 1), Run("entropy", 1), Run("vaal", 1)):
        first[run] = play(task, plan, run, tmp_path / run.folder, CPU, quiet)[0]["accuracy"]
    assert len(set(first.values())) == 1
    sets = [initial_set(task.pool, 10, trial_seed(0, trial)) for trial in (1, 2, 3)]
    assert not (sets[0] == sets[1]).all() and not (sets[1] == sets[2]).all()
    assert plan.settings(Run("entropy", 2)) == replace(plan.settings(Run("random", 2)), sampler="entropy")


def test_the_initial_set_is_uniform_over_the_pool() -> None:
    """3 of 6 rows in 3,000 draws: each 1,500 times, with a standard deviation of √(3000 · ¼) = 27."""
    pool = np.array([2, 3, 5, 7, 11, 13])
    drawn = np.concatenate([initial_set(pool, 3, seed) for seed in range(3000)])
    counts = np.bincount(drawn, minlength=14)[pool]
    assert counts.sum() == 9000 and abs(counts - 1500).max() < 5 * 27


@pytest.mark.parametrize("sampler", ["entropy", "vaal"])
def test_labels_that_were_not_bought_and_those_of_the_test_change_no_choice(
    folder: Path, images: ImageSet, tmp_path: Path, purchases: list[np.ndarray], sampler: str
) -> None:
    plan = plan_of(folder, cycles=2)
    run = Run(sampler, 1)
    task = Classification.of(images, plan)
    poisoned = (images.train_labels + 1) % 3
    initial = initial_set(task.pool, 10, trial_seed(0, 1))
    poisoned[initial] = images.train_labels[initial]
    other = replace(images, train_labels=poisoned, test_labels=(images.test_labels + 1) % 3)
    for number, one in enumerate((images, other)):
        play(replace(task, images=one), plan, run, tmp_path / str(number), CPU, quiet)
    assert purchases[0].tolist() == purchases[1].tolist() and len(purchases) == 2


def test_a_purchase_is_from_the_random_subset(
    folder: Path, images: ImageSet, tmp_path: Path, purchases: list[np.ndarray]
) -> None:
    plan = plan_of(folder, subset=6)
    task, run = Classification.of(images, plan), Run("entropy", 1)
    play(task, plan, run, tmp_path, CPU, quiet)
    held = [initial_set(task.pool, 10, trial_seed(0, 1)), *purchases]
    subsets = []
    for cycle, (before, after) in enumerate(pairwise(held), start=1):
        unlabeled = np.setdiff1d(task.pool, before)
        seed = cycle_seed(trial_seed(0, 1), cycle)
        subsets.append(set(unlabeled[random_subset(len(unlabeled), 6, seed)]))
        assert set(after) - set(before) < subsets[-1]
    assert subsets[0] != subsets[1], "drawn anew in each cycle"


def test_an_arm_says_how_the_subset_is_chosen(
    folder: Path, images: ImageSet, tmp_path: Path, purchases: list[np.ndarray]
) -> None:
    plan = plan_of(folder, subset=6)
    of = {name: plan.settings(Run(f"margin@{name}", 1)) for name in CANDIDATES}
    assert [one.subset for one in of.values()] == [0, 6, 6, 6]
    assert [of[name].candidates for name in CANDIDATES[1:]] == list(CANDIDATES[1:])
    asked: list[np.ndarray] = []
    original = Candidates.of

    def chosen(self: Candidates, rows: np.ndarray, size: int) -> np.ndarray:
        found = original(self, rows, size)
        asked.append(rows[found])
        assert (self.previous is None) == (len(asked) == 1), "the first purchase has no network before it"
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Candidates, "of", chosen)
        play(Classification.of(images, plan), plan, Run("entropy@uncertainty", 1), tmp_path, CPU, quiet)
    assert [len(rows) for rows in asked] == [6, 6, 6]
    bought = set(purchases[1]) - set(purchases[0])
    assert bought < set(asked[1]) and len(bought) == 5


def stop_at(cycle: int, phase: str) -> Callable[[int, str, int, int], None]:
    def hook(now: int, what: str, done: int, total: int) -> None:
        if (now, what) == (cycle, phase):
            raise Stopped

    return hook


@pytest.mark.parametrize("sampler", ["entropy", "vaal"])
def test_a_run_that_was_cut_off_gives_the_numbers_of_one_that_was_not(
    folder: Path, images: ImageSet, tmp_path: Path, sampler: str
) -> None:
    """Cut off in the first cycle, between a purchase and the next training, while testing, and in mid-line."""
    plan, run = plan_of(folder), Run(sampler, 1)
    task = Classification.of(images, plan)
    whole = play(task, plan, run, tmp_path / "whole", CPU, quiet)
    cut = tmp_path / "cut"
    for hook in (stop_at(1, "train"), stop_at(2, "train"), stop_at(2, "test"), stop_at(3, "test")):
        with pytest.raises(Stopped):
            play(task, plan, run, cut, CPU, hook)
    with (cut / "results.jsonl").open("ab") as file:
        file.write(b'{"sampler": "en')
    assert len(RunStore(cut).lines()) == 2
    assert sorted(path.name for path in cut.glob("*-*")) == ["labelled-2.npy", "learner-2.pt"], "earlier ones removed"
    assert results(play(task, plan, run, cut, CPU, quiet)) == results(whole)
    assert not list(cut.glob("*-*")), "after the last cycle nothing is needed"
    assert play(task, plan, run, cut, CPU, stop_at(1, "train")) == RunStore(cut).lines(), "nothing is left to do"


def command(folder: Path, root: Path, *more: str) -> list[str]:
    kept = ["--work", str(root / "work"), "--out", str(root / "out")]
    before = ["--first", "chance", "--one-pool"]
    return ["--dataset", str(folder), "--devices", "cpu", *before, *SIZES, *SETS, *kept, *more]


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_command_goes_on(folder: Path, images: ImageSet, tmp_path: Path) -> None:
    """SIGKILL to the process that shows the bars, after the first finished cycle; what it started ends with it."""
    arguments = command(folder, tmp_path, "--samplers", "vaal", "--cycles", "40", "--budget", "1", "--trials", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "curves", *arguments], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    try:
        while not (found := list((tmp_path / "work" / "runs").glob("*/*/results.jsonl"))) or not found[0].read_bytes():
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = RunStore(found[0].parent)
    with store.held():  # waits until nobody has the run any more
        done = len(store.lines())
    assert 1 <= done < 40, "the run went on without its parent"
    plan = replace(plan_of(folder, cycles=40), budget=1)
    run = Run("vaal", 1)
    task = Classification.of(images, plan)
    short = replace(plan, cycles=done + 1)  # the same numbers, and no need to wait for the rest
    whole = play(task, short, run, tmp_path / "whole", CPU, quiet)
    assert results(play(task, short, run, store.folder, CPU, quiet)) == results(whole)


class Heard:
    """A watcher that remembers, and kills the process of one run when it has started."""

    def __init__(self, victim: Run) -> None:
        self.victim = victim
        self.done: list[Run] = []
        self.words: dict[Run, str] = {}
        self.phases: set[str] = set()

    def started(self, run: Run, device: str) -> None:
        for process in multiprocessing.active_children():
            if run == self.victim and process.name == run.folder:
                process.kill()

    def phase(self, run: Run, cycle: int, phase: str, done: int, total: int) -> None:
        self.phases.add(phase)

    def finished(self, run: Run, lines: list[Line]) -> None:
        self.done.append(run)

    def failed(self, run: Run, words: str, details: str) -> None:
        self.words[run] = words


@pytest.mark.long
def test_a_run_that_dies_takes_no_other_with_it(folder: Path, tmp_path: Path) -> None:
    made = prepare(str(folder), 16, Path("unused"), tmp_path, quiet)
    good, killed = Run("entropy", 1), Run("entropy", 2)
    heard = Heard(killed)
    jobs = Jobs(["cpu", "cpu"], 1, made, tmp_path / "runs")
    failures = play_all(plan_of(folder), [killed, good], jobs, heard)
    assert heard.done == [good] and failures == heard.words
    assert failures == {killed: "its process was ended by SIGKILL (out of memory?)"}
    assert {"train", "test", "score"} <= heard.phases
    assert len(RunStore(tmp_path / "runs" / good.folder).lines()) == 3


def test_what_a_run_raises_is_handed_on_in_words(folder: Path, tmp_path: Path) -> None:
    made = prepare(str(folder), 16, Path("unused"), tmp_path, quiet)
    ours, theirs = multiprocessing.Pipe()
    _child(
        theirs, plan_of(folder), [Run("astrology", 1)], "cpu", Jobs(["cpu"], torch.get_num_threads(), made, tmp_path)
    )
    kind, words, details = ours.recv()
    assert kind == "failed" and words.startswith("SettingsError: ") and "astrology" in words
    assert "Traceback" in details


def play_here(plan: Plan, runs: Sequence[Run], jobs: Jobs, watcher: Watcher) -> dict[Run, str]:
    """play_all without processes."""
    task = Classification.of(ImageSet.open(jobs.images), plan)
    failures = {}
    for run in runs:
        watcher.started(run, "cpu")
        if (run.sampler, run.trial) == ("entropy", 3):
            failures[run] = "OSError: no disk"
            watcher.failed(run, failures[run], "")
            continue

        def progress(cycle: int, phase: str, done: int, total: int, run: Run = run) -> None:
            watcher.phase(run, cycle, phase, done, total)

        watcher.finished(run, play(task, plan, run, jobs.runs / run.folder, CPU, progress))
    return failures


def test_from_the_command_to_the_page(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(curves, "play_all", play_here)
    asked = command(folder, tmp_path, "--samplers", "entropy,random", "--cycles", "2")
    assert curves.main([*asked, "--trials", "2"]) == 0
    out = tmp_path / "out"
    rows = list(csv.DictReader(io.StringIO((out / "curves.csv").read_text())))
    keys = [(row["sampler"], row["trial"], row["cycle"], row["labels"]) for row in rows]
    assert keys == [(s, t, c, n) for s in ("random", "entropy") for t in "12" for c, n in (("1", "10"), ("2", "15"))]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["peak_rss_mib"]) > 1 for row in rows)
    assert {row["score_seconds"] == "" for row in rows if row["cycle"] == "2"} == {True}, "nothing is bought at the end"
    page = (out / "curves.md").read_text()
    assert "| entropy | " in page and "**random**" in page and "random here" in page and "--set epochs=1" in page
    with Image.open(out / "curves.png") as picture:
        assert min(picture.size) > 300
    assert "Starting" in capsys.readouterr().out

    table = (out / "curves.csv").read_text()
    assert curves.main([*asked, "--trials", "2"]) == 0  # nothing is left to do
    assert (out / "curves.csv").read_text() == table and "8 of 8 cycles" in capsys.readouterr().out

    assert curves.main([*asked, "--trials", "3"]) == 1  # goes on with a third trial, in which one fails
    said = capsys.readouterr()
    assert "8 of 12 cycles" in said.out and "no disk" in said.err
    assert "entropy, trial 3: OSError: no disk" in (out / "curves.md").read_text()

    assert curves.main([*asked, "--seed", "1"]) == 2  # other options: the results are not overwritten
    assert "other options (seed)" in capsys.readouterr().err
    (stale := next((tmp_path / "work" / "runs").iterdir()) / "first-order-1.npy").touch()
    assert curves.main([*asked, "--fresh", "--trials", "1"]) == 0
    assert not stale.exists() and len(list(stale.parent.glob("*-trial-*"))) == 2

    assert curves.main([*asked, "--seed", "1", "--replace", "--trials", "1"]) == 0
    assert json.loads((out / "plan.json").read_text())["seed"] == 1
    assert "Starting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--samplers", "entropy,astrology"], "unknown sampler astrology: choose of random"),
        (["--set", "task_widht=4"], 'unknown key "task_widht"'),
        (["--set", "epochs=many"], "--set: epochs must be a whole number"),
        (["--set", "device=cpu"], "use --devices"),
        (["--set", "sampler=vaal"], "use --samplers"),
        (["--set", "epochs"], "key=value"),
        (["--cycles", "12"], "10 labels and 11 purchases of 5 are 65, and the pool has 60 images"),
        (["--pool", "61"], "61 images are asked for, and the data set has 60"),
        (["--set", "subset=4"], "less than --budget 5"),
        (["--samplers", "entropy@uncertainty"], "give its size with --set subset=N"),
        (["--samplers", "entropy@nearby", "--set", "subset=9"], "unknown sampler entropy@nearby"),
        (["--image-size", "8"], "image_size must be 0, or 16 to 1024"),
        (["--devices", "cuda:99"], "there is no device cuda:99 here"),
        (["--dataset", "fashion-scenes"], "fashion-scenes holds images with masks: it is for --task segmentation"),
        (["--dataset", "mnits"], "there is no data set 'mnits': choose one of fashion-mnist"),
    ],
)
def test_what_cannot_be_honored_is_refused_in_words(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert curves.main(command(folder, tmp_path, *more)) == 2
    assert words in capsys.readouterr().err


def test_settings_are_read_as_a_project_has_them() -> None:
    given = overrides_of(["preset=ta-vaal-cifar10", "warm_start=true", "isda_lambda=2", "covariance=full"])
    assert given == {"preset": "ta-vaal-cifar10", "warm_start": True, "isda_lambda": 2, "covariance": "full"}
    settings = Plan("d", "", 10, 5, 2, overrides=given).settings(Run("dast-al", 1))
    assert (settings.sampler, settings.budget, settings.epochs, settings.warm_start) == ("dast-al", 5, 200, True)
    with pytest.raises(SettingsError, match="per project"):
        overrides_of(["model_dir=x"])


def test_the_digest_changes_with_every_option(folder: Path) -> None:
    plan = plan_of(folder)
    changes: dict[str, object] = {
        "dataset": "x",
        "data_digest": "x",
        "kind": "cuda",
        "overrides": {},
        "task": "segmentation",
        "first": "own",
        "early": (3, 5),
        "redraw": True,
        "independent": True,
    }
    numbers = ("initial", "budget", "cycles", "seed", "pool", "test", "image_size", "bank")
    plans = [replace(plan, **{key: value}) for key, value in {**changes, **dict.fromkeys(numbers, 77)}.items()]
    assert len({plan.digest, *(one.digest for one in plans)}) == 1 + len(changes) + len(numbers)
    assert len(changes) + len(numbers) == len(Plan.__dataclass_fields__)
    assert plan.digest == plan_of(folder).digest


def test_experiments_from_before_there_was_anything_else_are_found_again() -> None:
    """The kept results: their digest names the folder of their runs, and the same options say the same."""
    kept = curves.RESULTS / "fashion-mnist"
    there = json.loads((kept / "plan.json").read_text())
    plan = Plan.of_facts({key: value for key, value in there.items() if key != "digest"})
    assert plan.digest == there["digest"] == "055ee5c28d96"
    assert {"digest": plan.digest, **plan.facts()} == there, "plan.json would be written again as it is"
    page = (kept / "curves.md").read_text()
    options = curves.parse(shlex.split(page.split("`")[1])[4:])
    assert curves._output(options, plan, Display()) == kept
    with (kept / "curves.csv").open() as file:
        assert tuple(next(csv.reader(file))) == columns(measure_of(plan))
    lines = [{"sampler": name, "trial": 3} for name, sampler in SAMPLERS.items() if not sampler.generates]
    assert curves._command(plan, Results(plan, lines, {}), options) == page.split("`")[1]


def test_what_differs_from_the_results_that_are_there_is_named(tmp_path: Path) -> None:
    options = curves.parse(["--dataset", "d", "--out", str(tmp_path)])
    plan = Plan("d", "", 10, 5, 2)
    for there, ours in ((plan, replace(plan, task="segmentation")), (replace(plan, task="segmentation"), plan)):
        (tmp_path / "plan.json").write_text(json.dumps({"digest": there.digest, **there.facts()}))
        with pytest.raises(PlanError, match=r"other options \(task\)"):
            curves._output(options, ours, Display())


def test_a_part_is_drawn_without_replacement() -> None:
    rows = np.arange(100, 150)
    part = part_of(rows, 20, seed=1, which=0)
    assert len(np.unique(part)) == 20 and set(part) < set(rows)
    assert part.tolist() != part_of(rows, 20, seed=1, which=1).tolist()
    assert part_of(rows, 0, 1, 0).tolist() == rows.tolist()
    with pytest.raises(PlanError):
        part_of(rows, 51, 1, 0)


def test_jobs_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert curves._places("cpu", 0) == (["cpu"] * cores, 1)
    assert curves._places("cpu", 1) == (["cpu"], cores)
    assert curves._places("cpu", 4 * cores) == (["cpu"] * 4 * cores, 1)


def test_the_time_to_go_is_at_the_pace_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of four runs after two minutes: six to go."""
    display, runs = Display(), [Run("random", trial) for trial in range(1, 5)]
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with display.running(Plan("d", "", 10, 5, 1), runs, runs):
        display.started(runs[0], "cpu")
        now[0] = 120.0
        display.finished(runs[0], [{"accuracy": 0.5, "labels": 10}])
    assert "1 of 4 runs, about 6 min to go" in capsys.readouterr().out


def test_results_of_other_options_stay_where_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder for a data set's results is taken by another command's: these get one that their digest names."""
    monkeypatch.setattr(curves, "RESULTS", tmp_path)
    plan = plan_of(folder)
    there = tmp_path / curves._safe(str(folder))
    options = curves.parse(["--dataset", str(folder)])
    assert curves._output(options, plan, Display()) == there
    there.mkdir()
    for digest, expected in ((plan.digest, there), ("another", tmp_path / f"{there.name}-{plan.digest}")):
        (there / "plan.json").write_text(json.dumps({"digest": digest}))
        assert curves._output(options, plan, Display()) == expected
    assert "holds the curves of other options" in capsys.readouterr().out


def test_a_terminal_shows_a_bar_for_each_run_and_one_for_all() -> None:
    shown = io.StringIO()
    display = Display(Console(file=shown, force_terminal=True, width=120))
    runs = [Run("random", 1), Run("vaal", 1), Run("vaal", 2)]
    with display.running(Plan("d", "", 10, 5, 4), runs, runs[1:]):
        display.started(runs[1], "cuda:0")
        display.phase(runs[1], 3, "train", 7, 9)
        assert display._bars is not None
        bars = {task.description: (task.completed, task.total) for task in display._bars.tasks}
        # random's four cycles were stored, two of vaal's are over
        assert bars == {"all cycles": (6, 12), "vaal, trial 1, cycle 3 of 4: train": (7, 9)}
        display.failed(runs[1], "OSError: no disk", "")
        assert len(display._bars.tasks) == 1
    assert "all cycles" in shown.getvalue()
