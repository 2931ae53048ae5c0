"""One cycle step by step, against a real Label Studio: what is stored when, what a cut leaves behind, who joins."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from label_studio_sdk.label_interface import LabelInterface
from rich.console import Console

from backend import cycle, joining
from backend.errors import BackendError, LabelStudioUnavailable, NoLabels, Stopped
from backend.files import predictions_folder
from backend.labelstudio import http as labelstudio_http
from backend.learning import first_order as first_orders
from backend.learning.checkpoints import last_learner, sweep_leftovers
from backend.learning.features import Features
from backend.learning.first_order import first_order
from backend.learning.learner import Learner
from backend.learning.pool import ScoredPool
from backend.learning.scores import priority_scores
from backend.reporting.snapshot import snapshot
from backend.state import Cycle, Version
from backend.status import show
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import regions_to_mask
from backend.tasks.segmentation.predictions import KeptMasks
from backend.worker import publisher, reading_back
from backend.worker.images import open_images
from backend.worker.sync import read_truth
from models.data import Runtime, no_progress
from models.inference import predictions as inference
from models.networks import pretrained
from models.networks.backbones import SMALLEST_SIDE
from tests.backend.workbench import (
    OUTLINE,
    OWNER,
    PAINT,
    SCENE,
    Workbench,
    add_scenes,
    add_tasks,
    annotate,
    both_config,
    draw,
    draw_on,
    label,
    masks_config,
    painted,
    workbench,
)
from tests.integration.helpers import choices_config
from tests.rig.servers import LabelStudioServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow_networks")]

TASKS = 16
BULK = ("POST", "/import/predictions$")


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, sampler="entropy", shortlist=3) as made:
        yield made


def newest(bench: Workbench) -> Cycle:
    return bench.state.cycles.recent(bench.project.id)[0]


def files(bench: Workbench) -> list[str]:
    return sorted(path.name for path in (bench.job.folder / "checkpoints").glob("*"))


def sweep(bench: Workbench) -> None:
    """As a worker does at the beginning of its upkeep."""
    sweep_leftovers(bench.job.folder, {version.name for version in bench.state.versions.of_project(bench.project.id)})


def expected(bench: Workbench, version: Version, tasks: list[int]) -> dict[int, float]:
    """Task → score, computed again from the checkpoint."""
    assert version.checkpoint is not None
    learner = Learner.load(version.checkpoint, torch.device("cpu"))
    cache = open_images(bench.job, read_truth(bench.job), lambda *_: None)
    acquisition, _ = learner.score(cache.pixels, cache.rows(tasks), Runtime(torch.device("cpu"), 0))
    return dict(zip(tasks, priority_scores(acquisition, 0).tolist(), strict=True))


def test_a_cycle_learns_from_every_label_and_publishes_every_other_task(bench: Workbench) -> None:
    labeled = label(bench, 5)
    version = cycle.run_cycle(bench.job)
    done = newest(bench)
    assert (done.status, done.labels, done.error) == ("done", 5, None)
    assert done.metrics["label_seconds"] == 1.0  # which Label Studio says of each annotation
    assert {"read", "images", "train", "score", "publish"} <= set(done.metrics["seconds"])
    assert (version.metrics["health"]["order"], version.metrics["health"]["why"]) == ("entropy", "")
    assert version.name == f"entropy-c{done.number}-{version.name[-8:]}" and files(bench) == [f"{version.name}.pt"]
    pool = [task for task in bench.tasks if task not in labeled]
    assert sorted(bench.order(version)) == pool
    assert bench.project.published_order(version.name) == bench.order(version)
    scores = {row.task_id: row.priority_score for row in bench.state.scores.all(version)}
    assert scores == pytest.approx(expected(bench, version, pool), rel=1e-6)
    assert bench.state.projects.get(bench.project.id).new_annotations == 0  # type: ignore[union-attr]
    assert len(bench.state.labels.seen(bench.project.id)) == 5


@pytest.mark.parametrize("sampler", ["dast-al", "random"])
def test_the_first_order_needs_no_label(bench: Workbench, sampler: str) -> None:
    version = cycle.cold_start(bench.with_settings(sampler=sampler), read_truth(bench.job))
    assert version.name.startswith(f"{sampler}-c0-") and version.checkpoint is None and files(bench) == []
    scores = [row.priority_score for row in bench.state.scores.all(version)]
    scale = 0.5 if sampler == "dast-al" else 1.0  # behind an order by images is room for those that arrive later
    assert scores == pytest.approx(scale * (np.arange(TASKS) + 0.5) / TASKS)  # evenly spread
    assert bench.project.published_order(version.name) == bench.order(version) != bench.tasks


def test_the_first_order_is_chosen_from_a_sample_where_time_does_not_suffice_for_all(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks often stand in the order of their classes: the first ones are no sample of them."""
    some, chosen = 6, []

    def note(*args: Any) -> ScoredPool:
        features, pool = args[:2]
        chosen.extend(features.present(pool).tolist())
        return first_order(*args)

    monkeypatch.setattr(cycle, "FIRST_FEATURE_SECONDS", 0.0)
    monkeypatch.setattr(pretrained, "_PIXELS", some * SMALLEST_SIDE**2)
    monkeypatch.setattr(first_orders, "ENOUGH_EMBEDDED", some)
    monkeypatch.setattr(cycle, "first_order", note)
    job = bench.with_settings(sampler="margin", weights="none", training="head", control_fraction=0.0, task_width=0)
    truth = read_truth(job)
    seen = job.reread().project.refresh_seq
    version = cycle.cold_start(job, truth)
    assert len(chosen) == some and max(chosen) > bench.tasks[some]
    assert set(bench.order(version)[:some]) == set(chosen) and len(bench.order(version)) == TASKS
    assert job.reread().project.refresh_seq > seen  # so that upkeep goes on with them
    assert joining.join_new_tasks(job, version, truth) == 0
    cache = open_images(job, truth, no_progress)
    assert len(Features.open(truth.kind, cache, job.device).present(truth.tasks)) == TASKS


def test_without_labels_a_cycle_says_so_and_changes_nothing(bench: Workbench) -> None:
    bench.project.annotate(bench.tasks[0], "apple", was_cancelled=True)  # a skip is no label
    with pytest.raises(NoLabels, match="label a few tasks first"):
        cycle.run_cycle(bench.job)
    assert (newest(bench).status, bench.state.versions.of_project(bench.project.id), files(bench)) == ("failed", [], [])


def test_what_is_stopped_in_training_leaves_all_due(bench: Workbench) -> None:
    label(bench, 4)

    def show(phase: str, done: int, total: int) -> None:
        if phase == "train" and done:
            raise Stopped("the worker was asked to stop")

    with pytest.raises(Stopped):
        cycle.run_cycle(replace(bench.job, show=show))
    assert (newest(bench).status, newest(bench).phase) == ("interrupted", "train")
    assert bench.state.versions.of_project(bench.project.id) == [] and bench.state.labels.seen(bench.project.id) == {}
    assert read_truth(bench.job).new_annotations == 4


def test_what_fails_while_publishing_is_never_learnt_again(bench: Workbench) -> None:
    label(bench, 4)
    bench.proxy.set(*BULK, cut="before", stays=True)
    with pytest.raises(LabelStudioUnavailable):
        cycle.run_cycle(bench.job)
    assert newest(bench).status == "failed"
    assert read_truth(bench.job).new_annotations == 0
    version = bench.state.versions.unpublished(bench.project.id)
    assert version is not None and version.status == "publishing"
    bench.proxy.clear()
    publisher.publish(bench.restarted(), version)
    assert bench.project.missing_predictions(version.name) == ""
    bench.state.cycles.finish_resumed(bench.project.id, OWNER, version.metrics)
    assert (newest(bench).status, newest(bench).error) == ("done", None)


def test_what_a_kill_before_the_version_is_there_leaves_is_swept(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other: the checkpoint is half written, no row points to it, its scores are half in."""
    label(bench, 4)
    first = cycle.run_cycle(bench.job)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt  # nothing of ours catches it on the way, as nothing catches a kill

    state = bench.state
    for place, name, deadly in (
        (torch, "save", half_a_file(die)),
        (state.versions, "add", die),
        (state.scores, "add", die),
    ):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(place, name, deadly)
            cycle.run_cycle(bench.job)
        if place is torch:  # a kill leaves no time to tidy up, unlike an exception
            (bench.job.folder / "checkpoints" / "cycle-1.draft.7.draft").write_bytes(b"half")
        assert len(files(bench)) == 2
        assert [version.name for version in state.versions.of_project(bench.project.id)] == [first.name]
        state.versions.drop_drafts(bench.project.id, OWNER)
        sweep(bench)
        assert files(bench) == [f"{first.name}.pt"]
        versions = state.versions.of_project(bench.project.id)
        assert last_learner(bench.job.folder, versions, torch.device("cpu")) is not None
    assert cycle.run_cycle(bench.job).status == "current"


def half_a_file(then: Callable[[], None]) -> Callable[..., None]:
    def save(payload: Any, file: Any) -> None:
        file.write(b"half")
        then()

    return save


def test_new_tasks_join_by_the_same_model_and_take_no_ones_score(bench: Workbench) -> None:
    label(bench, 4)
    version = cycle.run_cycle(bench.job)
    before = {row.task_id: row.priority_score for row in bench.state.scores.all(version)}
    old = set(bench.tasks)
    add_tasks(bench.project, 6, pictures=True)  # the same pictures once more: the same acquisition
    truth = read_truth(bench.job)
    assert joining.join_new_tasks(bench.job, version, truth) == 6
    assert joining.join_new_tasks(bench.job, version, truth) == 0
    after = {row.task_id: row.priority_score for row in bench.state.scores.all(version)}
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
    assert joining.join_new_tasks(job, version, read_truth(job)) == 0
    add_tasks(bench.project, 2, pictures=True, seed=9)
    assert joining.join_new_tasks(job, version, read_truth(job)) == 2
    assert set(bench.order(version)) == set(chosen) | (set(bench.tasks) - old)


def test_a_subset_is_what_the_last_network_is_least_sure_of(bench: Workbench) -> None:
    label(bench, 4)
    whole = bench.state.scores.all(cycle.run_cycle(bench.job))
    label(bench, 1)
    left = bench.project.unlabelled()
    confidence = {row.task_id: row.confidence or 0.0 for row in whole if row.task_id in left}
    version = cycle.run_cycle(bench.with_settings(subset=5, candidates="uncertainty"))
    assert set(bench.order(version)) == set(sorted(confidence, key=lambda task: confidence[task])[:5])


def test_a_broken_image_of_a_labeled_task_is_tried_again_once_and_then_waits(bench: Workbench) -> None:
    key = bench.project.names[2]
    bench.project.import_tasks([{key: "data:image/png;base64,AAAA", "kind": "apple"}])
    label(bench, 4)
    version = cycle.run_cycle(bench.with_settings(retry_broken_seconds=1.0))
    broken = bench.tasks[-1]
    assert [item.task_id for item in bench.state.tasks.broken_images(bench.project.id)] == [broken]
    assert broken not in bench.order(version)
    bench.project.annotate(broken, "apple")
    bench.state.tasks.set_broken(bench.project.id, [(broken, "data:image/png;base64,AAAA", "damaged")], 0.0)
    job = bench.with_settings(retry_broken_seconds=600.0)
    assert joining.join_new_tasks(job, version, read_truth(job)) == 0
    (waiting,) = bench.state.tasks.broken_images(bench.project.id)
    assert waiting.retry_at > bench.state.now() + 500  # so upkeep is not due at once again


def test_labels_whose_images_are_all_broken_are_said(bench: Workbench) -> None:
    key = bench.project.names[2]
    bench.project.import_tasks([{key: "data:image/png;base64,AAAA", "kind": "apple"}])
    bench.project.annotate(bench.tasks[-1], "apple")
    with pytest.raises(BackendError, match="none of the labeled images can be read"):
        cycle.run_cycle(bench.job)


def test_a_class_added_to_the_project_enters_the_next_version(bench: Workbench) -> None:
    label(bench, 6)
    first = cycle.run_cycle(bench.job)
    grown = ("quince", *bench.project.classes)
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"label_config": choices_config(grown)})
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


def test_when_everything_is_labeled_there_is_a_version_without_a_queue(bench: Workbench) -> None:
    label(bench, 4)
    before = cycle.run_cycle(bench.job)
    label(bench, TASKS)
    version = cycle.run_cycle(bench.job.reread())
    assert (bench.order(version), version.status) == ([], "current")
    assert bench.project.version() == before.name  # Label Studio takes no version without predictions
    assert bench.project.next_task() is None
    learner = Learner.load(str(version.checkpoint), torch.device("cpu"))
    predictions, _ = learner.predict(np.zeros((1, 32, 32, 3), np.uint8))
    assert learner.classes[predictions.predicted[0]] in bench.project.classes


# -- masks -------------------------------------------------------------------------------------------------------------

HEAD = 6
"""Tasks whose masks are predicted: more than the shortlist, fewer than the pool."""
LONG = 30
"""Epochs after which something is predicted; the usual ones leave masks empty."""


@pytest.fixture
def canvas(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """A project to paint and outline in, with a box in each of its images."""
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    settings = {"sampler": "entropy", "shortlist": 2, "budget": 1, "preannotate": HEAD}
    settings |= {"class_balance": True}
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, masks=True, **settings) as made:
        yield made


def kept(bench: Workbench, version: Version) -> dict[int, np.ndarray]:
    """Task → planes (2, H, W), from the disk."""
    opened = KeptMasks.open(predictions_folder(bench.job.folder, version.name))
    tasks = opened.tasks if opened else set()
    return {task: planes for task in tasks if opened and (planes := opened.planes(task)) is not None}


def predicted(bench: Workbench, version: Version, tasks: list[int]) -> dict[int, np.ndarray]:
    """Task → planes (2, H, W), computed again from the checkpoint."""
    learner = Learner.load(str(version.checkpoint), torch.device("cpu"))
    cache = open_images(bench.job, read_truth(bench.job), lambda *_: None)
    runtime = Runtime(torch.device("cpu"), 0)
    found = {}
    for positions, masks, sure in inference.predict_masks(learner.net, cache.pixels, cache.rows(tasks), runtime):
        found |= {tasks[place]: np.stack(pair) for place, *pair in zip(positions, masks, sure, strict=True)}
    return found


def equal(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[task], other[task]) for task in one)


def check_regions(bench: Workbench, version: Version) -> None:
    """What Label Studio holds of ``version`` is valid, and draws the kept masks of the tasks that have one."""
    config = bench.project.info()["label_config"]
    interface, spec = LabelInterface(config), segmentation_spec(config)
    masks = kept(bench, version)
    assert any(planes[0].any() for planes in masks.values()), "not one region was predicted: this would prove nothing"
    for item in bench.project.predictions(version.name):
        assert interface.validate_prediction({key: item[key] for key in ("result", "score", "model_version")})
        assert item["task"] in masks or not item["result"]
        if item["task"] in masks:
            drawn, problems = regions_to_mask(item["result"], spec, SCENE)
            differs = drawn != masks[item["task"]][0]
            assert not problems and differs.mean() < 0.05  # specks are left out


def test_a_cycle_of_masks_learns_publishes_and_keeps_the_masks_of_the_head(canvas: Workbench) -> None:
    labeled = draw(canvas, 6)
    version = cycle.run_cycle(canvas.with_settings(epochs=LONG))
    done = newest(canvas)
    assert (done.status, done.labels, done.error) == ("done", 6, None)
    assert {"masks", "train", "score", "predict", "publish"} <= set(done.metrics["seconds"])
    pool = [task for task in canvas.tasks if task not in labeled]
    assert sorted(canvas.order(version)) == pool
    assert canvas.project.published_order(version.name) == canvas.order(version)
    rows = canvas.state.scores.all(version)
    assert {row.task_id: row.priority_score for row in rows} == pytest.approx(expected(canvas, version, pool), rel=1e-6)
    assert all(row.label is None and row.confidence is not None and 0 < row.confidence <= 1 for row in rows)
    head = canvas.order(version)[:HEAD]
    assert equal(kept(canvas, version), predicted(canvas, version, head))
    check_regions(canvas, version)
    assert (done.metrics["task"], done.metrics["frame"]) == ("segmentation", list(SCENE))
    assert "regions_unread" not in done.metrics


def test_all_of_the_pool_gets_masks_when_that_is_asked_for(canvas: Workbench) -> None:
    draw(canvas, 4)
    version = cycle.run_cycle(canvas.with_settings(preannotate=0))
    assert set(kept(canvas, version)) == set(canvas.order(version))
    version = cycle.run_cycle(canvas.with_settings(preannotate=1))
    assert list(kept(canvas, version).keys()) and set(kept(canvas, version)) == set(canvas.order(version)[:3])


def test_the_first_order_of_masks_needs_no_label(canvas: Workbench) -> None:
    version = cycle.cold_start(canvas.with_settings(sampler="dast-al"), read_truth(canvas.job))
    assert kept(canvas, version) == {} and version.metrics["frame"] == list(SCENE)
    assert canvas.project.published_order(version.name) == canvas.order(version) != canvas.tasks
    assert all(item["result"] == [] for item in canvas.project.predictions(version.name))


def test_masks_that_a_kill_leaves_are_swept(canvas: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other: the masks are half written, no row points to them, its scores are half in."""
    draw(canvas, 4)
    first = cycle.run_cycle(canvas.with_settings(epochs=LONG))
    job = canvas.with_settings(epochs=1)
    folder = canvas.job.folder / "answers"

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def stub(*_: Any, **__: Any) -> Iterator[Any]:
        (folder / first.name / "cut-off.draft").write_bytes(b"half")  # as a kill leaves it
        yield from ()
        raise KeyboardInterrupt

    state = canvas.state
    for place, name, deadly in (
        (inference, "predict_masks", stub),
        (state.versions, "add", die),
        (state.scores, "add", die),
    ):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(place, name, deadly)
            cycle.run_cycle(job)
        assert len(list(folder.iterdir())) == 2
        state.versions.drop_drafts(canvas.project.id, OWNER)
        sweep(canvas)
        assert [path.name for path in folder.iterdir()] == [first.name]
        assert [path.suffix for path in (folder / first.name).iterdir()] == [".masks"]
        assert files(canvas) == [f"{first.name}.pt"]
        check_regions(canvas, first)
    assert cycle.run_cycle(job).status == "current"


def test_a_cycle_of_masks_that_is_cut_off_while_publishing_goes_on_under_the_label_config_of_then(
    canvas: Workbench,
) -> None:
    apple, pear, plum = canvas.project.classes
    for task in canvas.tasks[:4]:
        box = canvas.project.tasks()[task]["data"]["box"]
        draw_on(canvas, task, apple if task % 2 else pear, box)
    canvas.proxy.set(*BULK, cut="before", stays=True)
    with pytest.raises(LabelStudioUnavailable):
        cycle.run_cycle(canvas.with_settings(preannotate=0, epochs=LONG))
    canvas.proxy.clear()
    canvas.ask_for(masks_config(("quince", pear, apple)))  # Label Studio keeps labels that were used
    version = canvas.state.versions.unpublished(canvas.project.id)
    assert version is not None and tuple(version.classes) == (apple, pear, plum)
    publisher.publish(canvas.restarted(), version)
    assert canvas.project.missing_predictions(version.name) == ""
    masks = kept(canvas, version)
    spec = segmentation_spec(canvas.project.info()["label_config"])
    rest = set(canvas.order(version)[3:])  # the shortlist went out before
    for item in canvas.project.predictions(version.name):
        if item["task"] in rest:
            drawn, _ = regions_to_mask(item["result"], spec, SCENE)
            now = np.array([0, 3, 2, 0], np.uint8)[masks[item["task"]][0]]
            assert (drawn != now).mean() < 0.05


def test_new_scenes_join_with_their_masks(canvas: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(canvas, 4)
    version = cycle.run_cycle(canvas.with_settings(epochs=LONG))
    before = kept(canvas, version)
    old = set(canvas.tasks)
    add_scenes(canvas.project, 8, seed=5)
    new = sorted(set(canvas.tasks) - old)
    truth = read_truth(canvas.job)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # masks are there, their scores not
        patched.setattr(canvas.state.scores, "add", die)
        joining.join_new_tasks(canvas.job, version, truth)
    assert joining.join_new_tasks(canvas.job, version, truth) == 8
    assert joining.join_new_tasks(canvas.job, version, truth) == 0
    joined = [task for task in canvas.order(version) if task in new]
    after = kept(canvas, version)
    assert equal({task: after[task] for task in before}, before)
    assert equal({task: after[task] for task in after if task in new}, predicted(canvas, version, joined[:HEAD]))
    assert len(list(predictions_folder(canvas.job.folder, version.name).iterdir())) == 2
    publisher.complete(canvas.job, version)
    assert canvas.project.missing_predictions(version.name) == ""
    assert canvas.project.published_order(version.name) == canvas.order(version)
    check_regions(canvas, version)


def test_regions_that_cannot_be_read_are_told_in_words(canvas: Workbench) -> None:
    draw(canvas, 4, tag=PAINT)
    mask = np.zeros(SCENE, bool)
    mask[10:30, 10:30] = True
    damaged = painted("apple", mask)
    damaged["value"]["rle"] = damaged["value"]["rle"][:-3]
    annotate(canvas, canvas.tasks[10], [damaged, painted("pear", ~mask)])
    cycle.run_cycle(canvas.job)
    done = newest(canvas)
    assert done.labels == 5  # what else is in it is learnt
    (words,) = done.metrics["regions_unread"]
    assert str(canvas.tasks[10]) in words and 'brush region of "apple" cannot be read' in words
    (project,) = snapshot(canvas.state, canvas.job.settings)["projects"]
    assert (project["regions_unread"], project["task"], project["frame"]) == ([words], "segmentation", list(SCENE))
    console = Console(record=True, width=250, file=io.StringIO())
    show(snapshot(canvas.state, canvas.job.settings), console)
    text = console.export_text()
    assert words in text and "segmentation 64×48" in text


def test_masks_of_which_none_can_be_read_are_said(canvas: Workbench) -> None:
    damaged = painted("apple", np.ones(SCENE, bool))
    damaged["value"]["rle"] = [1, 2, 3]
    annotate(canvas, canvas.tasks[0], [damaged])
    with pytest.raises(BackendError, match=f"mask to learn from: task {canvas.tasks[0]}: A brush region"):
        cycle.run_cycle(canvas.job)


def test_from_classes_to_masks_and_back(canvas: Workbench) -> None:
    """The label config asks for both, the owner changes the setting; nothing of one task is taken for the other's."""
    project = canvas.project
    canvas.ask_for(both_config(project.classes))
    tasks = project.tasks()
    for number, task in enumerate(canvas.tasks[:6]):
        data, regions = tasks[task]["data"], []
        draw_on(canvas, task, data["kind"], data["box"], (PAINT, OUTLINE)[number % 2])
        (drawn,) = project.studio.get(f"/api/tasks/{task}/annotations/")
        choice = {"from_name": "choice", "to_name": "picture", "type": "choices", "value": {"choices": [data["kind"]]}}
        regions = [*drawn["result"], choice]
        project.studio.patch(f"/api/annotations/{drawn['id']}/", {"result": regions})

    first = cycle.run_cycle(canvas.with_settings(task="classification"))
    assert {row.label for row in canvas.state.scores.all(first)} <= set(project.classes)
    assert kept(canvas, first) == {} and first.metrics["task"] == "classification"

    job = canvas.with_settings(task="segmentation")
    add_scenes(project, 2, seed=7)
    assert joining.join_new_tasks(job, first, read_truth(job)) == 2  # in an order of which they know nothing: by chance
    publisher.complete(job, first)
    assert all(item["result"] == [] for item in project.predictions() if item["task"] in canvas.tasks[-2:])

    second = cycle.run_cycle(canvas.with_settings(epochs=LONG).reread())
    assert set(kept(canvas, second)) == set(canvas.order(second)[:HEAD])
    assert all(row.label is None for row in canvas.state.scores.all(second))
    types = {region["type"] for item in project.predictions(second.name) for region in item["result"]}
    assert types == {"brushlabels"}

    third = cycle.run_cycle(canvas.with_settings(task="classification", epochs=2).reread())
    assert kept(canvas, third) == {}
    types = {region["type"] for item in project.predictions(third.name) for region in item["result"]}
    assert types == {"choices"}
    assert [cycle.status for cycle in canvas.state.cycles.recent(project.id)] == ["done"] * 3
