"""The demo as a person runs it, and the oracle's eye for a queue in the wrong order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import requests

from backend.reporting.snapshot import snapshot
from backend.settings.core import Settings
from backend.state import Cycle, State, Version
from backend.tasks import KINDS
from benchmarks.data.datasets import Dataset
from demo.annotator import Annotator, Prediction, as_png, data_uri, image_index, image_name
from demo.choices import choices_config, choose
from demo.narration import Narrator
from demo.oracle import Oracle, QueueError, Round
from demo.recognizer import Recognizer
from demo.report import LearnedNothing, check_rise, table
from demo.run import FAILURES, parse, play_oracle, set_up
from demo.subjects import DEMOS
from demo.subjects.base import Result
from demo.subjects.classification import SingleItems
from models.intervals import exact_interval
from samplers import SAMPLERS
from tests.rig.processes import REPOSITORY, children_of
from tests.rig.servers import LabelStudioServer
from tests.rig.waiting import PATIENCE, wait_for

LONG = 800
"""Seconds that a whole demo may take beside a busy machine."""

CLASSES = ("left", "right & wrong")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    images = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1])
    return Dataset(images, labels, images[:2], labels[:2], CLASSES, "noise")


@pytest.fixture
def annotator(label_studio: LabelStudioServer) -> Annotator:
    return Annotator(label_studio.url, label_studio.personal_access_token())


@pytest.fixture
def published(annotator: Annotator, dataset: Dataset) -> Iterator[tuple[int, list[int]]]:
    """A project whose four tasks are ordered by predictions of version "by-hand": its id, and the order."""
    project = annotator.create_project("An order by hand", choices_config(CLASSES))
    annotator.add(project, [(image_name(index), as_png(dataset.train_images[index])) for index in range(4)])
    tasks = [task["id"] for task in annotator.call("GET", "/api/tasks/", params={"project": project})["tasks"]]
    order = [tasks[2], tasks[0], tasks[3], tasks[1]]
    for position, task in enumerate(order):
        body = {"task": task, "result": [], "score": 0.2 + 0.1 * position, "model_version": "by-hand"}
        annotator.call("POST", "/api/predictions/", json=body)
    set_project(annotator, project, model_version="by-hand", sampling="Uncertainty sampling")
    yield project, order
    annotator.call("DELETE", f"/api/projects/{project}/")


def set_project(annotator: Annotator, project: int, **values: str) -> None:
    annotator.call("PATCH", f"/api/projects/{project}/", json=values)


def oracle_of(annotator: Annotator, project: int, dataset: Dataset, directory: Path) -> Oracle:
    state = State(f"sqlite:///{directory / 'state.sqlite3'}")
    return Oracle(annotator, state, project, SingleItems(dataset, np.arange(4)))


def version(name: str) -> Version:
    return Version(1, 1, 0, name, "random", "current", None, [], {}, 0.0, 0.0, None)


CYCLE = Cycle(1, 1, 0, "random", 0, "w", "done", "", 0, 0, 0, 0.0, 1.0, {"labels": 0, "seconds": {"read": 0.5}}, None)


@pytest.mark.slow
def test_a_queue_in_the_published_order_passes(
    annotator: Annotator, published: tuple[int, list[int]], dataset: Dataset, tmp_path: Path
) -> None:
    project, order = published
    oracle = oracle_of(annotator, project, dataset, tmp_path)
    current = oracle.open_round(version("by-hand"), CYCLE, 0.0)
    assert current.published == order
    assert oracle.label(current, 3) == 3
    oracle.check_next(current)
    assert oracle.label(current, 5) == 1  # then none is left
    for task in annotator.call("GET", "/api/tasks/", params={"project": project, "fields": "all"})["tasks"]:
        (annotation,) = task["annotations"]
        truth = CLASSES[dataset.train_labels[image_index(task)]]
        assert annotation["result"][0]["value"]["choices"] == [truth]
        assert annotation["parent_prediction"] == task["predictions"][0]["id"], "as by the editor"


@pytest.mark.slow
def test_generated_images_are_answered_or_skipped_and_counted(
    annotator: Annotator,
    published: tuple[int, list[int]],
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of them at the beginning of the order, the first of which the classifier recognizes."""
    project, order = published
    images = [np.full((9, 9, 3), value, np.uint8) for value in (50, 200)]
    marks = {"synthetic": True, "synthetic_batch": "gaal-c1-00000000"}
    tasks = [
        {"data": {"image": data_uri(as_png(image)), **marks, "synthetic_seed": seed}}
        for seed, image in enumerate(images)
    ]
    annotator.call("POST", f"/api/projects/{project}/import", json=tasks)
    first, second = sorted(annotator.generated(project))
    for score, task in ((0.05, first), (0.1, second)):
        body = {"task": task, "result": [], "score": score, "model_version": "by-hand"}
        annotator.call("POST", "/api/predictions/", json=body)

    def recognize(_: SingleItems, pixels: np.ndarray) -> Result | None:
        return choose([CLASSES[1]]) if (pixels == images[0]).all() else None

    monkeypatch.setattr(SingleItems, "recognize", recognize)
    oracle = oracle_of(annotator, project, dataset, tmp_path)
    current = oracle.open_round(replace(version("by-hand"), sampler="gaal"), CYCLE, 0.0)
    assert current.published == [first, second, *order]
    assert oracle.label(current, 9) == 6
    assert (oracle.recognized, oracle.skipped) == (1, 1)
    (answer,), (skip,) = (annotator.task(task)["annotations"] for task in (first, second))
    assert answer["result"][0]["value"]["choices"] == [CLASSES[1]] and not answer["was_cancelled"]
    assert skip["was_cancelled"]


def test_the_classifier_of_generated_images_answers_where_it_is_sure() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2_000)
    images = rng.integers(0, 100, (2_000, 8, 8)).astype(np.uint8)
    images[labels == 1, :, 4:] += 150
    recognizer = Recognizer(images, labels, 2)
    large = np.repeat(images[:20].repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    assert [recognizer.recognize(image) for image in large] == labels[:20].tolist()
    between = np.full((32, 32, 3), 50, np.uint8)
    between[:, 16:] = 125
    assert recognizer.recognize(between) is None


@pytest.mark.slow
def test_a_queue_in_another_order_is_noticed(
    annotator: Annotator, published: tuple[int, list[int]], dataset: Dataset, tmp_path: Path
) -> None:
    project, order = published
    oracle = oracle_of(annotator, project, dataset, tmp_path)
    current = oracle.open_round(version("by-hand"), CYCLE, 0.0)
    set_project(annotator, project, sampling="Sequential sampling")  # by task number: not what was published
    with pytest.raises(QueueError, match=f"served task {min(order)} .*but task {order[0]} was due"):
        oracle.label(current, 1)
    assert oracle.labeled == set()


@pytest.mark.slow
def test_an_incomplete_or_doubled_order_is_noticed(
    annotator: Annotator, published: tuple[int, list[int]], dataset: Dataset, tmp_path: Path
) -> None:
    project, order = published
    oracle = oracle_of(annotator, project, dataset, tmp_path)
    body = {"task": order[0], "result": [], "score": 0.9, "model_version": "by-hand"}
    double = annotator.call("POST", "/api/predictions/", json=body)["id"]
    with pytest.raises(QueueError, match="5 predictions for 4 tasks"):
        oracle.open_round(version("by-hand"), CYCLE, 0.0)
    annotator.call("DELETE", f"/api/predictions/{double}/")
    oracle.open_round(version("by-hand"), CYCLE, 0.0)
    annotator.add(project, [(image_name(4), as_png(dataset.train_images[4]))])
    oracle.subject = SingleItems(dataset, np.arange(5))
    oracle.open_round(version("by-hand"), CYCLE, 0.0)  # a first order is of what had arrived by then
    trained = replace(version("by-hand"), checkpoint="c1.pt")
    with pytest.raises(QueueError, match="4 predictions, but 5 unlabeled tasks"):
        oracle.open_round(trained, CYCLE, 0.0)


@pytest.mark.slow
def test_a_version_that_does_not_order_the_queue_is_noticed(
    annotator: Annotator, published: tuple[int, list[int]], dataset: Dataset, tmp_path: Path
) -> None:
    oracle = oracle_of(annotator, published[0], dataset, tmp_path)
    with pytest.raises(QueueError, match="orders by 'by-hand'"):
        oracle.open_round(version("another"), CYCLE, 0.0)


def test_a_head_that_is_used_up_is_waited_for_until_more_of_it_is_published(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.oracle.time.sleep", lambda _: None)
    published = iter([[], [], [Prediction(2, 0.5, [])]])
    annotator = SimpleNamespace(predictions=lambda *_: next(published), next_task=lambda _: {"id": 2})
    oracle = oracle_of(cast(Annotator, annotator), 1, dataset, tmp_path)
    oracle.labeled = {1}
    current = Round("by-hand", 0, lambda: None, {}, 0.0, published=[1])
    assert oracle.served(current) == {"id": 2} and current.published == [2] and current.served == 1
    oracle.labeled = {1, 2, 3, 4}
    annotator.next_task = lambda _: None
    assert oracle.served(current) is None, "every image has a label, so nothing is waited for"


def demo(directory: Path, *options: str) -> subprocess.Popen[str]:
    directory.mkdir()
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "demo", *options],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_running(directory: Path) -> list[str]:
    """Command lines of processes that use files below ``directory``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().decode(errors="replace")
                command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if f"{directory}/" in environment and command:
                found.append(command)
    return found


@pytest.mark.slow
def test_the_oracle_labels_what_is_served_and_reports(tmp_path: Path) -> None:
    options = ("--sampler", "random", "--tasks", "40", "--budget", "8", "--rounds", "1", "--held-out", "100")
    run = demo(tmp_path / "tmp", "--oracle", *options)
    output, _ = run.communicate(timeout=LONG)
    assert run.returncode == 0, output
    assert "All 9 tasks were served in the published order" in output
    assert "random-c0-" in output and "random-c1-" in output
    assert re.search(r"Watch it at http://127\.0\.0\.1:\d+", output[: output.index("Connecting the backend")])
    assert list((tmp_path / "tmp").glob("active-learning-demo-*")) == []
    assert left_running(tmp_path) == []


@pytest.mark.long
def test_the_page_that_the_oracle_leaves_says_what_the_oracle_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so many random labels that they are compared. Of what is filled in, the oracle knows whether it is right; of
    the network, how often it is right on 2,000 other images. The page measures that on some 30, so that its interval is
    taken so wide that one run in a thousand would miss it."""
    filled_in: list[bool] = []
    submit = Annotator.submit

    def noting(self: Annotator, task: int, result: Result, shown: Any = ()) -> int:
        if shown and shown[0]["result"]:
            filled_in.append(shown[0]["result"][0]["value"] == result[0]["value"])
        return submit(self, task, result, shown)

    monkeypatch.setattr(Annotator, "submit", noting)
    monkeypatch.setattr(SingleItems, "settings", {"control_fraction": 0.5, "preannotate_above": 0.0})
    words = ("--oracle", "--sampler", "margin", "--tasks", "260", "--budget", "40", "--rounds", "3")
    options = parse([*words, "--held-out", "2000"])
    with ExitStack() as stack:
        site = set_up(options, tmp_path, Narrator(), stack)
        rounds = play_oracle(options, site, Narrator())
        settings = Settings.from_env({"MODEL_DIR": str(site.backend.directory)})
        (found,) = snapshot(site.state, settings)["projects"]
        address = f"{site.backend.url}/projects/{site.project}"
        page = requests.get(address, headers={"Accept": "text/html"}, timeout=60).text
    for row in rounds[1:]:
        assert f"<td>{row.labels} labels</td>" in page, "the curve has a point of each version"

    control, quality = found["control"], rounds[-1].quality
    low, high = exact_interval(round(control["value"] * control["n"]), control["n"], 0.999)
    assert control["n"] >= 20 and quality is not None and low <= quality <= high
    assert f"On <strong>{control['n']}</strong> random images that nothing learned from" in page
    saved = found["labels_saved"]
    assert saved.get("why") or saved["low"] <= saved["value"] <= saved["high"]
    assert ("Labels saved: not known" in page) == ("value" not in saved)

    accepted = found["acceptance"]
    assert accepted["n"] == len(filled_in) > 0
    assert accepted["value"] == pytest.approx(sum(filled_in) / len(filled_in), abs=1e-4)
    assert accepted["sentence"] in page


@pytest.mark.long
def test_the_oracle_paints_what_is_served_and_reports(tmp_path: Path) -> None:
    options = ("--task", "segmentation", "--sampler", "random", "--tasks", "30", "--budget", "5", "--rounds", "1")
    run = demo(tmp_path / "tmp", "--oracle", *options)
    output, _ = run.communicate(timeout=LONG)
    assert run.returncode == 0, output
    assert "All 6 tasks were served in the published order" in output
    assert re.search(r"random-c1-\w+: mean IoU \d+\.\d% of 300 held-out images after 5 labels; \d+\.\d% of", output), (
        output
    )
    assert list((tmp_path / "tmp").glob("active-learning-demo-*")) == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "when", "running"),
    [
        (signal.SIGINT, "Ctrl-C", 3),  # it is ready, with Label Studio, web and worker
        (signal.SIGTERM, "Starting the backend", 1),  # half way there
    ],
)
def test_an_interrupt_ends_everything_it_started(
    tmp_path: Path, number: signal.Signals, when: str, running: int
) -> None:
    run = demo(tmp_path / "tmp", "--tasks", "20", "--sampler", "random")
    assert run.stdout is not None
    seen = ""
    for line in run.stdout:
        seen += line
        if when in line:
            break
    if running == 3:
        assert "/projects/" in seen and "annotator@example.com" in seen, seen
    assert len(children_of(run.pid)) >= running
    run.send_signal(number)
    rest, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, rest
    assert list((tmp_path / "tmp").glob("active-learning-demo-*")) == []
    wait_for("the others to end", lambda: left_running(tmp_path) == [])


def test_options_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (parse(["--oracle"]).budget, parse(["--oracle"]).tasks) == (100, 2_000)
    painting = parse(["--task", "segmentation"])
    assert (painting.budget, painting.tasks) == (10, 400)
    for wrong in (["--rounds", "0"], ["--sampler", "best"], ["--tasks", "-1"], ["--budget", "0"], ["--task", "boxes"]):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert "best" in capsys.readouterr().err
    parse(["--sampler", "ceal"])
    with pytest.raises(SystemExit):
        parse(["--task", "segmentation", "--sampler", "ceal"])
    assert "--sampler ceal is not for segmentation: its pseudo-labels are classes" in capsys.readouterr().err


def test_each_kind_of_task_has_a_sampler_that_serves_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert DEMOS.keys() == KINDS.keys()
    for task in DEMOS:
        assert task not in SAMPLERS[parse(["--task", task]).sampler].refusals
    assert parse(["--task", "multilabel"]).sampler == "margin"
    with pytest.raises(SystemExit):
        parse(["--task", "multilabel", "--sampler", "dast-al"])
    assert "--sampler dast-al is not for multilabel: its semantic augmentation" in capsys.readouterr().err


def a_round(name: str, quality: float | None, agreement: float | None = None) -> Round:
    return Round(name, 40, lambda: quality, {"train": 1.25}, 2.0, agreement)


def test_a_quality_that_did_not_rise_is_a_failure(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    subject, narrator = SingleItems(dataset, np.arange(4)), Narrator()
    check_rise([a_round("c0", None), a_round("c1", 0.2), a_round("c2", 0.1), a_round("c3", 0.3)], subject, narrator)
    assert "Accuracy rose from 20.0% to 30.0%." in capsys.readouterr().out
    for single in ([], [a_round("c0", None)], [a_round("c0", None), a_round("c1", 0.2)]):
        check_rise(single, subject, narrator)
    assert capsys.readouterr().out == ""
    assert issubclass(LearnedNothing, FAILURES), "the demo says it in words and exits with 1"
    for last in (0.2, 0.1):
        rounds = [a_round("c0", None), a_round("c1", 0.2), a_round("c2", 0.4), a_round("c3", last)]
        with pytest.raises(LearnedNothing, match=rf"accuracy did not rise: 20.0% with c1, {last:.1%} with c3"):
            check_rise(rounds, subject, narrator)
    check_rise([a_round("c0", None), a_round("c1", 0.2), a_round("c2", 0.1)], subject, narrator)  # two: it is said only
    assert "accuracy did not rise: 20.0% with c1, 10.0% with c2" in capsys.readouterr().out


def test_the_table_has_the_head_only_where_it_was_looked_at(dataset: Dataset) -> None:
    subject = SingleItems(dataset, np.arange(4))
    plain = table([a_round("c0", None), a_round("c1", 0.25)], subject)
    names = [str(column.header) for column in plain.columns]
    assert names == ["version", "labels", "accuracy", "train s", "waiting s", "served in order"]
    assert list(plain.columns[2].cells) == ["–", "25.0%"] and plain.title is not None
    assert str(plain.title).startswith("Accuracy of 2 held-out images;")
    looked = table([a_round("c0", None), a_round("c1", 0.25, 0.125)], subject)
    assert [str(column.header) for column in looked.columns][2:4] == ["accuracy", "at the head"]
    assert list(looked.columns[3].cells) == ["–", "12.5%"] and list(looked.columns[4].cells) == ["1.2", "1.2"]
