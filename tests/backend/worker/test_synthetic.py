"""Generated images in a real Label Studio: there once, whatever breaks, asked for first, and removed only if ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import cycle
from backend.errors import LabelStudioUnavailable, Stopped
from backend.files import predictions_folder
from backend.labelstudio import http as labelstudio_http
from backend.labelstudio import own_tasks
from backend.labelstudio.queue_tab import SYNTHETIC_TAB
from backend.reporting.snapshot import snapshot
from backend.state import Mark, Version
from backend.tasks.synthetic import mark_of, task_data
from backend.worker import preparing, publisher, reading_back, synthetic
from backend.worker.job import Job
from backend.worker.sync import read_truth
from samplers.base import Generated
from tests.backend.workbench import Workbench, label, workbench
from tests.rig.servers import LabelStudioServer
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.slow

IMPORT = ("POST", r"/api/projects/\d+/import$")
TASKS, COUNT = 8, 3
GAAL: dict[str, Any] = {
    "sampler": "gaal",
    "allow_synthetic_tasks": True,
    "budget": 5,
    "synthetic_share": 0.61,  # of 5: 3
    "health": "off",  # nothing is learned in
    "gan_iterations": 2,
    "gan_width": 4,
    "gan_latent": 6,
    "synthetic_steps": 2,
}


@pytest.fixture
def bench(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.02))
    monkeypatch.setattr(reading_back, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(synthetic, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(synthetic, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(preparing, "PIECE_SECONDS", 1_000.0)
    with workbench(label_studio, tmp_path, tasks=TASKS, pictures=True, shortlist=3, **GAAL) as made:
        yield made


def prepared(bench: Workbench) -> Job:
    """With its generator trained, as upkeep does it."""
    job = bench.restarted()
    truth = read_truth(job)
    preparing.open_images(job, truth, lambda *_: None)
    preparing.prepare(job, truth, lambda: False)
    return bench.restarted()


def made_up(count: int = COUNT) -> Generated:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
    return Generated(images, np.arange(100, 100 + count), np.zeros(count), np.ones(count))


def published(bench: Workbench, name: str = "gaal-c1-00000000") -> Version:
    """A version whose images are planned and not sent."""
    synthetic.plan(bench.job, name, made_up())
    version = bench.scored(name=name)
    return publisher.publish(bench.job, version)


def ask_for(bench: Workbench, version: Version) -> None:
    """As a cycle does, but of a version that is published already."""
    synthetic.ask_first(bench.job, version)
    publisher.complete(bench.job, version)


def held(bench: Workbench) -> dict[int, Mark]:
    """Task → what it was generated as, of those that Label Studio holds."""
    marks = {number: mark_of(task["data"]) for number, task in bench.project.tasks().items()}
    return {number: mark for number, mark in marks.items() if mark is not None}


def upkeep(bench: Workbench, **settings: Any) -> None:
    """What concerns generated images, as the next worker does it."""
    job = bench.restarted()
    job = replace(job, settings=replace(job.settings, **settings))
    truth = read_truth(job)
    current = bench.state.versions.current(bench.project.id)
    assert current is not None
    synthetic.look_after(job, truth, current)


def check_once(bench: Workbench, count: int = COUNT) -> list[int]:
    """Every image is there once, and they are asked for first, in their order. Returns their tasks."""
    tasks = held(bench)
    assert Counter(mark.seed for mark in tasks.values()) == Counter(range(100, 100 + count))
    assert not bench.state.synthetic.has_to_send(bench.project.id)
    version = bench.project.version()
    order = bench.project.published_order(version)
    assert len(set(order)) == len(order)
    assert [tasks[task].seed for task in order[:count]] == list(range(100, 100 + count))
    assert not set(order[count:]) & set(tasks)
    return order[:count]


def test_images_become_tasks_that_are_asked_for_first(bench: Workbench) -> None:
    version = published(bench)
    ask_for(bench, version)
    first = check_once(bench)
    served = bench.project.next_task()
    assert served is not None and served["id"] == first[0]
    assert served["data"]["image"].startswith("data:image/png;base64,") and served["data"]["synthetic"] is True
    upkeep(bench)
    upkeep(bench)
    assert check_once(bench) == first
    imports = [call for call in bench.proxy.requests if call.method == "POST" and call.path.endswith("/import")]
    assert len(imports) == 1
    assert snapshot(bench.state, bench.job.settings)["projects"][0]["synthetic"]["waiting"] == COUNT


def test_a_tab_shows_them_and_a_filter_leaves_them_out_of_an_export(bench: Workbench) -> None:
    ask_for(bench, published(bench))
    upkeep(bench)
    first, studio, place = check_once(bench), bench.project.studio, {"project": bench.project.id}
    (tab,) = (view for view in studio.get("/api/dm/views/", **place) if view["data"].get("title") == SYNTHETIC_TAB)
    assert [task["id"] for task in studio.get("/api/tasks/", view=tab["id"])["tasks"]] == first

    (filled,) = tab["data"]["filters"]["items"]
    empty = {"title": "Real images", "filters": {"conjunction": "and", "items": [{**filled, "value": "True"}]}}
    view = studio.post("/api/dm/views/", {**place, "data": empty})["id"]
    exports = f"/api/projects/{bench.project.id}/exports"
    made = studio.post(f"{exports}/", {"task_filter_options": {"view": view}})["id"]
    wait_for("the export", lambda: studio.get(f"{exports}/{made}")["status"] == "completed")
    exported = {task["id"] for task in studio.get(f"{exports}/{made}/download", exportType="JSON")}
    assert exported == set(bench.tasks) - set(first)


BREAKS = {
    "broken off before": {"cut": "before"},
    "broken off after": {"cut": "after"},
    "502, yet made": {"cut": "after", "status": 502},
    "503, not made": {"cut": "before", "status": 503},
}


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.long if BREAKS[how].get("status") else ()) for how in BREAKS]
)
def test_an_import_whose_outcome_is_unknown_is_read_back_first(bench: Workbench, how: str) -> None:
    version = published(bench)
    bench.proxy.set(*IMPORT, **BREAKS[how])
    with pytest.raises(LabelStudioUnavailable):
        synthetic.bring_in(bench.job, version)
    upkeep(bench)
    check_once(bench)


def test_an_import_that_goes_on_after_its_connection_was_lost_is_waited_for(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "SETTLE_SECONDS", 20.0)
    version = published(bench)
    trap = bench.proxy.set(*IMPORT, hold=1.5)
    monkeypatch.setattr(own_tasks, "IMPORT_SECONDS", 0.3)
    with pytest.raises(LabelStudioUnavailable):
        synthetic.bring_in(bench.job, version)
    upkeep(bench)
    assert trap.matched == 1
    check_once(bench)


def test_a_worker_that_ends_between_any_two_calls_doubles_nothing(bench: Workbench) -> None:
    """It ends before its first call of Label Studio, its second, and so on; the next one goes on each time."""
    published(bench)
    for calls in range(1, 40):
        count = 0

        def stop_at(allowed: int = calls) -> None:
            nonlocal count
            count += 1
            if count > allowed:
                raise Stopped("killed")

        job = replace(bench.restarted(), check=stop_at)
        truth = read_truth(bench.job)
        current = bench.state.versions.current(bench.project.id)
        assert current is not None
        try:
            synthetic.look_after(job, truth, current)
        except Stopped:
            continue
        break
    else:
        pytest.fail("it never came to an end")
    upkeep(bench)
    check_once(bench)


def test_a_copy_that_arrives_late_is_deleted_and_an_annotated_one_kept(bench: Workbench) -> None:
    version = published(bench)
    planned = bench.state.synthetic.to_send(bench.project.id, version.name)
    ask_for(bench, version)
    first = check_once(bench)
    bench.project.import_tasks([task_data(image, "image") for image in planned[:2]])
    late = sorted(set(held(bench)) - set(first))
    bench.project.annotate(late[1], bench.project.classes[0])
    upkeep(bench)
    left = set(held(bench))
    assert left == {first[0], late[1], first[2]}


def test_with_another_sampler_those_that_nobody_worked_on_are_removed(bench: Workbench) -> None:
    version = published(bench)
    planned = bench.state.synthetic.to_send(bench.project.id, version.name)
    ask_for(bench, version)
    labeled, drafted, open_task = check_once(bench)
    studio, project = bench.project.studio, bench.project
    project.annotate(labeled, project.classes[0])
    studio.post(f"/api/tasks/{drafted}/drafts", {"result": [], "lead_time": 1.0, "task": drafted})
    stranger = {**task_data(planned[0], "image"), "synthetic_batch": "gaal-c7-12345678"}
    edited = {**task_data(planned[0], "image"), "image": "data:,"}
    before = set(bench.tasks)
    project.import_tasks([stranger, {"image": "data:,real", "synthetic": True}, edited])
    added = set(bench.tasks) - before
    upkeep(bench, sampler="entropy")
    assert set(bench.tasks) == (before | added) - {open_task}
    upkeep(bench, sampler="entropy")
    assert set(bench.tasks) == (before | added) - {open_task}


def test_without_permission_nothing_is_sent_any_more(bench: Workbench) -> None:
    published(bench)
    upkeep(bench, sampler="entropy", allow_synthetic_tasks=False)
    assert not held(bench) and not bench.state.synthetic.has_to_send(bench.project.id)
    upkeep(bench)
    assert not held(bench)


def test_what_showed_nothing_counts_and_is_asked_of_nobody_again(bench: Workbench) -> None:
    version = published(bench)
    ask_for(bench, version)
    skipped, *others = check_once(bench)
    bench.project.annotate(skipped, bench.project.classes[0], was_cancelled=True)
    upkeep(bench)
    assert read_truth(bench.job).new_annotations == 1
    order = bench.project.published_order(version.name)
    assert skipped not in order and order[:2] == others
    publisher.verify(bench.job, version)
    assert skipped not in bench.project.published_order(version.name)


def test_images_that_label_studio_refuses_are_said_and_given_up(bench: Workbench) -> None:
    version = published(bench)
    bench.ask_for(bench.project.info()["label_config"].replace("</View>", '<Text name="t" value="$caption"/></View>'))
    ask_for(bench, version)
    row = bench.state.projects.get(bench.project.id)
    assert row is not None and "caption" in str(row.queue_note)
    assert not held(bench) and not bench.state.synthetic.has_to_send(bench.project.id)


def test_cycles_ask_for_images_and_learn_from_what_was_said_of_them(bench: Workbench) -> None:
    label(bench, 3)
    first = cycle.run_cycle(prepared(bench))
    assert first.metrics["synthetic_generated"] == COUNT
    assert (predictions_folder(bench.job.folder, first.name) / synthetic.PICTURE).is_file()
    tasks = held(bench)
    assert len(tasks) == COUNT and {mark.batch for mark in tasks.values()} == {first.name}
    order = bench.project.published_order(first.name)
    assert set(order[:COUNT]) == set(tasks) and len(order) == COUNT + TASKS - 3
    named, skipped, waiting = order[:COUNT]
    bench.project.annotate(named, bench.project.classes[0])
    bench.project.annotate(skipped, bench.project.classes[0], was_cancelled=True)
    label_one = sorted(set(order) - set(tasks))[0]
    bench.project.annotate(label_one, bench.project.classes[1])

    second = cycle.run_cycle(bench.restarted())
    assert (second.metrics["labels"], second.metrics["pool"]) == (4, TASKS - 4)
    assert (second.metrics["synthetic_labels"], second.metrics["synthetic_unrecognized"]) == (1, 1)
    assert second.metrics["train_labels"] == 5  # also from the generated one
    assert second.metrics.get("synthetic_generated", 0) <= COUNT - 1  # one still waits
    now = bench.project.published_order(second.name)
    new = [task for task, mark in held(bench).items() if mark.batch == second.name]
    assert set(now[: len(new)]) == set(new) and now[len(new)] == waiting
    assert named not in now and skipped not in now


def test_a_generator_that_is_not_to_be_trusted_asks_for_nothing(bench: Workbench) -> None:
    label(bench, 3)
    bench.with_settings(health="on")
    version = cycle.run_cycle(prepared(bench))
    assert "of its generated images" in version.metrics["health"]["why"]
    assert "synthetic_generated" not in version.metrics and not held(bench)
    assert len(bench.project.published_order(version.name)) == TASKS - 3


def test_a_cycle_that_is_cut_off_before_its_version_leaves_nothing_to_send(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(bench, 3)
    first = cycle.run_cycle(prepared(bench))

    def cut(*_: Any, **__: Any) -> None:
        raise Stopped("killed")

    for task in held(bench):
        bench.project.annotate(task, bench.project.classes[0])
    monkeypatch.setattr(cycle, "store_version", cut)
    with pytest.raises(Stopped):
        cycle.run_cycle(bench.restarted())
    assert bench.state.synthetic.has_to_send(bench.project.id)
    upkeep(bench)
    assert not bench.state.synthetic.has_to_send(bench.project.id)
    assert {mark.batch for mark in held(bench).values()} == {first.name}


def test_the_project_of_any_other_sampler_is_not_asked_about(bench: Workbench) -> None:
    version = publisher.publish(bench.with_settings(sampler="entropy"), bench.scored())
    truth = read_truth(bench.job)
    before = len(bench.proxy.requests)
    synthetic.look_after(bench.job, truth, version)
    ask_for(bench, version)
    assert len(bench.proxy.requests) == before
