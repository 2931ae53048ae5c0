"""One cycle step by step, against a real Label Studio: what is stored when, what a cut leaves behind, who joins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend import cycle, labelstudio_http, publisher
from backend.errors import BackendError, LabelStudioUnavailable, NoLabels, Stopped
from backend.learner import Learner
from backend.scores import to_published
from backend.state import Cycle, Version
from backend.truth import open_images, read_truth
from benchmarks.servers import LabelStudioServer
from models.data import Runtime
from tests.backend.workbench import OWNER, Workbench, add_tasks, label, workbench
from tests.integration.helpers import choices_config

pytestmark = pytest.mark.slow

TASKS = 16
BULK = ("POST", "/import/predictions$")


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(publisher, "SETTLE_SECONDS", 1.0)
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, sampler="entropy", shortlist=3) as made:
        yield made


def newest(bench: Workbench) -> Cycle:
    return bench.state.cycles(bench.project.id)[0]


def files(bench: Workbench) -> list[str]:
    return sorted(path.name for path in (bench.job.folder / "checkpoints").glob("*"))


def expected(bench: Workbench, version: Version, tasks: list[int]) -> dict[int, float]:
    """Task → score, computed anew from the checkpoint."""
    assert version.checkpoint is not None
    learner = Learner.load(version.checkpoint, torch.device("cpu"))
    cache = open_images(bench.job, read_truth(bench.job), lambda *_: None)
    acquisition, _ = learner.score(cache.pixels, cache.rows(tasks), Runtime(torch.device("cpu"), 0))
    return dict(zip(tasks, to_published(acquisition, 0).tolist(), strict=True))


def test_a_cycle_learns_from_every_label_and_publishes_every_other_task(bench: Workbench) -> None:
    labelled = label(bench, 5)
    version = cycle.run_cycle(bench.job)
    done = newest(bench)
    assert (done.status, done.labels, done.error) == ("done", 5, None)
    assert {"read", "images", "train", "score", "publish"} <= set(done.metrics["seconds"])
    assert version.name == f"entropy-c{done.number}-{version.name[-8:]}" and files(bench) == [f"{version.name}.pt"]
    pool = [task for task in bench.tasks if task not in labelled]
    assert sorted(bench.order(version)) == pool
    assert bench.project.published_order(version.name) == bench.order(version)
    scores = {row.task_id: row.score for row in bench.state.all_scores(version)}
    assert scores == pytest.approx(expected(bench, version, pool), rel=1e-6)
    assert bench.state.project(bench.project.id).new_annotations == 0  # type: ignore[union-attr]
    assert len(bench.state.seen_annotations(bench.project.id)) == 5


@pytest.mark.parametrize("sampler", ["dast-al", "random"])
def test_the_first_order_needs_no_label(bench: Workbench, sampler: str) -> None:
    version = cycle.cold_start(bench.with_settings(sampler=sampler), read_truth(bench.job))
    assert version.name.startswith(f"{sampler}-c0-") and version.checkpoint is None and files(bench) == []
    scores = [row.score for row in bench.state.all_scores(version)]
    assert scores == pytest.approx((np.arange(TASKS) + 0.5) / TASKS)  # evenly spread over (0, 1)
    assert bench.project.published_order(version.name) == bench.order(version) != bench.tasks


def test_without_labels_a_cycle_says_so_and_changes_nothing(bench: Workbench) -> None:
    bench.project.annotate(bench.tasks[0], "apple", was_cancelled=True)  # a skip is no label
    with pytest.raises(NoLabels, match="label a few tasks first"):
        cycle.run_cycle(bench.job)
    assert (newest(bench).status, bench.state.versions(bench.project.id), files(bench)) == ("failed", [], [])


def test_what_is_stopped_in_training_leaves_all_due(bench: Workbench) -> None:
    label(bench, 4)

    def show(phase: str, done: int, total: int) -> None:
        if phase == "train" and done:
            raise Stopped("the worker was asked to stop")

    with pytest.raises(Stopped):
        cycle.run_cycle(replace(bench.job, show=show))
    assert (newest(bench).status, newest(bench).phase) == ("interrupted", "train")
    assert bench.state.versions(bench.project.id) == [] and bench.state.seen_annotations(bench.project.id) == {}
    assert read_truth(bench.job).new_annotations == 4


def test_what_fails_while_publishing_is_never_learnt_again(bench: Workbench) -> None:
    label(bench, 4)
    bench.proxy.set(*BULK, cut="before", stays=True)
    with pytest.raises(LabelStudioUnavailable):
        cycle.run_cycle(bench.job)
    assert newest(bench).status == "failed"
    assert read_truth(bench.job).new_annotations == 0
    version = bench.state.unpublished_version(bench.project.id)
    assert version is not None and version.status == "publishing"
    bench.proxy.clear()
    publisher.publish(bench.restarted(), version)
    assert bench.project.missing_predictions(version.name) == ""
    bench.state.finish_resumed(bench.project.id, OWNER, version.metrics)
    assert (newest(bench).status, newest(bench).error) == ("done", None)


@pytest.mark.parametrize("moment", ["the checkpoint is half written", "no row points to it", "its scores are half in"])
def test_what_a_kill_before_the_version_is_there_leaves_is_swept(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    label(bench, 4)
    first = cycle.run_cycle(bench.job)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt  # nothing of ours catches it on the way, as nothing catches a kill

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if moment.startswith("the checkpoint"):
            patched.setattr(torch, "save", half_a_file(die))
        elif moment.startswith("no row"):
            patched.setattr(bench.state, "add_version", die)
        else:
            patched.setattr(bench.state, "add_scores", die)
        cycle.run_cycle(bench.job)
    if moment.startswith("the checkpoint"):  # a kill leaves no time to tidy up, unlike an exception
        (bench.job.folder / "checkpoints" / ".cycle-1.draft.7.tmp").write_bytes(b"half")
    assert len(files(bench)) == 2
    assert [version.name for version in bench.state.versions(bench.project.id)] == [first.name]
    bench.state.drop_drafts(bench.project.id, OWNER)
    cycle.sweep_checkpoints(bench.job)
    assert files(bench) == [f"{first.name}.pt"]
    assert cycle.last_learner(bench.job) is not None
    assert cycle.run_cycle(bench.job).status == "current"


def half_a_file(then: Callable[[], None]) -> Callable[..., None]:
    def save(payload: Any, file: Any) -> None:
        file.write(b"half")
        then()

    return save


def test_new_tasks_join_by_the_same_model_and_take_no_ones_score(bench: Workbench) -> None:
    label(bench, 4)
    version = cycle.run_cycle(bench.job)
    before = {row.task_id: row.score for row in bench.state.all_scores(version)}
    old = set(bench.tasks)
    add_tasks(bench.project, 6, pictures=True)  # the same pictures once more: the same acquisition
    truth = read_truth(bench.job)
    assert cycle.join_new_tasks(bench.job, version, truth) == 6
    assert cycle.join_new_tasks(bench.job, version, truth) == 0
    after = {row.task_id: row.score for row in bench.state.all_scores(version)}
    assert {task: after[task] for task in before} == before
    assert len(set(after.values())) == len(after)
    new = sorted(set(bench.tasks) - old)
    assert {task: after[task] for task in new} == pytest.approx(expected(bench, version, new), rel=1e-6)
    publisher.complete(bench.job, version)
    assert bench.project.missing_predictions(version.name) == ""
    assert bench.project.published_order(version.name) == bench.order(version)


def test_of_a_subset_only_what_came_later_joins(bench: Workbench) -> None:
    label(bench, 4)
    job = bench.with_settings(subset=5)
    version = cycle.run_cycle(job)
    chosen = bench.order(version)
    assert len(chosen) == 5
    old = set(bench.tasks)
    assert cycle.join_new_tasks(job, version, read_truth(job)) == 0
    add_tasks(bench.project, 2, pictures=True, seed=9)
    assert cycle.join_new_tasks(job, version, read_truth(job)) == 2
    assert set(bench.order(version)) == set(chosen) | (set(bench.tasks) - old)


def test_a_broken_image_of_a_labelled_task_is_tried_again_once_and_then_waits(bench: Workbench) -> None:
    key = bench.project.names[2]
    bench.project.import_tasks([{key: "data:image/png;base64,AAAA", "kind": "apple"}])
    label(bench, 4)
    version = cycle.run_cycle(bench.with_settings(retry_broken_seconds=1.0))
    broken = bench.tasks[-1]
    assert [item.task_id for item in bench.state.broken_images(bench.project.id)] == [broken]
    assert broken not in bench.order(version)
    bench.project.annotate(broken, "apple")
    bench.state.set_broken(bench.project.id, [(broken, "data:image/png;base64,AAAA", "damaged")], 0.0)
    job = bench.with_settings(retry_broken_seconds=600.0)
    assert cycle.join_new_tasks(job, version, read_truth(job)) == 0
    (waiting,) = bench.state.broken_images(bench.project.id)
    assert waiting.retry_at > bench.state.now() + 500  # so upkeep is not due at once again


def test_labels_whose_images_are_all_broken_are_said(bench: Workbench) -> None:
    key = bench.project.names[2]
    bench.project.import_tasks([{key: "data:image/png;base64,AAAA", "kind": "apple"}])
    bench.project.annotate(bench.tasks[-1], "apple")
    with pytest.raises(BackendError, match="none of the labelled images can be read"):
        cycle.run_cycle(bench.job)


def test_a_class_added_to_the_project_enters_the_next_version(bench: Workbench) -> None:
    label(bench, 6)
    first = cycle.run_cycle(bench.job)
    grown = ("quince", *bench.project.classes)
    bench.project.studio.patch(f"/api/projects/{bench.project.id}", {"label_config": choices_config(grown)})
    second = cycle.run_cycle(bench.job.reread())
    assert (tuple(first.classes), tuple(second.classes)) == (bench.project.classes, grown)
    assert Learner.load(str(second.checkpoint), torch.device("cpu")).classes == grown


def test_deleted_labels_and_tasks_are_gone_from_the_next_cycle(bench: Workbench) -> None:
    label(bench, 5)
    cycle.run_cycle(bench.job)
    first, second, *_, last = bench.tasks
    (annotation,) = bench.project.studio.get(f"/api/tasks/{first}/annotations/")
    bench.project.studio.delete(f"/api/annotations/{annotation['id']}/")
    bench.project.delete_task(second)
    bench.project.delete_task(last)
    version = cycle.run_cycle(bench.job.reread())
    assert newest(bench).labels == 3
    order = bench.order(version)
    assert first in order and not {second, last} & set(order) and len(order) == TASKS - 5


def test_when_everything_is_labelled_there_is_a_version_without_a_queue(bench: Workbench) -> None:
    label(bench, 4)
    before = cycle.run_cycle(bench.job)
    label(bench, TASKS)
    version = cycle.run_cycle(bench.job.reread())
    assert (bench.order(version), version.status) == ([], "current")
    assert bench.project.version() == before.name  # Label Studio takes no version without predictions
    assert bench.project.next_task() is None
    answers = cycle.load_answerer(version).answer(np.zeros((1, 32, 32, 3), np.uint8))
    assert answers[0][0] in bench.project.classes


def test_each_cycle_has_a_seed_of_its_own() -> None:
    seeds = {cycle.cycle_seed(seed, number) for seed in range(20) for number in range(20)}
    assert len(seeds) == 400 and all(0 <= seed < 2**62 for seed in seeds)
    assert cycle.cycle_seed(3, 4) == cycle.cycle_seed(3, 4)
