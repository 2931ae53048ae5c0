"""A cycle of several choices for each image, against a real Label Studio: what is learnt, kept, published, answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from label_studio_sdk.label_interface import LabelInterface

from backend import cycle, joining
from backend.errors import LabelStudioUnavailable
from backend.files import predictions_folder
from backend.labelstudio import http as labelstudio_http
from backend.learning.checkpoints import sweep_leftovers
from backend.learning.learner import Learner
from backend.learning.scores import priority_scores
from backend.reporting.snapshot import snapshot
from backend.state import Cycle, Version
from backend.tasks import kept_probabilities
from backend.tasks.kept_probabilities import KeptProbabilities
from backend.web.app import create_app
from backend.worker import publisher, reading_back
from backend.worker.images import open_images
from backend.worker.sync import read_truth
from models.data import Runtime
from models.files import DRAFT
from tests.backend.workbench import OWNER, Workbench, add_tasks, annotate, tags_config, ticked, workbench
from tests.integration.helpers import choices_config
from tests.rig.servers import LabelStudioServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow_networks")]

TASKS, THRESHOLD = 16, 0.3
BULK = ("POST", "/import/predictions$")
CPU = torch.device("cpu")


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """The owner named no sampler."""
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    settings = {"shortlist": 3, "epochs": 6, "multilabel_threshold": THRESHOLD}
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, several=True, **settings) as made:
        yield made


def tick(bench: Workbench, count: int) -> list[int]:
    """Annotates the ``count`` unlabeled tasks with the smallest ids: each with its own class, every other one with the
    last class too."""
    tasks = bench.project.tasks()
    chosen = sorted(bench.project.unlabelled())[:count]
    for place, task in enumerate(chosen):
        labels = {tasks[task]["data"]["kind"]} | ({bench.project.classes[-1]} if place % 2 else set())
        annotate(bench, task, ticked(sorted(labels)))
    return chosen


def newest(bench: Workbench) -> Cycle:
    return bench.state.cycles.recent(bench.project.id)[0]


def predicted(bench: Workbench, version: Version, tasks: Sequence[int]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Task → probability of each class (C,), and the acquisition (N,), computed again from the checkpoint."""
    learner = Learner.load(str(version.checkpoint), CPU)
    assert learner.task == "multilabel"
    cache = open_images(bench.job, read_truth(bench.job), lambda *_: None)
    acquisition, found = learner.score(cache.pixels, cache.rows(tasks), Runtime(CPU, 0))
    return dict(zip(tasks, found.predicted, strict=True)), acquisition


def kept(bench: Workbench, version: Version) -> KeptProbabilities:
    found = KeptProbabilities.open(predictions_folder(bench.job.folder, version.name))
    assert found is not None
    return found


def ticks(result: list[dict[str, Any]]) -> set[str]:
    return {choice for region in result for choice in region["value"]["choices"]}


def over_threshold(classes: Sequence[str], probabilities: np.ndarray) -> set[str]:
    return {name for name, p in zip(classes, probabilities, strict=True) if p >= THRESHOLD}


def check_out(bench: Workbench, version: Version) -> None:
    """What Label Studio holds of ``version`` is whole, valid, in order, and ticks what the model predicts."""
    assert bench.project.missing_predictions(version.name) == ""
    assert bench.project.published_order(version.name) == bench.order(version)
    interface = LabelInterface(bench.project.info()["label_config"])
    probabilities, _ = predicted(bench, version, sorted(bench.order(version)))
    items = bench.project.predictions(version.name)
    for item in items:
        assert interface.validate_prediction({key: item[key] for key in ("result", "score", "model_version")})
        assert ticks(item["result"]) == over_threshold(bench.project.classes, probabilities[item["task"]])
    assert any(item["result"] for item in items), "nothing was ticked: this would prove nothing"


def test_a_cycle_learns_every_tick_and_publishes_every_other_task(bench: Workbench) -> None:
    labeled = tick(bench, 5)
    (empty,) = sorted(bench.project.unlabelled())[:1]
    annotate(bench, empty, [])  # none of the classes
    skipped = sorted(bench.project.unlabelled())[0]
    annotate(bench, skipped, ticked(["apple"]), was_cancelled=True)
    version = cycle.run_cycle(bench.job)
    done = newest(bench)
    assert (done.status, done.labels, done.error, done.sampler) == ("done", 6, None, "margin")
    assert version.name == f"margin-c{done.number}-{version.name[-8:]}" and version.sampler == "margin"
    assert (version.metrics["task"], version.metrics["frame"]) == ("multilabel", [32, 32])

    pool = [task for task in bench.tasks if task not in {*labeled, empty}]
    assert sorted(bench.order(version)) == pool and skipped in pool
    probabilities, acquisition = predicted(bench, version, pool)
    rows = {row.task_id: row for row in bench.state.scores.all(version)}
    scores = dict(zip(pool, priority_scores(acquisition, 0).tolist(), strict=True))
    assert {task: row.priority_score for task, row in rows.items()} == pytest.approx(scores, rel=1e-5)
    for task, row in rows.items():
        p = probabilities[task]
        assert row.label is None  # several may be: they are kept alongside the checkpoint
        assert row.confidence == pytest.approx(np.maximum(p, 1 - p).mean(), rel=1e-5)
        assert list((kept(bench, version).probabilities(task) or {}).values()) == pytest.approx(p.tolist(), rel=1e-5)
    check_out(bench, version)
    assert read_truth(bench.job).new_annotations == 0

    (project,) = snapshot(bench.state, bench.job.settings)["projects"]
    assert (project["sampler"], project["task"], project["frame"]) == ("margin", "multilabel", [32, 32])
    second = cycle.run_cycle(bench.job.reread())
    assert second.cycle == version.cycle + 1
    check_out(bench, second)


def test_the_first_order_needs_no_tick(bench: Workbench) -> None:
    version = cycle.cold_start(bench.job, read_truth(bench.job))
    assert version.name.startswith("margin-c0-") and newest(bench).sampler == "margin"
    assert bench.project.published_order(version.name) == bench.order(version) != bench.tasks
    assert all(item["result"] == [] for item in bench.project.predictions(version.name))
    assert not predictions_folder(bench.job.folder, version.name).exists()


@pytest.mark.parametrize("moment", [pytest.param("half written", marks=pytest.mark.long), "no row points to them"])
def test_probabilities_that_a_kill_leaves_are_swept(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    tick(bench, 4)
    first = cycle.run_cycle(bench.job)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def half_a_file(path: Path) -> Iterator[None]:
        path.with_name(path.name + DRAFT).write_bytes(b"half")
        die()
        yield

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment == "half written":
            patched.setattr(kept_probabilities, "whole_file", half_a_file)
        else:
            patched.setattr(bench.state.versions, "add", die)
        cycle.run_cycle(bench.job.reread())
    answers = bench.job.folder / "answers"
    (answers / first.name / "cut-off.draft").write_bytes(b"half")  # as a kill leaves it
    assert len(list(answers.iterdir())) == 2
    sweep_leftovers(bench.job.folder, {first.name})
    assert [path.name for path in answers.iterdir()] == [first.name]
    assert [path.suffix for path in (answers / first.name).iterdir()] == [".probabilities"]
    check_out(bench, first)
    assert cycle.run_cycle(bench.job.reread()).status == "current"


def test_new_tasks_join_with_their_probabilities(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    tick(bench, 4)
    version = cycle.run_cycle(bench.job)
    before = {task: kept(bench, version).probabilities(task) for task in bench.order(version)}
    add_tasks(bench.project, 5, pictures=True, seed=7)
    truth = read_truth(bench.job)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # the file is there, its scores are not
        patched.setattr(bench.state.scores, "add", die)
        joining.join_new_tasks(bench.job, version, truth)
    assert joining.join_new_tasks(bench.job, version, truth) == 5
    assert joining.join_new_tasks(bench.job, version, truth) == 0
    assert {task: kept(bench, version).probabilities(task) for task in before} == before
    assert len(list(predictions_folder(bench.job.folder, version.name).iterdir())) == 2
    publisher.complete(bench.job, version)
    check_out(bench, version)


def test_publishing_that_is_cut_off_goes_on_under_the_label_config_of_then(bench: Workbench) -> None:
    tick(bench, 4)
    bench.proxy.set(*BULK, cut="before", stays=True)
    with pytest.raises(LabelStudioUnavailable):
        cycle.run_cycle(bench.job)
    bench.proxy.clear()
    apple, pear, plum = bench.project.classes
    version = bench.state.versions.unpublished(bench.project.id)
    assert version is not None
    probabilities, _ = predicted(bench, version, sorted(bench.order(version)))
    bench.ask_for(tags_config(("quince", pear, apple, plum)))  # Label Studio keeps choices that were used
    publisher.publish(bench.restarted(), version)
    assert bench.project.missing_predictions(version.name) == ""
    for item in bench.project.predictions(version.name):
        expected = over_threshold((apple, pear, plum), probabilities[item["task"]])
        assert ticks(item["result"]) == expected
        if item["task"] not in bench.order(version)[:3]:  # the shortlist went out before
            now = [name for name in ("quince", pear, apple, plum) if name in expected]
            assert [choice for region in item["result"] for choice in region["value"]["choices"]] == now


def test_predict_answers_with_what_is_kept_and_for_new_tasks_with_the_model(bench: Workbench) -> None:
    tick(bench, 4)
    version = cycle.run_cycle(bench.job)
    old = bench.order(version)
    add_tasks(bench.project, 2, pictures=True, seed=3)
    new = sorted(set(bench.tasks) - {*old, *bench.tasks[:4]})
    assert len(new) == 2
    info = bench.project.info()
    gateway = bench.job.gateway
    access = {"label_studio_url": gateway.url, "label_studio_api_key": gateway._token}
    app = create_app(replace(bench.job.settings, multilabel_threshold=THRESHOLD, **access))
    body = {
        "tasks": [task for number, task in sorted(bench.project.tasks().items()) if number in {*old, *new}],
        "project": bench.job.project.key,
        "label_config": info["label_config"],
    }
    response = app.test_client().post("/predict", json=body)
    assert response.status_code == 200
    entries = dict(zip((task["id"] for task in body["tasks"]), response.json["results"], strict=True))
    published = {item["task"]: item for item in bench.project.predictions(version.name)}
    for task in old:
        assert entries[task]["result"] == published[task]["result"]
        assert entries[task]["score"] == published[task]["score"]
    probabilities, _ = predicted(bench, version, new)
    for task in new:
        assert entries[task]["model_version"] == version.name and 0 < entries[task]["score"] <= 1
        assert ticks(entries[task]["result"]) == over_threshold(bench.project.classes, probabilities[task])


def test_from_one_class_to_several_and_back(bench: Workbench) -> None:
    """The owner changes one attribute of the label config; the annotations are read again, and no model goes on as one
    of the other kind."""
    classes = bench.project.classes
    tasks = bench.project.tasks()
    for task in bench.tasks[:5]:
        bench.project.annotate(task, tasks[task]["data"]["kind"])
    bench.ask_for(choices_config(classes))
    first = cycle.run_cycle(bench.job.reread())
    assert first.metrics["task"] == "classification" and first.name.startswith("uherding-c")
    assert {row.label for row in bench.state.scores.all(first)} <= set(classes)

    bench.ask_for(tags_config(classes))
    annotate(bench, bench.tasks[5], ticked(classes[:2]))
    add_tasks(bench.project, 2, pictures=True, seed=9)
    truth = read_truth(bench.job)
    assert len(truth.labels) == 6 and truth.labels[bench.tasks[5]] == frozenset(classes[:2])
    assert joining.join_new_tasks(bench.job, first, truth) == 2  # in an order of which they know nothing: by chance
    publisher.complete(bench.job, first)
    second = cycle.run_cycle(bench.job.reread())
    assert second.metrics["task"] == "multilabel" and second.name.startswith("margin-c")
    check_out(bench, second)

    bench.ask_for(choices_config(classes))
    truth = read_truth(bench.job)
    assert bench.tasks[5] not in truth.labels and len(truth.labels) == 5  # two ticks are no class
    third = cycle.run_cycle(bench.job.reread())
    assert third.metrics["task"] == "classification"
    assert all(len(ticks(item["result"])) == 1 for item in bench.project.predictions(third.name))
    assert [one.status for one in bench.state.cycles.recent(bench.project.id)] == ["done"] * 3
    bench.state.versions.drop_drafts(bench.project.id, OWNER)
    assert [version.name for version in bench.state.versions.of_project(bench.project.id)] == [
        third.name, second.name, first.name,
    ]  # fmt: skip
