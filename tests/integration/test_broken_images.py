"""Images that cannot be had, and the answers to ``/predict``: nothing of this stops a cycle or shifts an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import requests

from benchmarks.processes import REPOSITORY
from benchmarks.servers import BackendServer
from tests.integration.helpers import FRUIT, LabelProject, Seen, drawings, wait_for

NO_CYCLE = {"budget": 1000}


def status(backend: BackendServer) -> Any:
    """What ``python -m backend status --json`` prints beside a running backend."""
    run = subprocess.run(
        [sys.executable, "-m", "backend", "status", "--json"],
        cwd=REPOSITORY,
        env=backend.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def project(backend: BackendServer, make_project: Callable[..., LabelProject]) -> LabelProject:
    """Twenty good pictures, a dead address and an upload that is no picture; connected, not yet ordered."""
    project = make_project(FRUIT, tasks=20)
    project.upload({"9998-apple.png": b"this is no picture"})
    project.import_tasks([{"image": f"{project.studio.url}/static/gone-9999-pear.png"}])
    return project.connected(backend.url, {"sampler": "entropy"} | NO_CYCLE)


def broken_of(project: LabelProject) -> set[int]:
    names = ("9998-apple.png", "gone-9999-pear.png")
    return {number for number, task in project.tasks().items() if task["data"]["image"].endswith(names)}


def test_broken_images_are_set_aside_and_listed(project: LabelProject, backend: BackendServer, seen: Seen) -> None:
    broken = broken_of(project)
    assert len(broken) == 2
    version = project.wait_for_cycle(0, without=broken)
    assert not broken & set(project.published_order(version))

    project.label_served(5)
    project.annotate(min(broken), "apple")  # a label without a picture: nothing to learn from
    project.start_training()
    version = project.wait_for_cycle(1, without=broken)

    assert seen.labels(project) == {1: 5}
    order = project.published_order(version)
    assert len(order) == 15
    assert project.label_served(3) == order[:3]
    (entry,) = [item for item in status(backend)["projects"] if item["id"] == project.id]
    listed = {item["task_id"]: item["reason"] for item in entry["broken_images"]}
    assert set(listed) == broken
    assert all(listed.values())
    assert any("404" in reason for reason in listed.values())


def test_a_mended_image_joins(
    project: LabelProject, backend: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    broken = broken_of(project)
    project.wait_for_cycle(0, without=broken)
    donor = make_project(FRUIT, tasks=1)
    (good,) = donor.tasks().values()
    mended = min(broken)
    project.studio.patch(f"/api/tasks/{mended}/", {"data": {"image": good["data"]["image"]}})
    project.upload(drawings(1, FRUIT, seed=6, prefix="hint-"))  # a changed task sends no webhook; a new one does

    wait_for("the mended image", lambda: mended in project.published_order())


def test_predict_answers_one_entry_per_task_in_order(project: LabelProject, backend: BackendServer) -> None:
    broken = broken_of(project)
    project.wait_for_cycle(0, without=broken)
    project.label_served(6)
    project.start_training()
    version = project.wait_for_cycle(1, without=broken)
    tasks = project.tasks()
    published = {item["task"]: item for item in project.predictions(version)}
    known = sorted(published)[:3]
    asked = [
        tasks[known[0]],
        {**tasks[known[1]], "id": 999_999},  # never seen by the backend, with a good picture
        tasks[max(broken)],
        tasks[known[2]],
        {"id": 999_998, "data": {"nothing": "at all"}},
        tasks[min(broken)],
    ]

    answer = predict(backend, project, asked)

    assert len(answer) == len(asked)
    for place, task in ((0, known[0]), (3, known[2])):
        assert answer[place]["score"] == published[task]["score"]
        assert answer[place]["result"][0]["value"] == published[task]["result"][0]["value"]
        assert answer[place]["model_version"] == version
    fresh = answer[1]
    assert fresh["result"][0]["value"]["choices"] == published[known[1]]["result"][0]["value"]["choices"]
    assert fresh["score"] == pytest.approx(published[known[1]]["score"], rel=1e-4)
    for place in (2, 4, 5):
        assert answer[place]["result"] == []
    assert predict(backend, project, []) == []


def test_retrieving_predictions_in_label_studio_doubles_nothing(
    project: LabelProject, backend: BackendServer, seen: Seen
) -> None:
    """The Data Manager's "Retrieve Predictions": Label Studio asks ``/predict`` and stores what it answers."""
    broken = broken_of(project)
    version = project.wait_for_cycle(0, without=broken)
    order = project.published_order(version)
    selected = {"all": True, "excluded": []}
    body = {"ordering": [], "selectedItems": selected, "filters": {"conjunction": "and", "items": []}}

    project.studio.post("/api/dm/actions", body, id="retrieve_tasks_predictions", project=project.id)
    project.upload(drawings(1, FRUIT, seed=6, prefix="hint-"))

    wait_for("the late task", lambda: len(project.published_order(version)) == len(order) + 1)
    assert project.missing_predictions(version, broken) == ""
    assert not broken & set(project.published_order(version))
    assert [task for task in project.published_order(version) if task in order] == order


def predict(backend: BackendServer, project: LabelProject, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``/predict`` as Label Studio calls it."""
    info = project.info()
    known = Seen.of(backend).state.project(project.id)
    assert known is not None
    body = {"tasks": tasks, "project": known.key, "label_config": info["label_config"], "params": {"context": None}}
    answer = requests.post(f"{backend.url}/predict", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found
