"""Connecting: what is refused and how the owner reads why, credentials, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.integration.helpers import (
    FRUIT,
    LabelProject,
    Seen,
    Studio,
    drawings,
    start_backend,
    wait_for,
)
from tests.rig.servers import BackendServer

QUEUE_TAB = "Acquisition queue"
NO_CYCLE = {"budget": 1000}
RANDOM = {"sampler": "random"} | NO_CYCLE


def tabs(project: LabelProject, title: str = QUEUE_TAB) -> list[dict[str, Any]]:
    found = project.studio.get("/api/dm/views/", project=project.id)
    return [tab for tab in found if tab["data"].get("title") == title]


def connections(project: LabelProject) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = project.studio.get("/api/ml/", project=project.id)
    return found


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra_params", "words"),
    [
        ({"buget": 5}, ["buget", "did you mean budget"]),
        ({"budget": 0}, ["budget", "not 0"]),
        ({"budget": "many"}, ["budget", "whole number", "many"]),
        ({"sampler": "psychic"}, ["sampler", "random, least-confidence, margin", "psychic"]),
        ({"model_dir": "/"}, ["model_dir", "MODEL_DIR", "environment"]),
        ([1, 2], ["extra_params", "JSON object"]),
    ],
    ids=["unknown key", "out of range", "wrong type", "unknown sampler", "not the owner's", "no object"],
)
def test_bad_extra_params_are_refused_with_the_reason(
    extra_params: Any, words: list[str], backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(tasks=0)

    answer = project.connect(backend.url, extra_params)

    assert answer.status_code == 400
    for word in words:
        assert word in answer.text
    assert connections(project) == []
    assert seen.state.projects.get(project.id) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>',
            "Image",
        ),
        (
            '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/><Choice value="b"/>'
            '</Choices><Choices name="d" toName="i"><Choice value="a"/><Choice value="b"/></Choices></View>',
            "2 single-choice",
        ),
        (
            '<View><Image name="i" value="$image"/><RectangleLabels name="r" toName="i"><Label value="a"/>'
            "</RectangleLabels></View>",
            "Choices",
        ),
    ],
    ids=["no image", "two questions", "no choices"],
)
def test_an_unusable_label_config_is_refused_with_the_reason(
    config: str, words: str, backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(tasks=0)
    project.studio.patch(f"/api/projects/{project.id}/", {"label_config": config})

    answer = project.connect(backend.url)

    assert answer.status_code == 400
    assert words in answer.text
    assert connections(project) == []
    assert seen.state.projects.get(project.id) is None


@pytest.fixture
def without_legacy_tokens(studio: Studio) -> Iterator[None]:
    """Label Studio as it comes out of the box, where the token that ``/setup`` brings is refused."""
    before, own = studio.get("/api/jwt/settings"), studio.auth
    access = studio.post("/api/token/refresh/", {"refresh": studio.server.personal_access_token()})["access"]
    studio.post("/api/jwt/settings", before | {"legacy_api_tokens_enabled": False})
    studio.auth = _AccessToken(access)
    yield
    studio.post("/api/jwt/settings", before)
    studio.auth = own


@dataclass(frozen=True)
class _AccessToken(requests.auth.AuthBase):
    """What a personal access token is exchanged for; it lives 5 minutes."""

    access: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.access}"
        return request


@pytest.mark.usefixtures("without_legacy_tokens")
def test_a_refused_token_of_setup_names_the_setting(
    studio: Studio, make_project: Callable[..., LabelProject], tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = make_project(tasks=0)
    server = start_backend(tmp_path_factory.mktemp("keyless"), studio, api_key="", worker=False, LABEL_STUDIO_URL="")
    try:
        answer = project.connect(server.url)
    finally:
        server.stop()

    assert answer.status_code == 400
    assert "LABEL_STUDIO_API_KEY" in answer.text
    assert connections(project) == []
    log = server.log_path.read_text()
    assert studio.server.legacy_token not in answer.text + log
    assert "Traceback" not in log


def test_the_token_of_setup_will_do_where_label_studio_accepts_it(
    studio: Studio, make_project: Callable[..., LabelProject], tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = make_project(FRUIT, tasks=6)
    server = start_backend(tmp_path_factory.mktemp("keyless"), studio, api_key="", LABEL_STUDIO_URL="")
    try:
        project.connected(server.url, RANDOM).wait_for_cycle(0)
    finally:
        server.stop()
    assert studio.server.legacy_token not in server.log_path.read_text()


# -- basic auth --------------------------------------------------------------------------------------------------------

USER, PASSWORD = "label-studio", "open: sesame"


@pytest.fixture(scope="module")
def locked(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    directory = tmp_path_factory.mktemp("locked")
    server = start_backend(directory, studio, BASIC_AUTH_USER=USER, BASIC_AUTH_PASS=PASSWORD)
    yield server
    server.stop()


def test_events_arrive_through_basic_auth(locked: BackendServer, make_project: Callable[..., LabelProject]) -> None:
    project = make_project(FRUIT, tasks=10)
    project.connected(locked.url, {"sampler": "random", "budget": 3}, auth=(USER, PASSWORD))
    project.wait_for_cycle(0)

    def hooks() -> list[dict[str, Any]]:
        found = project.studio.get("/api/webhooks/", project=project.id)
        return [hook for hook in found if hook["headers"]]

    (hook,) = wait_for("the webhook to get the header", hooks)
    assert hook["url"] == f"{locked.url}/webhook"
    assert hook["send_for_all_actions"]

    project.label_served(3)  # nothing but the webhook tells the backend: its slow timer is set to ten minutes

    project.wait_for_cycle(1)
    assert PASSWORD not in locked.log_path.read_text()


def test_the_webhook_has_the_password_before_any_worker_looks(
    studio: Studio, make_project: Callable[..., LabelProject], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("no-worker")
    server = start_backend(directory, studio, worker=False, BASIC_AUTH_USER=USER, BASIC_AUTH_PASS=PASSWORD)
    try:
        project = make_project(FRUIT, tasks=0)
        project.studio.post("/api/webhooks/", {"project": project.id, "url": "http://127.0.0.1:9/webhook"})
        project.connected(server.url, RANDOM, auth=(USER, PASSWORD))

        def headers() -> dict[str, bool]:
            hooks = project.studio.get("/api/webhooks/", project=project.id)
            return {hook["url"]: bool(hook["headers"]) for hook in hooks}

        wait_for("the header", lambda: headers().get(f"{server.url}/webhook"))
        assert headers()["http://127.0.0.1:9/webhook"] is False
    finally:
        server.stop()


def test_without_basic_auth_everything_but_health_is_closed(
    locked: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(tasks=0)
    answer = project.connect(locked.url)
    assert answer.status_code == 400
    assert "401" in answer.text
    assert connections(project) == []

    def status(method: str, path: str, **options: Any) -> int:
        return requests.request(method, locked.url + path, timeout=10, **options).status_code

    assert status("GET", "/health") == 200
    closed = [("POST", "/setup"), ("POST", "/predict"), ("POST", "/webhook"), ("GET", "/versions"), ("GET", "/metrics")]
    for method, path in closed:
        assert status(method, path) == 401, path
        assert status(method, path, auth=(USER, "wrong")) == 401, path
    assert status("GET", "/metrics", auth=(USER, PASSWORD)) == 200


# -- the owner's project -----------------------------------------------------------------------------------------------


def test_the_queue_tab_is_made_once_and_then_the_owners(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(FRUIT, tasks=12).connected(backend.url, RANDOM)
    version = project.wait_for_cycle(0)
    (tab,) = wait_for("the tab", lambda: tabs(project))
    assert tab["data"]["ordering"] == ["tasks:predictions_score"]

    # the Data Manager's own route to the next task, in the order of the tab
    first = project.studio.post("/api/dm/actions", {}, id="next_task", project=project.id, tabID=tab["id"])
    assert first["id"] == project.published_order(version)[0]

    changed = {**tab["data"], "gridWidth": 7}
    project.studio.patch(f"/api/dm/views/{tab['id']}/", {"project": project.id, "data": changed})
    saved = {"url": backend.url, "project": project.id, "title": "AL", "extra_params": RANDOM | {"seed": 1}}
    project.studio.patch(f"/api/ml/{project.ml_backend}", saved)
    project.upload(drawings(1, FRUIT, seed=4, prefix="late-"))  # something to do, so that we know when it has looked
    wait_for("the late task", lambda: len(project.predictions(project.version())) == 13)
    project.wait_for_version()
    wait_for("all to be done", lambda: seen.idle(project))

    (kept,) = tabs(project)
    assert kept["id"] == tab["id"]
    assert kept["data"]["gridWidth"] == 7


def test_manage_queue_false_leaves_the_project_alone(
    backend: BackendServer, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    project = make_project(FRUIT, tasks=14)
    before = project.info()
    project.connected(backend.url, {"sampler": "entropy", "budget": 4, "manage_queue": False})
    versions = wait_for("the first order", lambda: whole_versions(project, 14))
    assert len(versions) == 1
    for task in sorted(project.tasks())[:4]:
        project.annotate(task, project.truth(project.tasks()[task]))
    versions = wait_for("a version of cycle 1", lambda: [v for v in whole_versions(project, 10) if "-c1-" in v])
    wait_for("all to be done", lambda: seen.idle(project))

    after = project.info()
    assert after["sampling"] == before["sampling"]
    assert after["model_version"] in ("", "AL")  # the backend's title, which Label Studio itself puts there
    assert tabs(project) == []
    assert {item["task"] for item in project.predictions(versions[0])} == project.unlabelled()


def whole_versions(project: LabelProject, size: int) -> list[str]:
    """Versions that have exactly ``size`` predictions."""
    held = [item["model_version"] for item in project.predictions()]
    return sorted(name for name in set(held) if held.count(name) == size)
