"""Images that cannot be had, and the answers to ``/predict``: nothing of this stops a cycle or shifts an answer."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.integration.helpers import FAST, FRUIT, LabelProject, Seen, drawings, wait_for
from tests.rig.processes import HOST, REPOSITORY
from tests.rig.servers import BackendServer
from tests.rig.waiting import PATIENCE

NO_CYCLE = {"budget": 1000}
TRIES = 3  # at one image, each time


def status(backend: BackendServer) -> Any:
    """What ``python -m backend status --json`` prints alongside a running backend."""
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


class Pictures:
    """A web server with one picture, which is not there yet: 404 until ``there`` is set."""

    def __init__(self) -> None:
        self.there = False
        self.asked = 0
        pictures = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pictures.asked += 1
                self.send_response(200 if pictures.there else 404)
                self.end_headers()
                if pictures.there:
                    self.wfile.write(next(iter(drawings(1, FRUIT).values())))

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    pictures = Pictures()
    yield pictures
    pictures.server.shutdown()
    pictures.server.server_close()


@pytest.fixture
def project(backend: BackendServer, make_project: Callable[..., LabelProject], pictures: Pictures) -> LabelProject:
    """Twenty good pictures, a dead address and an upload that is no picture; connected, not yet ordered."""
    project = make_project(FRUIT, tasks=20)
    project.upload({"9998-apple.png": b"this is no picture"})
    project.import_tasks([{"image": f"{pictures.url}/gone-9999-pear.png"}])
    return project.connected(backend.url, {"sampler": "entropy"} | NO_CYCLE)


def broken_of(project: LabelProject) -> list[int]:
    """The upload that is no picture, and the dead address."""
    return sorted(project.tasks())[20:]


def test_broken_images_are_set_aside_and_listed(project: LabelProject, backend: BackendServer, seen: Seen) -> None:
    broken = broken_of(project)
    version = project.wait_for_cycle(0, without=broken)
    assert not set(broken) & set(project.published_order(version))

    project.label_served(5)
    project.annotate(broken[0], "apple")  # a label without a picture: nothing to learn from
    project.start_training()
    version = project.wait_for_cycle(1, without=broken)

    assert seen.labels(project) == {1: 5}
    order = project.published_order(version)
    assert len(order) == 15
    assert project.label_served(3) == order[:3]
    (entry,) = [item for item in status(backend)["projects"] if item["id"] == project.id]
    listed = {item["task"]: item["reason"] for item in entry["broken_images"]}
    assert sorted(listed) == broken
    assert all(listed.values())
    assert any("404" in reason for reason in listed.values())


@pytest.mark.long
def test_a_mended_image_joins(
    project: LabelProject, pictures: Pictures, make_project: Callable[..., LabelProject]
) -> None:
    broken = broken_of(project)
    version = project.wait_for_cycle(0, without=broken)
    (donor,) = make_project(FRUIT, tasks=1).tasks().values()

    project.studio.patch(f"/api/tasks/{broken[0]}/", {"data": donor["data"]})  # Label Studio tells nobody of this
    pictures.there = True

    assert project.wait_for_version() == version
    assert set(broken) <= set(project.published_order(version))


@pytest.mark.long
def test_a_broken_image_with_a_label_keeps_nobody_busy(project: LabelProject, pictures: Pictures) -> None:
    broken = broken_of(project)
    project.wait_for_cycle(0, without=broken)
    project.annotate(broken[1], "pear")
    began, pictures.asked = time.monotonic(), 0
    wait_for("another look", lambda: pictures.asked >= 1)
    time.sleep(2.5)

    looks = 1 + (time.monotonic() - began) / float(FAST["RETRY_BROKEN_SECONDS"])
    assert pictures.asked <= looks * TRIES


@pytest.mark.long
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
        {**tasks[known[1]], "id": 999_999},  # not in the project, with a good picture
        tasks[broken[1]],
        tasks[known[2]],
        {"id": 999_998, "data": {"nothing": "at all"}},
        tasks[broken[0]],
    ]

    answer = predict(backend, project, asked)

    assert len(answer) == len(asked)
    for place, task in ((0, known[0]), (3, known[2])):
        assert answer[place]["score"] == published[task]["score"]
        assert answer[place]["result"][0]["value"] == published[task]["result"][0]["value"]
        assert answer[place]["model_version"] == version
    for place in (1, 2, 4, 5):
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
    assert not set(broken) & set(project.published_order(version))
    assert [task for task in project.published_order(version) if task in order] == order


def predict(backend: BackendServer, project: LabelProject, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``/predict`` as Label Studio calls it."""
    info = project.info()
    known = Seen.of(backend).state.projects.get(project.id)
    assert known is not None
    body = {"tasks": tasks, "project": known.key, "label_config": info["label_config"], "params": {"context": None}}
    answer = requests.post(f"{backend.url}/predict", json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found
