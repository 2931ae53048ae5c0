"""Publishing exactly once, whatever breaks on the way to a real Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.errors import BackendError, LabelStudioUnavailable, LeaseLost, SettingsError
from backend.files import predictions_folder
from backend.labelstudio import http as labelstudio_http
from backend.labelstudio import predictions as labelstudio_predictions
from backend.state import StoredPrediction, Version
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import regions_to_mask
from backend.tasks.segmentation.predictions import KeptMasks
from backend.worker import publisher, reading_back, removal
from backend.worker.results import Results, project_kind
from tests.backend.workbench import OWNER, Workbench, add_tasks, masks_config, workbench
from tests.integration.helpers import UNCERTAINTY, choices_config
from tests.rig.servers import LabelStudioServer
from tests.rig.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.slow

SINGLE = ("POST", "^/api/predictions/$")
SWITCH = ("PATCH", r"^/api/projects/\d+/\?")
BULK = ("POST", "/import/predictions$")
TASKS, SHORTLIST = 12, 3


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    with workbench(label_studio, tmp_path, tasks=TASKS, shortlist=SHORTLIST) as made:
        yield made


def publish(bench: Workbench, version: Version) -> None:
    """As the next worker would: from what the database says."""
    fresh = bench.state.versions.get(version.id)
    assert fresh is not None
    publisher.publish(bench.restarted(), fresh)


def check_out(bench: Workbench, version: Version) -> None:
    """``version`` is the queue's, whole and without doubles, in the order of its scores."""
    info = bench.project.info()
    assert (info["model_version"], info["sampling"]) == (version.name, UNCERTAINTY)
    assert bench.project.missing_predictions(version.name) == ""
    assert bench.project.published_order(version.name) == bench.order(version)
    stored = bench.state.versions.get(version.id)
    assert stored is not None and (stored.status, stored.writing_since) == ("current", None)
    assert not bench.state.scores.has_unwritten(version)


def test_the_shortlist_comes_first_then_the_switch_then_the_rest_in_one_call(bench: Workbench) -> None:
    version = bench.scored()
    publisher.publish(bench.job, version)
    steps = [call.method + " " + call.path.rstrip("/").rsplit("/", 1)[-1] for call in bench.proxy.requests]
    changes = [step for step in steps if not step.startswith("GET") and "refresh" not in step]
    assert changes == ["POST predictions"] * SHORTLIST + [f"PATCH {bench.project.id}"] + ["POST predictions"]
    shortlist = [f'"task": {task},' for task in bench.order(version)[:SHORTLIST]]
    assert all(part in call.body for part, call in zip(shortlist, bench.proxy.writes(), strict=False))
    check_out(bench, version)
    task = bench.project.next_task()
    assert task is not None and task["id"] == bench.order(version)[0]


def test_a_prediction_carries_its_class_and_the_confidence_in_it(bench: Workbench) -> None:
    version = bench.scored()
    publisher.publish(bench.job, version)
    stored = {one.task_id: one for one in bench.state.scores.all(version)}
    for item in bench.project.predictions(version.name):
        (region,) = item["result"]
        expected = stored[item["task"]]
        assert region["value"]["choices"] == [expected.label] and region["score"] == expected.confidence
        assert item["score"] == expected.priority_score


BREAKS = {
    "broken off before": {"cut": "before"},
    "broken off after": {"cut": "after"},
    "503, not written": {"cut": "before", "status": 503},
    "502, yet written": {"cut": "after", "status": 502},
}


STEPS = {"the shortlist": (SINGLE, SHORTLIST), "the bulk call": (BULK, 1)}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("step", STEPS)
def test_what_breaks_at_any_step_is_resumed_and_nothing_is_doubled(bench: Workbench, step: str, how: str) -> None:
    resumes(bench, bench.scored(), *STEPS[step], how)


@pytest.mark.parametrize("how", ["broken off before", "broken off after"])
def test_a_switch_that_breaks_is_resumed(bench: Workbench, how: str) -> None:
    old = bench.scored(seed=1)
    publish(bench, old)
    resumes(bench, bench.scored(seed=2), SWITCH, 1, how)
    assert bench.status(old) == "superseded"


def resumes(bench: Workbench, new: Version, call: tuple[str, str], nth: int, how: str) -> None:
    trap = bench.proxy.set(*call, nth=nth, stays=True, **BREAKS[how])
    with pytest.raises(LabelStudioUnavailable):
        publish(bench, new)
    assert trap.sprung.is_set()
    ours = {version.name for version in bench.state.versions.of_project(bench.project.id)}
    if (now := bench.project.version()) in ours:  # before any version, the backend's title stands there
        assert len(bench.project.predictions(now)) >= SHORTLIST  # whichever orders the queue, its shortlist is there
    bench.proxy.clear()
    publish(bench, new)
    check_out(bench, new)


@pytest.mark.parametrize("step", ["shortlist", "switch", "bulk"])
def test_label_studio_down_at_any_step(bench: Workbench, step: str) -> None:
    version = bench.scored()
    call, nth = {"shortlist": (SINGLE, 2), "switch": (SWITCH, 1), "bulk": (BULK, 1)}[step]
    bench.proxy.set(*call, nth=nth, cut="before", before=bench.proxy.go_down)
    with pytest.raises(LabelStudioUnavailable):
        publish(bench, version)
    with pytest.raises(LabelStudioUnavailable):
        publish(bench, version)
    bench.proxy.clear()
    bench.proxy.listen()
    publish(bench, version)
    check_out(bench, version)


def test_a_bulk_call_that_was_never_sent_is_not_waited_for(bench: Workbench) -> None:
    version = bench.scored()
    away = replace(bench.job, check=bench.proxy.go_down)  # asked right before the call
    with pytest.raises(LabelStudioUnavailable) as caught:
        publisher.write_rest(away, version, bench.state.scores.to_write(version, None))
    assert not caught.value.maybe_written
    found = bench.state.versions.get(version.id)
    assert found is not None and found.writing_since is None
    bench.proxy.listen()
    publish(bench, version)
    check_out(bench, version)


def test_a_bulk_call_that_label_studio_is_still_at_is_waited_for(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelstudio_predictions, "BULK_SECONDS", 0.5)
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 60.0)
    version = bench.scored()

    def looks() -> int:
        return sum(call.path.endswith("/model-versions/") for call in bench.proxy.requests)

    def until_looked_for() -> None:  # we stop waiting for the answer long before Label Studio gets to it
        wait_for("two looks", lambda: looks() >= 2)

    trap = bench.proxy.set(*BULK, before=until_looked_for)
    with pytest.raises(LabelStudioUnavailable) as caught:
        publish(bench, version)
    assert caught.value.maybe_written
    assert len(bench.project.predictions(version.name)) == SHORTLIST  # nothing of it is there yet
    monkeypatch.setattr(labelstudio_predictions, "BULK_SECONDS", 60.0)
    publish(bench, version)
    assert trap.done.wait(PATIENCE)
    check_out(bench, version)
    assert len(bench.proxy.writes(version.name)) == SHORTLIST + 1


def test_reading_back_that_is_cut_off_makes_no_doubles(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    version = bench.scored()
    publish(bench, version)
    lost = bench.project.predictions(version.name)[0]
    bench.project.studio.delete(f"/api/predictions/{lost['id']}/")

    mark = bench.state.scores.mark_written
    for changes in (0, 1):  # killed before either of the two changes of the flags
        left = changes

        def die(*args: Any, **options: Any) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            mark(*args, **options)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(bench.state.scores, "mark_written", die)
            publisher.verify(bench.job, version)
        assert not bench.state.scores.to_write(version, None)  # so nothing that is held would be written again
    publisher.verify(bench.job, version)
    check_out(bench, version)


def test_doubles_and_lost_predictions_are_mended(bench: Workbench) -> None:
    version = bench.scored()
    publish(bench, version)
    first, second, *_ = bench.project.predictions(version.name)
    again = {key: first[key] for key in ("task", "result", "score", "model_version")}
    bench.project.studio.post("/api/predictions/", again)
    bench.project.studio.post("/api/predictions/", again)
    bench.project.studio.delete(f"/api/predictions/{second['id']}/")
    assert "doubles" in bench.project.missing_predictions(version.name)
    publisher.verify(bench.job, bench.state.versions.get(version.id) or version)
    check_out(bench, version)
    kept = {item["id"] for item in bench.project.predictions(version.name)}
    assert first["id"] in kept  # the double went, not what was there first


def test_all_predictions_deleted_by_the_owner_come_back(bench: Workbench) -> None:
    version = bench.scored()
    publish(bench, version)
    bench.project.studio.post(
        "/api/dm/actions",
        {"project": bench.project.id, "selectedItems": {"all": True, "excluded": []}},
        id="delete_tasks_predictions",
        project=bench.project.id,
    )
    assert bench.project.predictions() == []
    publisher.verify(bench.job, bench.state.versions.get(version.id) or version)
    check_out(bench, version)


def test_tasks_deleted_meanwhile_do_not_stop_it(bench: Workbench) -> None:
    version = bench.scored()
    order = bench.order(version)
    gone = [order[1], order[SHORTLIST + 3], order[-1]]
    bench.proxy.set(*SINGLE, before=lambda: [bench.project.delete_task(task) for task in gone])  # type: ignore[arg-type,func-returns-value]
    publish(bench, version)
    check_out(bench, version)
    assert bench.order(version) == [task for task in order if task not in gone]


def test_a_label_config_that_changes_before_publishing_is_followed(bench: Workbench) -> None:
    version = bench.scored()
    names = ("fruit", "photo", "image")
    kept = bench.project.classes[:2]
    bench.project.studio.patch(f"/api/projects/{bench.project.id}/", {"label_config": choices_config(kept, names)})
    publish(bench, version)
    check_out(bench, version)
    labels = {one.task_id: one.label for one in bench.state.scores.all(version)}
    for item in bench.project.predictions(version.name):
        if labels[item["task"]] not in kept:
            assert item["result"] == []  # its class is gone; its place in the queue is not
            continue
        (region,) = item["result"]
        assert (region["from_name"], region["to_name"]) == names[:2]


def test_what_label_studio_leaves_out_of_a_bulk_call_stays_unwritten(bench: Workbench) -> None:
    version = bench.scored()
    project = bench.project

    def rename() -> None:
        changed = {"label_config": choices_config(project.classes, ("fruit", "photo", "image"))}
        project.studio.patch(f"/api/projects/{project.id}/", changed)

    bench.proxy.set(*BULK, before=rename)
    publish(bench, version)
    left = bench.state.scores.to_write(version, None)
    assert len(left) == TASKS - len(project.predictions(version.name)) > 0
    publisher.complete(bench.job, bench.state.versions.get(version.id) or version)
    check_out(bench, version)


def test_an_empty_pool_is_published_to_ourselves_until_tasks_join(
    label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    with workbench(label_studio, tmp_path, tasks=0) as bench:
        version = bench.scored()
        publish(bench, version)
        assert bench.status(version) == "current" and bench.project.version() != version.name
        add_tasks(bench.project, 12)
        joined = bench.scored(name="only-for-its-scores")
        rows = [(row.task_id, row.priority_score) for row in bench.state.scores.all(joined)]
        write_scores(bench, version, rows)
        bench.state.scores.drop(joined, OWNER)
        publisher.complete(bench.job, bench.state.versions.get(version.id) or version)
        check_out(bench, version)


def write_scores(bench: Workbench, version: Version, rows: list[tuple[int, float]]) -> None:
    tasks, scores = (np.array(column) for column in zip(*rows, strict=True))
    bench.state.scores.add(bench.project.id, OWNER, version.id, tasks, scores, None, None)


def test_the_owners_project_settings_are_left_alone_when_asked_for(bench: Workbench) -> None:
    before = bench.project.info()
    version = bench.scored()
    publisher.publish(bench.with_settings(manage_queue=False), version)
    after = bench.project.info()
    assert (after["model_version"], after["sampling"]) == (before["model_version"], before["sampling"])
    assert bench.project.missing_predictions(version.name) == ""
    assert bench.state.versions.current(bench.project.id) == bench.state.versions.get(version.id)


def test_superseded_versions_are_removed_with_all_they_left(bench: Workbench, tmp_path: Path) -> None:
    folder = bench.job.folder / "checkpoints"
    folder.mkdir(parents=True)
    versions = []
    for seed in (1, 2, 3):
        name = f"entropy-c{seed}-{seed:08x}"
        (folder / f"{name}.pt").write_bytes(b"weights")
        versions.append(bench.scored(name=name, seed=seed, checkpoint=folder / f"{name}.pt"))
        publish(bench, versions[-1])
    assert removal.remove_superseded(bench.job)
    *old, current = versions
    assert {item["model_version"] for item in bench.project.predictions()} == {current.name}
    assert [path.name for path in folder.iterdir()] == [f"{current.name}.pt"]
    assert [bench.status(version) for version in old] == ["removed", "removed"]
    assert all(set(bench.state.scores.order(version).tolist()) == set() for version in old)
    check_out(bench, current)
    assert not removal.remove_superseded(bench.job)


def test_removing_that_is_cut_off_goes_on(bench: Workbench) -> None:
    old, new = bench.scored(seed=1), None
    publish(bench, old)
    new = bench.scored(seed=2)
    publish(bench, new)
    bench.proxy.set("DELETE", "/api/predictions/", cut="after", stays=True)
    with pytest.raises(LabelStudioUnavailable):
        removal.remove_superseded(bench.job)
    bench.proxy.clear()
    assert removal.remove_superseded(bench.restarted())
    assert bench.status(old) == "removed"
    check_out(bench, new)


@pytest.mark.parametrize("call", [SINGLE, SWITCH, BULK], ids=["shortlist", "switch", "bulk"])
def test_who_loses_the_lease_stops_at_once(bench: Workbench, call: tuple[str, str]) -> None:
    version = bench.scored()
    bench.proxy.set(*call, after=bench.lose_lease)
    with pytest.raises(LeaseLost):
        publish(bench, version)
    after = [item for item in bench.proxy.requests if item.method != "GET" and "refresh" not in item.path]
    assert (after[-1].method, bool(after[-1].status)) == (call[0], True)  # the call it was at; none after it
    before = bench.state.versions.get(version.id)
    with pytest.raises(LeaseLost):
        publish(bench, version)
    assert bench.state.versions.get(version.id) == before


def test_a_refusal_that_is_no_deleted_task_reaches_the_owner(bench: Workbench) -> None:
    bench.scored()
    row = StoredPrediction(task_id=bench.tasks[0], version="x", label=None, confidence=None, priority_score=0.5)
    bench.proxy.set(*SINGLE, cut="before", status=400)
    version = bench.state.versions.of_project(bench.project.id)[0]
    with pytest.raises(BackendError, match="struck"):
        publisher.write_singly(bench.job, version, [row])
    assert row.task_id in set(bench.state.scores.order(version).tolist())


# -- masks -------------------------------------------------------------------------------------------------------------

HEAD = 7
FRAME = (30, 40)


@pytest.fixture
def canvas(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    """A project to paint and outline in. A bulk call takes the masks of two tasks."""
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    with workbench(label_studio, tmp_path, tasks=TASKS, shortlist=SHORTLIST, masks=True) as made:
        version, masks = made.scored_masks(HEAD)
        result = Results.of(made.job, version)
        each = [
            sum(len(region["value"]["rle"]) for region in result(row))
            for row in made.state.scores.all(version)
            if row.task_id in masks
        ]
        monkeypatch.setattr(publisher, "NUMBERS_A_CALL", max(each) * 2)
        made.proxy.requests.clear()
        yield made


def newest(bench: Workbench) -> Version:
    return bench.state.versions.of_project(bench.project.id)[0]


def drawn(bench: Workbench, version: Version) -> dict[int, np.ndarray]:
    """Task → mask (H, W) as the predictions in Label Studio draw it, after Label Studio's own validation of each."""
    config = bench.project.info()["label_config"]
    interface, spec = LabelInterface(config), segmentation_spec(config)
    found = {}
    for item in bench.project.predictions(version.name):
        assert interface.validate_prediction({key: item[key] for key in ("result", "score", "model_version")})
        for region in item["result"]:
            assert (region["original_height"], region["original_width"]) == (60, 80)
            assert region["score"] == pytest.approx(0.8)
        if item["result"]:
            found[item["task"]], problems = regions_to_mask(item["result"], spec, FRAME)
            assert problems == []
    return found


def kept(bench: Workbench, version: Version) -> dict[int, np.ndarray]:
    opened = KeptMasks.open(predictions_folder(bench.job.folder, version.name))
    assert opened is not None
    return {task: planes[0] for task in opened.tasks if (planes := opened.planes(task)) is not None}


def same_masks(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[task], other[task]) for task in one)


@pytest.mark.parametrize("kind", ["brush", "polygon"])
def test_the_head_of_the_queue_carries_its_masks_and_the_rest_its_place(canvas: Workbench, kind: str) -> None:
    canvas.with_settings(preannotation=kind)
    version = newest(canvas)
    publish(canvas, version)
    check_out(canvas, version)
    assert set(drawn(canvas, version)) == set(canvas.order(version)[:HEAD])
    assert same_masks(drawn(canvas, version), kept(canvas, version))
    regions = [region for item in canvas.project.predictions(version.name) for region in item["result"]]
    assert {region["type"] for region in regions} == {f"{kind}labels"}


def test_many_masks_take_calls_of_bounded_size(canvas: Workbench) -> None:
    version = newest(canvas)
    publish(canvas, version)
    calls = [call for call in canvas.proxy.writes(version.name) if call.path.endswith("/import/predictions")]
    sizes = [call.body.count('"task"') for call in calls]
    assert sum(sizes) == TASKS - SHORTLIST
    assert len(calls) >= (HEAD - SHORTLIST) // 2
    assert max(call.body.count('"brushlabels": [') for call in calls) <= 2 * len(canvas.project.classes)


@pytest.mark.parametrize("nth", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("how", BREAKS)
def test_what_breaks_between_the_calls_is_resumed_and_nothing_is_doubled(canvas: Workbench, how: str, nth: int) -> None:
    version = newest(canvas)
    resumes(canvas, version, BULK, nth, how)
    assert same_masks(drawn(canvas, version), kept(canvas, version))


def test_one_of_several_calls_that_label_studio_is_still_at_is_waited_for(
    canvas: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of the version that call brings is not known; so it is waited for as long as it can take."""
    version = newest(canvas)
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 5.0)
    trap = canvas.proxy.set(*BULK, nth=2, hold=2.0)
    with monkeypatch.context() as patched, pytest.raises(LabelStudioUnavailable) as caught:
        patched.setattr(labelstudio_predictions, "BULK_SECONDS", 1.0)
        publish(canvas, version)
    assert caught.value.maybe_written and not trap.done.is_set()
    publish(canvas, version)
    assert trap.done.is_set()
    check_out(canvas, version)
    assert same_masks(drawn(canvas, version), kept(canvas, version))


@pytest.mark.parametrize(("part", "moment"), [("scores", "mark_written"), ("versions", "update")])
def test_a_kill_after_each_step_between_the_calls_makes_no_doubles(
    canvas: Workbench, monkeypatch: pytest.MonkeyPatch, part: str, moment: str
) -> None:
    version = newest(canvas)
    state = getattr(canvas.state, part)
    act = getattr(state, moment)
    for count in range(30):
        left = count

        def die(*args: Any, **options: Any) -> Any:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return act(*args, **options)

        try:
            with monkeypatch.context() as patched:
                patched.setattr(state, moment, die)
                publish(canvas, version)
        except KeyboardInterrupt:
            continue
        break
    assert 2 < count < 29  # killed at each, and each time it got further
    check_out(canvas, version)
    assert same_masks(drawn(canvas, version), kept(canvas, version))


def test_tasks_deleted_between_the_calls_do_not_stop_it(canvas: Workbench) -> None:
    version = newest(canvas)
    order = canvas.order(version)
    gone = [order[HEAD - 1], order[-1]]
    delete = lambda: [canvas.project.delete_task(task) for task in gone]  # type: ignore[func-returns-value]  # noqa: E731
    canvas.proxy.set(*BULK, nth=1, after=delete)  # type: ignore[arg-type]
    publish(canvas, version)
    check_out(canvas, version)
    assert canvas.order(version) == [task for task in order if task not in gone]


def test_a_label_that_left_takes_its_regions_along_and_the_others_keep_their_names(canvas: Workbench) -> None:
    version = newest(canvas)
    before = kept(canvas, version)
    apple, pear, plum = canvas.project.classes
    canvas.ask_for(masks_config(("quince", plum, apple)))  # a new one, the others turned round, no pear
    publish(canvas, version)
    check_out(canvas, version)
    now = np.array([0, 3, 0, 2], np.uint8)  # apple, pear, plum as the new label config numbers them
    assert same_masks(drawn(canvas, version), {task: now[mask] for task, mask in before.items()})
    assert pear not in str(canvas.project.predictions(version.name))


def test_a_project_that_asks_for_something_else_since_gets_the_order_alone(canvas: Workbench) -> None:
    version = newest(canvas)
    canvas.ask_for(choices_config(canvas.project.classes))
    publish(canvas, version)
    check_out(canvas, version)
    assert all(item["result"] == [] for item in canvas.project.predictions(version.name))
    canvas.ask_for(masks_config(canvas.project.classes))
    classified = canvas.scored()  # the other way round: a class, and now masks are asked for
    publish(canvas, classified)
    check_out(canvas, classified)
    assert all(item["result"] == [] for item in canvas.project.predictions(classified.name))


def test_masks_that_are_lost_cost_the_regions_only(canvas: Workbench) -> None:
    version = newest(canvas)
    for path in predictions_folder(canvas.job.folder, version.name).iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    publish(canvas, version)
    check_out(canvas, version)
    assert drawn(canvas, version) == {}


def test_masks_go_with_their_superseded_version(canvas: Workbench) -> None:
    old = newest(canvas)
    publish(canvas, old)
    new, _ = canvas.scored_masks(2, name="segmenting-c2-11111111", seed=1)
    publish(canvas, new)
    assert removal.remove_superseded(canvas.job)
    assert [path.name for path in (canvas.job.folder / "answers").iterdir()] == [new.name]
    assert same_masks(drawn(canvas, new), kept(canvas, new))


def test_settings_that_do_not_go_with_masks_are_said(canvas: Workbench) -> None:
    with pytest.raises(SettingsError, match="has no meaning for masks"):
        project_kind(canvas.with_settings(sampler="ads"))
