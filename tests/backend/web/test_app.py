"""The web process as Label Studio meets it: a real server, spoken to over HTTP."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import sqlite3
import statistics
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from backend.files import predictions_folder, project_folder
from backend.settings.core import Settings
from backend.state import Project, State, Version
from backend.tasks.kept_probabilities import write_probabilities
from backend.tasks.label_config import import_ahead
from backend.tasks.segmentation.config import segmentation_spec
from backend.tasks.segmentation.masks import regions_to_mask
from backend.tasks.segmentation.predictions import write_masks
from backend.web import key_check, predictions
from backend.web import plugin as model
from backend.web.app import create_app
from backend.web.errors import reason_phrase
from backend.web.plugin import NO_PREDICTION
from tests.backend.small_label_studio import (
    CONFIG,
    MASKS_CONFIG,
    TAGS_CONFIG,
    SmallLabelStudio,
    project_key,
    small_label_studio,
)
from tests.rig.servers import BackendServer
from tests.rig.waiting import PATIENCE, wait_for

TOKEN = "a-token-of-ours-and-nobody-else"
BROUGHT = "the-token-that-setup-brought"


@dataclass
class Reply:
    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


def call(url: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
    """One request; ``body`` is sent as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    began = time.monotonic()
    try:
        connection.request(method, path, content, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return Reply(answer.status, answer.reason, answer.headers, answer.read(), time.monotonic() - began)
    finally:
        connection.close()


def setup_body(number: int, extra_params: Any = None, **changes: Any) -> dict[str, Any]:
    """As Label Studio's connector sends it."""
    return {
        "project": project_key(number),
        "schema": CONFIG,
        "hostname": "http://localhost:8080",
        "access_token": BROUGHT,
        "extra_params": extra_params,
    } | changes


def hook(action: str, number: int, **payload: Any) -> dict[str, Any]:
    return {"action": action, "project": {"id": number, "title": "Pets", "label_config": CONFIG}, **payload}


@pytest.fixture(scope="module")
def studio() -> Iterator[SmallLabelStudio]:
    with small_label_studio() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, studio: SmallLabelStudio) -> Iterator[BackendServer]:
    with BackendServer(tmp_path_factory.mktemp("app"), studio.url, TOKEN, worker=False) as running:
        yield running  # type: ignore[misc]


@pytest.fixture(scope="module")
def state(server: BackendServer) -> Iterator[State]:
    opened = State(f"sqlite:///{server.directory / 'state.sqlite3'}")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def well_again(studio: SmallLabelStudio) -> Iterator[None]:
    yield
    studio.mode = "well"
    studio.let_go.set()


def published(state: State, number: int, tasks: list[int], **values: Any) -> Version:
    """A version of project ``number`` in force, with an answer for each of ``tasks``: cat and dog in turn."""
    assert state.leases.take(number, "test", 60)
    version = state.versions.add(
        number,
        "test",
        **{
            "cycle": 1,
            "name": f"entropy-c1-{number:08x}",
            "sampler": "entropy",
            "checkpoint": None,
            "classes": ["cat", "dog"],
            "metrics": {"labels": 4},
            "task_ids": np.array(tasks, dtype=np.int64),
            "priority_score": np.linspace(0.1, 0.9, len(tasks)),
            "class_index": np.arange(len(tasks)) % 2,
            "confidence": np.full(len(tasks), 0.75),
        }
        | values,
    )
    state.versions.switch_to(version, "test")
    state.leases.release(number, "test")
    return version


# -- everywhere --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/"])
def test_health(server: BackendServer, path: str) -> None:
    answer = call(server.url, "GET", path)
    assert answer.status == 200
    assert answer.json["status"] == "UP" and answer.json["model_class"] == "ActiveLearningBackend"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("GET", "/setup", None, 405),
        ("POST", "/health", {}, 405),
        ("POST", "/setup", b"{", 400),
        ("POST", "/setup", b"[1]", 400),
        ("POST", "/setup", {"schema": CONFIG}, 400),
        ("POST", "/setup", setup_body(1, schema=5), 400),
        ("POST", "/webhook", b"not json", 400),
        ("POST", "/webhook", {"project": {"id": 1}}, 400),
        ("POST", "/webhook", {"action": "ANNOTATION_CREATED"}, 400),
        ("POST", "/webhook", {"action": ["x"], "project": {"id": "x"}}, 400),
        ("POST", "/predict", {"tasks": "all"}, 400),
        ("POST", "/predict", {"tasks": [1]}, 400),
        ("POST", "/train", {"project": "77.1"}, 400),
        ("POST", "/job_status", {"job": "77-1"}, 410),
        ("POST", "/job_status", {"job": "1-" + "9" * 5000}, 410),
        ("POST", "/job_status", {"job": "²-²"}, 410),
        ("GET", "/versions?project=pets", None, 400),
        ("GET", f"/versions?project={2**63}", None, 400),
        ("GET", "/versions", b"nonsense", 400),
        ("POST", "/webhook", b'{"action":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        ("POST", "/webhook", b'{"action":' + b'{"a":' * 60 + b"1" + b"}" * 61, 400),
        ("POST", "/webhook", b'{"action": ' + b"9" * 5000 + b"}", 400),
        ("POST", "/webhook", b'{"action": "\xff"}', 400),
        ("POST", "/webhook", {"action": "ANNOTATION_CREATED", "project": {"id": 2**63}}, 400),
        ("POST", "/setup", setup_body(1, project="9" * 30), 400),
        ("POST", "/setup", b'{"schema": "' + b"x" * 2**21 + b'"}', 413),
    ],
)
def test_errors_are_json_with_one_sentence(
    server: BackendServer, method: str, path: str, body: Any, status: int
) -> None:
    answer = call(server.url, method, path, body)
    assert answer.status == status
    assert list(answer.json) == ["error"] and answer.json["error"]
    if status == 405:
        assert "Allow" in answer.headers


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: BackendServer) -> None:
    answer = call(server.url, "POST", "/webhook", b"{}", {"content-length": str(10**9)})
    assert answer.status == 413 and answer.json["error"]


def test_what_is_no_http_is_refused_as_json_too(server: BackendServer) -> None:
    answer = call(server.url, "GET", "/health", headers={"x": "y" * 40_000})
    assert answer.status == 431 and answer.json["error"]


def test_ids_that_are_none_get_an_entry_like_any_other_task(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(29))
    version = published(state, 29, [1, 2])
    odd = [True, 2**63, -1, 0, "1", 1.5, None, [1], {}]
    first, *others, last = predict(server, 29, [{"id": 1}, *({"id": number} for number in odd), {"id": 2}])
    assert first["model_version"] == last["model_version"] == version.name
    assert others == [NO_PREDICTION] * len(odd)


def test_an_unforeseen_error_shows_nothing_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(model_dir=str(tmp_path)))

    def fail() -> None:
        raise RuntimeError("the inside of it")

    app.add_url_rule("/fail", "fail", fail)
    answer = app.test_client().get("/fail")
    assert answer.status_code == 500
    assert (
        b"inside" not in answer.data
        and b"Traceback" not in answer.data
        and answer.json == {"error": "internal error; the backend's log says more"}
    )
    assert "the inside of it" in caplog.text


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ("plain words", "plain words"),
        ("two\r\nSet-Cookie: x\tlines", "two Set-Cookie: x lines"),
        ("naïve café", "naïve café"),
        ("“budget” – 5…", '"budget" - 5...'),
        ("猫 \x00\x85\xad", "? ? ?"),  # U+0085 is white space
        ("one of " + "x" * 1000 + ", not 5", f"one of {'x' * 210}...{'x' * 73}, not 5"),
    ],
)
def test_a_reason_phrase_is_one_latin_1_line(words: str, phrase: str) -> None:
    assert reason_phrase(words) == phrase
    phrase.encode("latin-1")


def endpoints(folder: Path) -> dict[str, list[str]]:
    """Path → methods of all there are."""
    rules = create_app(Settings(model_dir=str(folder))).url_map.iter_rules()
    return {rule.rule: sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}) for rule in rules}


def test_whatever_can_be_read_can_be_read_before_a_project_is_connected(tmp_path: Path) -> None:
    client = create_app(Settings(model_dir=str(tmp_path))).test_client()
    pages = [path for path, methods in endpoints(tmp_path).items() if "GET" in methods and "<" not in path]
    assert {"/", "/health", "/versions", "/metrics"} <= set(pages)
    for accept in ("*/*", "text/html"):
        found = {path: client.get(path, headers={"Accept": accept}).status_code for path in pages}
        assert found == dict.fromkeys(pages, 200)


# -- basic auth --------------------------------------------------------------------------------------------------------

USER, PASSWORD = "label-studio", "grün: sesame"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, studio: SmallLabelStudio) -> Iterator[BackendServer]:
    env = {"BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD}
    with BackendServer(tmp_path_factory.mktemp("locked"), studio.url, TOKEN, env=env, worker=False) as running:
        yield running  # type: ignore[misc]


def authorization(text: str, coding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(text.encode(coding)).decode()}


def test_everything_but_health_asks_for_the_password(locked: BackendServer, tmp_path: Path) -> None:
    for path in ("/health", "/"):
        assert call(locked.url, "GET", path).status == 200
    overview = call(locked.url, "GET", "/", headers={"Accept": "text/html"})
    assert overview.status == 401 and b"basic auth" in overview.body and "html" in overview.headers["content-type"]
    closed = {path: methods for path, methods in endpoints(tmp_path).items() if path not in ("/health", "/")}
    assert len(closed) >= 7
    for method, path in [("GET", "/nowhere"), *((method, path) for path, found in closed.items() for method in found)]:
        answer = call(locked.url, method, path, {} if method == "POST" else None)
        assert answer.status == 401, path
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert "basic auth" in answer.json["error"] and "basic auth" in answer.reason


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (authorization(f"{USER}:{PASSWORD}"), 200),
        (authorization(f"{USER}:{PASSWORD}", "latin-1"), 200),  # what Label Studio's client sends
        (authorization(f"{USER}:wrong"), 401),
        (authorization(f"someone:{PASSWORD}"), 401),
        (authorization(USER), 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Bearer " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}, 401),
        ({"Authorization": ""}, 401),
    ],
)
def test_the_password_is_checked(locked: BackendServer, header: dict[str, str], status: int) -> None:
    assert call(locked.url, "GET", "/versions", headers=header).status == status


# -- /setup ------------------------------------------------------------------------------------------------------------


def test_connecting_twice_is_harmless_and_asks_label_studio_once(
    server: BackendServer, state: State, studio: SmallLabelStudio
) -> None:
    first = call(server.url, "POST", "/setup", setup_body(11, {"sampler": "vaal", "budget": 5}))
    assert (first.status, first.json) == (200, {"model_version": ""})
    # at its start it also asks which projects name it
    before, asked = state.projects.get(11), [path for path, _ in studio.asked if path != "/api/projects/"]
    assert before is not None and before.extra_params == {"sampler": "vaal", "budget": 5}
    assert (before.key, before.url, before.token) == (project_key(11), "http://localhost:8080", "")

    again = call(server.url, "POST", "/setup", setup_body(11, json.dumps({"sampler": "vaal", "budget": 5})))
    assert again.status == 200
    assert without_arrivals(state.projects.get(11)) == without_arrivals(before)
    assert [path for path, _ in studio.asked if path != "/api/projects/"] == asked, (
        "a key that worked is believed for a while"
    )
    assert {header for path, header in studio.asked} == {f"Token {TOKEN}"}, "our own key goes before the brought one"


def test_setup_tells_the_version_in_force(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(12))
    version = published(state, 12, [1, 2])
    assert call(server.url, "POST", "/setup", setup_body(12)).json == {"model_version": version.name}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extra_params": {"buget": 5}}, 'unknown key "buget"; did you mean budget?'),
        ({"extra_params": {"budget": "many"}}, 'budget must be a whole number (1 to 1000000), not "many"'),
        ({"extra_params": [1]}, "must be a JSON object"),
        ({"extra_params": {"sampler": "évil\r\nX-Injected: yes\r\n\r\n猫"}}, "sampler must be one of random"),
        ({"schema": "<View/>"}, "Image"),
        ({"schema": "<View"}, "label config"),
        ({"schema": ""}, "label config"),
        ({"schema": MASKS_CONFIG, "extra_params": {"sampler": "ads"}}, "has no meaning for masks"),
        ({"schema": MASKS_CONFIG, "extra_params": {"unlabelled": "ignore"}}, "what is background"),
        ({"schema": MASKS_CONFIG, "extra_params": {"task": "classification"}}, "Choices"),
        ({"schema": CONFIG, "extra_params": {"task": "segmentation"}}, "BrushLabels"),
    ],
)
def test_what_the_owner_can_put_right_stands_in_the_reason_phrase(
    server: BackendServer, state: State, changes: dict[str, Any], words: str
) -> None:
    answer = call(server.url, "POST", "/setup", setup_body(13, **changes))
    assert answer.status == 400
    assert words in answer.json["error"]
    assert words in answer.reason and answer.reason == reason_phrase(answer.json["error"])
    assert "X-Injected" not in answer.headers
    assert state.projects.get(13) is None


@pytest.mark.parametrize(
    ("mode", "words"),
    [("refuses", "LABEL_STUDIO_API_KEY"), ("elsewhere", "LABEL_STUDIO_URL")],
)
def test_a_key_that_does_not_open_the_project_is_refused_with_what_to_set(
    server: BackendServer, state: State, studio: SmallLabelStudio, mode: str, words: str
) -> None:
    studio.mode = mode
    answer = call(server.url, "POST", "/setup", setup_body(14))
    assert answer.status == 400 and words in answer.reason
    assert TOKEN not in answer.reason + answer.body.decode()
    assert state.projects.get(14) is None


def test_the_same_number_in_another_label_studio_is_refused(server: BackendServer, state: State) -> None:
    answer = call(server.url, "POST", "/setup", setup_body(15, project="15.1600000000"))
    assert answer.status == 400 and "LABEL_STUDIO_URL" in answer.reason
    assert state.projects.get(15) is None


def test_a_token_that_label_studio_brought_and_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import_ahead()  # as the web process does: it takes longer than the check may
    app = create_app(Settings(model_dir=str(tmp_path)))
    with small_label_studio("refuses") as studio:  # its own: the shared server asks the shared one at any time
        answer = app.test_client().post("/setup", json=setup_body(1, hostname=studio.url))
        assert answer.status_code == 400
        words = answer.json["error"]
        assert "LABEL_STUDIO_API_KEY" in words and "LABEL_STUDIO_URL" in words and BROUGHT not in words
        studio.mode = "well"
        assert app.test_client().post("/setup", json=setup_body(1, hostname=studio.url)).status_code == 200
    assert studio.asked[-1][1] == f"Token {BROUGHT}"
    assert BROUGHT not in caplog.text
    known = app.extensions["services"].state.projects.get(1)
    assert known.token == BROUGHT, "without a key of our own it is the only way into Label Studio"


def test_a_token_that_came_with_setup_is_not_stored_beside_a_key_of_our_own(
    tmp_path: Path, studio: SmallLabelStudio
) -> None:
    import_ahead()
    app = create_app(Settings(model_dir=str(tmp_path)))
    assert app.test_client().post("/setup", json=setup_body(1, hostname=studio.url)).status_code == 200
    assert app.extensions["services"].state.projects.get(1).token == BROUGHT
    app.extensions["services"].close()

    own = Settings(model_dir=str(tmp_path), label_studio_url=studio.url, label_studio_api_key=TOKEN)
    state = State.for_settings(own)
    known = state.projects.get(1)
    assert known is not None and known.token == "", "one that was stored before there was a key is forgotten"
    state.close()


@pytest.mark.parametrize("mode", ["refuses", "hangs"])
def test_what_nobody_has_checked_does_not_decide_what_the_log_may_say(
    tmp_path: Path, studio: SmallLabelStudio, mode: str
) -> None:
    import_ahead()
    app = create_app(Settings(model_dir=str(tmp_path)))
    studio.mode = mode
    studio.let_go.clear()
    app.test_client().post("/setup", json=setup_body(1, hostname=studio.url, access_token="Project"))
    redact = app.extensions["services"].redact
    assert redact("Project 5 is published") == "Project 5 is published"


def test_setup_answers_in_time_while_label_studio_hangs(
    server: BackendServer, state: State, studio: SmallLabelStudio
) -> None:
    """Label Studio gives 3 seconds. A dozen at once is more than there are checks at a time. No check is answered
    before all of them are, so what they wait for are our own limits."""
    studio.mode = "hangs"
    studio.let_go.clear()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: call(server.url, "POST", "/setup", setup_body(n)), range(100, 112)))
    assert call(server.url, "GET", "/health").status == 200
    assert not studio.let_go.is_set()
    assert [answer.status for answer in answers] == [200] * 12
    assert key_check.DEADLINE_SECONDS + model.SETUP_SECONDS < 3.0
    assert statistics.median(answer.seconds for answer in answers) < 3.0
    assert all(state.projects.get(number) is not None for number in range(100, 112)), "the worker will find out"


@pytest.mark.parametrize("mode", ["well", "hangs"])
@pytest.mark.parametrize("named", ["{number}", "{number}.1600000000"])
def test_a_request_without_proof_erases_nothing(
    server: BackendServer, state: State, studio: SmallLabelStudio, mode: str, named: str
) -> None:
    """Whoever reaches the port can say what project he likes, and Label Studio may be too slow to contradict."""
    number = {"{number}": 160, "{number}.1600000000": 170}[named] + (mode == "hangs")
    state.projects.connect(
        number, project_key(number), CONFIG, {"budget": 7}, "http://mine", "my token", studio=studio.url
    )
    version = published(state, number, [1, 2], seen={5: "monday"})
    before = state.projects.get(number)
    studio.mode = mode
    studio.let_go.clear()

    body = {"project": named.format(number=number), "schema": MASKS_CONFIG}
    answer = call(server.url, "POST", "/setup", body | {"hostname": "http://evil", "access_token": "stolen"})

    assert answer.status == (400 if mode == "well" and "." in body["project"] else 200)
    assert [one.name for one in state.versions.of_project(number)] == [version.name]
    assert state.scores.order(version).tolist() == [1, 2] and state.labels.seen(number) == {5: "monday"}
    assert without_arrivals(state.projects.get(number)) == without_arrivals(before)


def without_arrivals(project: Project | None) -> Project:
    """All but that /setup arrived, and where: what Label Studio's list of connections is compared with."""
    assert project is not None
    return replace(project, setups=0, address="")


def test_what_label_studio_is_too_slow_to_confirm_waits_for_a_worker(
    server: BackendServer, state: State, studio: SmallLabelStudio
) -> None:
    studio.mode = "hangs"
    studio.let_go.clear()
    assert call(server.url, "POST", "/setup", setup_body(80)).status == 200
    assert state.projects.get(80).standing == "unchecked"  # type: ignore[union-attr]
    studio.mode = "well"
    studio.let_go.set()
    wait_for("a free check", lambda: call(server.url, "POST", "/setup", setup_body(80)).status == 200)
    wait_for("it to be confirmed", lambda: state.projects.get(80).standing == "connected")  # type: ignore[union-attr]


def test_without_a_key_of_ours_another_label_studio_is_another_project(tmp_path: Path) -> None:
    import_ahead()
    app = create_app(Settings(model_dir=str(tmp_path)))
    state: State = app.extensions["services"].state
    with small_label_studio() as mine, small_label_studio() as evil:
        client = app.test_client()
        body = setup_body(27, hostname=mine.url)
        assert client.post("/setup", json=body).status_code == 200
        before = state.projects.get(27)
        assert client.post("/setup", json=body | {"hostname": evil.url, "access_token": "stolen"}).status_code == 200
        assert state.projects.get(27) == before
        assert [(one.number, one.studio) for one in state.projects.all()] == [(27, mine.url), (27, evil.url)]
        mine.mode = "refuses"
        assert client.post("/setup", json=body | {"access_token": "stolen"}).status_code == 400
        assert state.projects.get(27) == before


def test_predictions_are_those_of_the_label_studio_that_asks(server: BackendServer, state: State) -> None:
    other = 27 + 10**9
    for number, studio, key in ((27, "http://a", "27.100"), (27, "http://b", "27.200"), (27, "http://c", "27.200")):
        other = state.projects.connect(number, key, CONFIG, {}, studio, "")
        task_ids = [1, 2]
        state.tasks.put(other, {task: f"{studio}/{task}.png" for task in task_ids})
        published(state, other, task_ids, name=f"version-at-{studio[-1]}")

    def asked(project: str, source: str) -> list[str]:
        tasks = [{"id": 1, "data": {"image": source}}]
        body = {"tasks": tasks, "project": project, "label_config": CONFIG, "params": {}}
        answer = call(server.url, "POST", "/predict", body)
        return [one["model_version"] for one in answer.json["results"]]

    assert asked("27.100", "") == ["version-at-a"]
    assert asked("27.200", "http://b/1.png") == ["version-at-b"]
    assert asked("27.200", "http://c/1.png") == ["version-at-c"]
    assert asked("27", "http://b/1.png") == ["version-at-b"]
    assert asked("27.300", "http://b/1.png") == [""]
    found = call(server.url, "GET", "/versions?project=27").json["projects"]
    assert {name: one["current"] for name, one in found.items()} == {
        "27": "version-at-a",
        "27@http://b": "version-at-b",
        "27@http://c": "version-at-c",
    }


def test_setup_answers_in_time_when_nobody_is_there(tmp_path: Path) -> None:
    app = create_app(
        Settings(model_dir=str(tmp_path), label_studio_url="http://127.0.0.1:9", label_studio_api_key="k" * 9)
    )
    import_ahead()  # as the web process does
    began = time.monotonic()
    assert app.test_client().post("/setup", json=setup_body(1)).status_code == 200
    assert time.monotonic() - began < 3.0


# -- /predict ----------------------------------------------------------------------------------------------------------


def predict(server: BackendServer, number: int, tasks: list[dict[str, Any]], config: str = CONFIG) -> list[Any]:
    body = {
        "tasks": tasks,
        "project": project_key(number),
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }
    answer = call(server.url, "POST", "/predict", body)
    assert answer.status == 200
    results = answer.json["results"]
    assert len(results) == len(tasks)
    assert isinstance(results, list)
    return results


def known(state: State, number: int, tasks: list[dict[str, Any]]) -> None:
    """As after a comparison with Label Studio, which holds these tasks."""
    state.tasks.put(number, {task["id"]: task["data"].get("image", "") for task in tasks})


def load_the_model(server: BackendServer, number: int, tasks: list[dict[str, Any]], config: str = CONFIG) -> None:
    """The first fresh answer waits for torch, which on a busy machine may take all the time that an answer has."""
    wait_for("the model", lambda: predict(server, number, tasks, config) != [NO_PREDICTION])


def test_stored_answers_one_for_each_task_in_order(server: BackendServer, state: State) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    call(server.url, "POST", "/setup", setup_body(21))
    version = published(state, 21, [5, 6, 7])
    tasks = [
        {"id": 7, "data": {}},
        {"id": 99, "data": {"image": "http://127.0.0.1:9/x.png"}},
        {"id": 5},
        {},
        {"id": "x"},
    ]
    last, unknown, first, *odd = predict(server, 21, tasks)
    assert unknown == NO_PREDICTION and odd == [NO_PREDICTION, NO_PREDICTION]
    assert first["score"] == pytest.approx(0.1) and last["score"] == pytest.approx(0.9)
    assert first["model_version"] == last["model_version"] == version.name
    (region,) = first["result"]
    assert region["type"] == "choices" and region["value"] == {"choices": ["cat"]}
    assert (region["from_name"], region["to_name"], region["score"]) == ("what", "pic", 0.75)
    assert LabelInterface(CONFIG).validate_prediction(first)


def test_an_order_without_a_model_answers_with_its_scores(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(22))
    version = published(state, 22, [1, 2], class_index=None, confidence=None, classes=[])
    first, fresh = predict(server, 22, [{"id": 1, "data": {}}, {"id": 3, "data": {"image": "x"}}])
    assert (first["result"], first["score"], first["model_version"]) == ([], pytest.approx(0.1), version.name)
    assert fresh == NO_PREDICTION


def test_an_answer_that_is_not_sure_enough_keeps_its_score_alone(server: BackendServer, state: State) -> None:
    """The stored confidence is 0.75; what was measured when the version was trained says 0.8, and the owner 0.7."""
    for number, params, ticked in ((34, {}, False), (35, {"preannotate_above": 0.7}, True)):
        call(server.url, "POST", "/setup", setup_body(number, params or None))
        metrics = {"task": "classification", "train_preannotate_above": 0.8}
        version = published(state, number, [1], metrics=metrics)
        (entry,) = predict(server, number, [{"id": 1}])
        assert (bool(entry["result"]), entry["score"]) == (ticked, pytest.approx(0.1))
        assert entry["model_version"] == version.name


def test_a_class_that_left_the_label_config_is_no_answer(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(23))
    published(state, 23, [1, 2])
    cat, dog = predict(server, 23, [{"id": 1}, {"id": 2}], CONFIG.replace('"cat"', '"lion"'))
    assert cat["result"] == [] and cat["score"] == pytest.approx(0.1)
    assert dog["result"][0]["value"] == {"choices": ["dog"]}


def test_unknown_projects_and_no_version_get_an_entry_too(server: BackendServer) -> None:
    assert predict(server, 999, [{"id": 1, "data": {}}]) == [NO_PREDICTION]
    call(server.url, "POST", "/setup", setup_body(24))
    assert predict(server, 24, [{"id": 1, "data": {}}, {"id": 2, "data": {}}]) == [NO_PREDICTION, NO_PREDICTION]
    assert predict(server, 24, []) == []


def picture(color: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), color, np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()


def test_tasks_without_an_answer_get_a_fresh_one_and_a_broken_image_spoils_only_its_own(
    server: BackendServer, state: State, studio: SmallLabelStudio, tmp_path: Path
) -> None:
    import torch

    from backend.learning.learner import Learner

    settings = Settings(sampler="entropy", task_width=4)
    learner = Learner.fresh(settings, ("cat", "dog"), 32, torch.device("cpu"), seed=0)
    learner.save(tmp_path / "entropy.pt")
    call(server.url, "POST", "/setup", setup_body(25))
    version = published(state, 25, [1], checkpoint=str(tmp_path / "entropy.pt"))

    tasks = [
        {"id": 50, "data": {"image": picture(200)}},
        {"id": 1, "data": {}},
        {"id": 51, "data": {"image": "data:image/png;base64,AAAA"}},
        {"id": 52, "data": {}},
        {"id": 53, "data": {"image": picture(20)}},
    ]
    known(state, 25, tasks)
    load_the_model(server, 25, tasks[:1])
    light, stored, broken, missing, dark = predict(server, 25, tasks)
    assert broken == missing == NO_PREDICTION
    assert stored["score"] == pytest.approx(0.1)
    found, scores = learner.predict(np.stack([np.full((32, 32, 3), c, np.uint8) for c in (200, 20)]))
    labels = [("cat", "dog")[index] for index in found.predicted]
    for entry, label, sure, score in zip((light, dark), labels, found.confidence, scores, strict=True):
        assert entry["model_version"] == version.name
        assert entry["score"] == pytest.approx(score, rel=1e-3)
        assert entry["result"][0]["value"] == {"choices": [label]}
        assert entry["result"][0]["score"] == pytest.approx(sure, rel=1e-3)

    # whoever asks may name any address: what is fetched is what stands in Label Studio, or nothing at all
    elsewhere, fetched, brought = predict(
        server,
        25,
        [
            tasks[0] | {"data": tasks[4]["data"]},
            {"id": 54, "data": {"image": f"{studio.url}/a.png"}},
            {"id": 55, "data": tasks[0]["data"]},
        ],
    )
    for entry in (elsewhere, brought):
        assert entry["score"] == pytest.approx(light["score"], rel=1e-6) != pytest.approx(dark["score"], rel=1e-6)
    assert fetched == NO_PREDICTION
    assert "/a.png" not in [path for path, _ in studio.asked]
    state.tasks.set_deadly(25, [(50, picture(200))], 600)  # what killed a process is left alone
    assert predict(server, 25, tasks[:1]) == [NO_PREDICTION]

    known(state, 25, [{"id": 60, "data": {"image": picture(1)}}])
    spoilt = published(state, 25, [2], checkpoint=str(tmp_path / "gone.pt"), name="entropy-c2-0")
    fresh, stored = predict(server, 25, [{"id": 60, "data": {"image": picture(1)}}, {"id": 2}])
    assert fresh == NO_PREDICTION and stored["model_version"] == spoilt.name


# -- /predict with masks -----------------------------------------------------------------------------------------------

FRAME, ORIGINAL = (12, 16), (24, 32)


def connect_masks(server: BackendServer, number: int, **extra_params: Any) -> None:
    answer = call(server.url, "POST", "/setup", setup_body(number, extra_params, schema=MASKS_CONFIG))
    assert answer.status == 200, answer.reason


def published_masks(
    server: BackendServer, state: State, number: int, tasks: list[int], kept: int, **values: Any
) -> np.ndarray:
    """A version of masks in force; those (kept, H, W) of its first ``kept`` tasks come back: a cat, and from the second
    on a dog too."""
    name = f"entropy-c1-{number:08x}"
    masks = np.zeros((kept, *FRAME), np.uint8)
    masks[:, 2:8, 1:7], masks[1:, 3:11, 9:14] = 1, 2
    folder = predictions_folder(project_folder(server.directory, project_key(number)), name)
    sure = np.full(masks.shape, 51, np.uint8)
    sizes = np.tile(ORIGINAL, (kept, 1))
    write_masks(folder, ["cat", "dog"], FRAME, tasks[:kept], sizes, [(np.arange(kept), masks, sure)])
    fields = {"class_index": None, "metrics": {"task": "segmentation"}, **values}
    version = published(state, number, tasks, name=name, **fields)
    assert version.name == name
    return masks


@pytest.mark.parametrize("kind", ["brush", "polygon"])
def test_stored_masks_are_regions_of_the_image_as_it_is(server: BackendServer, state: State, kind: str) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    number = 61 + len(kind)
    connect_masks(server, number, preannotation=kind)
    masks = published_masks(server, state, number, [5, 6, 7], kept=2)
    second, first, without = predict(server, number, [{"id": 6}, {"id": 5}, {"id": 7}], MASKS_CONFIG)
    spec = segmentation_spec(MASKS_CONFIG)
    for entry, mask, labels in ((first, masks[0], ["cat"]), (second, masks[1], ["cat", "dog"])):
        assert LabelInterface(MASKS_CONFIG).validate_prediction(entry)
        assert sorted(region["value"][f"{kind}labels"][0] for region in entry["result"]) == labels
        assert {region["score"] for region in entry["result"]} == {0.2}
        assert {(region["original_height"], region["original_width"]) for region in entry["result"]} == {ORIGINAL}
        np.testing.assert_array_equal(regions_to_mask(entry["result"], spec, FRAME)[0], mask)
    assert [entry["score"] for entry in (first, second, without)] == pytest.approx([0.1, 0.5, 0.9])
    assert without["result"] == [] and without["model_version"] == first["model_version"]


def test_stored_masks_that_take_too_long_to_draw_leave_the_scores(
    tmp_path: Path, studio: SmallLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BackendServer(tmp_path, studio.url, TOKEN, worker=False) as server:
        connect_masks(server, 1)
        state = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
        version_masks = published_masks(server, state, 1, [1, 2, 3], kept=3)
        state.close()
    assert version_masks.any()
    monkeypatch.setattr(predictions, "REGIONS_SECONDS", 0.0)
    app = create_app(Settings(model_dir=str(tmp_path)))
    body = {"tasks": [{"id": 1}, {"id": 3}], "project": project_key(1), "label_config": MASKS_CONFIG}
    entries = app.test_client().post("/predict", json=body).json["results"]
    assert [entry["result"] for entry in entries] == [[], []]
    assert [entry["score"] for entry in entries] == pytest.approx([0.1, 0.9])


def test_stored_masks_follow_the_label_config(server: BackendServer, state: State) -> None:
    connect_masks(server, 71)
    published_masks(server, state, 71, [1, 2], kept=2)
    _, entry = predict(server, 71, [{"id": 1}, {"id": 2}], MASKS_CONFIG.replace('"cat"', '"lion"'))
    assert {region["value"]["brushlabels"][0] for region in entry["result"]} == {"dog"}
    _, entry = predict(server, 71, [{"id": 1}, {"id": 2}], CONFIG)  # one class an image is asked for now
    assert (entry["result"], entry["score"]) == ([], pytest.approx(0.9))
    call(server.url, "POST", "/setup", setup_body(72))
    published(state, 72, [1, 2])
    cat, _ = predict(server, 72, [{"id": 1}, {"id": 2}], MASKS_CONFIG)  # and the other way round
    assert (cat["result"], cat["score"]) == ([], pytest.approx(0.1))


def photograph(seed: int, size: tuple[int, int] = (60, 90)) -> str:
    """A JPEG that a camera took on its side: (height, width) as browsers show it is ``size`` turned round."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()


def test_tasks_without_a_stored_mask_get_a_fresh_one_and_keep_their_stored_score(
    server: BackendServer, state: State, tmp_path: Path
) -> None:
    import torch
    from label_studio_sdk.label_interface import LabelInterface

    from backend.images.decoding import decode_whole
    from backend.learning.learner import Learner
    from backend.tasks.segmentation.predictions import regions_of
    from models.data import Runtime
    from models.inference.predictions import predict_masks

    runtime = Runtime(torch.device("cpu"), 0)
    settings = Settings(sampler="entropy", task_width=4)
    learner = Learner.fresh(settings, ("cat", "dog"), (48, 32), torch.device("cpu"), seed=0, task="segmentation")
    learner.save(tmp_path / "entropy.pt")
    connect_masks(server, 73)
    masks = published_masks(server, state, 73, [1, 2, 3], kept=1, checkpoint=str(tmp_path / "entropy.pt"))

    tasks = [
        {"id": 1, "data": {"image": photograph(1)}},
        {"id": 2, "data": {"image": photograph(2)}},
        {"id": 3, "data": {"image": "data:image/png;base64,AAAA"}},
        *({"id": number, "data": {"image": photograph(number)}} for number in range(50, 56)),
    ]
    known(state, 73, tasks)
    load_the_model(server, 73, tasks[-1:], MASKS_CONFIG)
    stored, scored, broken, *new = predict(server, 73, tasks, MASKS_CONFIG)
    spec = segmentation_spec(MASKS_CONFIG)
    np.testing.assert_array_equal(regions_to_mask(stored["result"], spec, FRAME)[0], masks[0])
    assert [entry["score"] for entry in (stored, scored, broken)] == pytest.approx([0.1, 0.5, 0.9])
    assert broken["result"] == [] and broken["model_version"] == stored["model_version"]
    drawn = 0
    for task, entry in zip([tasks[1], *tasks[3:]], [scored, *new], strict=True):
        encoded = b64decode(task["data"]["image"].partition(",")[2])
        pixels, size = decode_whole(encoded, learner.frame)
        _, (mask,), (sure,) = next(iter(predict_masks(learner.net, pixels[None], np.zeros(1, int), runtime)))
        _, (score,) = learner.predict(pixels[None])
        expected = regions_of(mask, sure, ("cat", "dog"), size, spec, settings)
        assert size == (90, 60)
        assert LabelInterface(MASKS_CONFIG).validate_prediction(entry)
        assert [region["value"] for region in entry["result"]] == [region["value"] for region in expected]
        assert {(region["original_height"], region["original_width"]) for region in entry["result"]} <= {size}
        if entry is not scored:
            assert entry["score"] == pytest.approx(score, rel=1e-3)
        drawn += len(entry["result"])
    assert drawn > 0

    stored, fresh = predict(server, 73, [tasks[0], tasks[3]], CONFIG)  # one class an image is asked for now
    assert stored["result"] == fresh["result"] == [] and fresh["score"] == pytest.approx(new[0]["score"], rel=1e-6)


def test_what_comes_too_late_for_a_mask_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from backend.labelstudio.client import LabelStudio
    from backend.learning.learner import Learner
    from backend.tasks import kind_of
    from backend.web import fresh

    class Slow:
        """Lets the time run out after the first mask."""

        def __init__(self, learner: Learner) -> None:
            self.learner, self.asked = learner, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.learner, name)

        def predict(self, images: np.ndarray) -> Any:
            self.asked += len(images)
            monkeypatch.setattr(fresh.time, "monotonic", lambda: 1e12)
            return self.learner.predict(images)

    settings = Settings(sampler="entropy", task_width=4)
    slow = Slow(Learner.fresh(settings, ("cat", "dog"), (32, 32), torch.device("cpu"), seed=0, task="segmentation"))
    version = Version(1, 1, 1, "entropy-c1-0", "entropy", "current", "x.pt", ["cat", "dog"], {}, 0.0, 0.0, None)
    predict_fresh = fresh.FreshPredictions()
    predict_fresh._models[1, "x.pt"] = slow  # type: ignore[assignment]
    tasks = {number: photograph(number, (40, 40)) for number in range(6)}
    gateway = LabelStudio("http://127.0.0.1:9", "k")
    found = predict_fresh(version, gateway, kind_of(MASKS_CONFIG, settings), lambda: tasks)
    assert list(found) == [0] and slow.asked == 1
    assert "5 masks were not predicted in time" in caplog.text


# -- /predict with several choices -------------------------------------------------------------------------------------


def published_ticks(
    server: BackendServer, state: State, number: int, tasks: list[int], rows: list[list[float]], **values: Any
) -> Version:
    """A version of several choices in force; the probabilities of cat and dog are kept of its first tasks."""
    name = f"margin-c1-{number:08x}"
    folder = predictions_folder(project_folder(server.directory, project_key(number)), name)
    write_probabilities(folder, ["cat", "dog"], tasks[: len(rows)], np.array(rows, np.float32))
    fields = {"class_index": None, "metrics": {"task": "multilabel"}, **values}
    return published(state, number, tasks, name=name, **fields)


def connect_ticks(server: BackendServer, number: int, **extra_params: Any) -> None:
    answer = call(server.url, "POST", "/setup", setup_body(number, extra_params or None, schema=TAGS_CONFIG))
    assert answer.status == 200, answer.reason


def ticks(entry: dict[str, Any]) -> list[str]:
    return [choice for region in entry["result"] for choice in region["value"]["choices"]]


def test_stored_choices_are_those_that_reach_the_threshold(server: BackendServer, state: State) -> None:
    from label_studio_sdk.label_interface import LabelInterface

    connect_ticks(server, 81)
    rows = [[0.6, 0.5], [0.49, 0.2], [0.1, 0.9]]
    version = published_ticks(server, state, 81, [5, 6, 7, 8], rows)
    both, none, dog, lost = predict(server, 81, [{"id": number} for number in (5, 6, 7, 8)], TAGS_CONFIG)
    assert [ticks(entry) for entry in (both, none, dog, lost)] == [["cat", "dog"], [], ["dog"], []]
    scores = [entry["score"] for entry in (both, none, dog, lost)]
    assert scores == pytest.approx([0.1, 0.1 + 0.8 / 3, 0.1 + 1.6 / 3, 0.9])
    assert {entry["model_version"] for entry in (both, none, dog, lost)} == {version.name}
    assert both["result"][0]["score"] == 0.75 and LabelInterface(TAGS_CONFIG).validate_prediction(both)
    moved = TAGS_CONFIG.replace('"dog"', '"ox"').replace('"cat"', '"dog"')
    assert ticks(predict(server, 81, [{"id": 5}], moved)[0]) == ["dog"]
    assert ticks(predict(server, 81, [{"id": 5}], CONFIG)[0]) == []  # one class an image is asked for now
    connect_ticks(server, 81, sampler="margin", multilabel_threshold=0.15)
    assert ticks(predict(server, 81, [{"id": 6}], TAGS_CONFIG)[0]) == ["cat", "dog"]


def test_choices_that_were_not_kept_are_predicted_again_and_keep_their_stored_score(
    server: BackendServer, state: State, tmp_path: Path
) -> None:
    import torch

    from backend.learning.learner import Learner

    settings = Settings(sampler="margin", task_width=4)
    learner = Learner.fresh(settings, ("cat", "dog"), 32, torch.device("cpu"), seed=0, task="multilabel")
    learner.save(tmp_path / "margin.pt")
    connect_ticks(server, 82, sampler="margin", multilabel_threshold=0.01)
    version = published_ticks(server, state, 82, [1, 2], [[0.9, 0.0]], checkpoint=str(tmp_path / "margin.pt"))
    tasks = [{"id": number, "data": {"image": picture(color)}} for number, color in ((1, 9), (2, 200), (50, 20))]
    known(state, 82, tasks)
    load_the_model(server, 82, tasks[-1:], TAGS_CONFIG)
    kept, lost, new = predict(server, 82, tasks, TAGS_CONFIG)
    assert ticks(kept) == ["cat"]
    found, scores = learner.predict(np.stack([np.full((32, 32, 3), c, np.uint8) for c in (200, 20)]))
    for entry, probabilities, sure in zip((lost, new), found.predicted, found.confidence, strict=True):
        assert entry["model_version"] == version.name
        assert ticks(entry) == [name for name, p in zip(("cat", "dog"), probabilities, strict=True) if p >= 0.01] != []
        assert entry["result"][0]["score"] == pytest.approx(sure, rel=1e-3)
    assert [lost["score"], new["score"]] == pytest.approx([0.9, scores[1]], rel=1e-3)


def test_a_sampler_that_several_choices_cannot_have_is_refused_while_connecting(server: BackendServer) -> None:
    answer = call(server.url, "POST", "/setup", setup_body(83, {"sampler": "dast-al"}, schema=TAGS_CONFIG))
    assert answer.status == 400
    assert 'sampler "dast-al" has no meaning for several choices per image' in answer.reason
    assert 'such as "margin"' in answer.reason


# -- /webhook and the rest ---------------------------------------------------------------------------------------------


def test_webhooks_are_hints(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(31))

    def send(action: str, **payload: Any) -> Any:
        answer = call(server.url, "POST", "/webhook", hook(action, 31, **payload))
        assert answer.status in (200, 201)
        return answer.json

    send("ANNOTATION_CREATED", annotation={"id": 1}, task={"id": 1})
    send("ANNOTATIONS_DELETED", annotations=[{"id": 1}, {"id": 2}])
    before = state.projects.get(31)
    assert before is not None and before.pending_annotations == 3 and not before.train_requested
    send("PROJECT_UPDATED")  # what our own publishing causes
    send("LABEL_LINK_CREATED")
    assert state.projects.get(31) == before
    send("START_TRAINING")
    send("TASKS_CREATED", tasks=[{"id": 3}])
    after = state.projects.get(31)
    assert after is not None and after.train_requested and after.refresh_seq == before.refresh_seq + 1


def test_a_webhook_of_an_unknown_project_is_noted_as_such(server: BackendServer) -> None:
    answer = call(server.url, "POST", "/webhook", hook("ANNOTATION_CREATED", 987))
    assert answer.status in (200, 201) and "not connected" in answer.json["reason"]


def counted(state: State, number: int) -> int:
    project = state.projects.get(number)
    return project.annotation_events if project else -1


def send_webhooks(server: BackendServer, number: int, count: int) -> list[Reply]:
    """``count`` of them, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        body = hook("ANNOTATION_CREATED", number)
        return list(pool.map(lambda _: call(server.url, "POST", "/webhook", body), range(count)))


def test_no_webhook_is_lost_when_many_come_at_once_and_the_database_is_written(
    server: BackendServer, state: State
) -> None:
    """As alongside a worker that stores scores: SQLite has one writer."""
    call(server.url, "POST", "/setup", setup_body(32))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            state.tasks.put(32, dict.fromkeys(range(2000), "x"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        answers = send_webhooks(server, 32, 100)
    finally:
        stop.set()
        writer.join()
    assert {answer.status for answer in answers} == {201}
    assert statistics.median(answer.seconds for answer in answers) < 1.0, "Label Studio gives up after one second"
    wait_for("all to be stored", lambda: counted(state, 32) == 100)


def test_webhooks_are_answered_while_the_database_is_locked(server: BackendServer, state: State) -> None:
    """Not one waits for the writer: they are all answered before it has ended."""
    call(server.url, "POST", "/setup", setup_body(33))
    with sqlite3.connect(server.directory / "state.sqlite3") as database:
        database.execute("BEGIN IMMEDIATE")
        answers = send_webhooks(server, 33, 24)
        assert {answer.status for answer in answers} == {201}
        assert counted(state, 33) == 0
        database.rollback()
    assert model.WEBHOOK_SECONDS < 0.5, "Label Studio gives up after one second"
    wait_for("all to be stored", lambda: counted(state, 33) == 24)


def test_what_was_answered_for_is_stored_before_the_process_ends(tmp_path: Path, studio: SmallLabelStudio) -> None:
    """The database is locked when the webhook comes, and still when the process is asked to end."""
    with BackendServer(tmp_path, studio.url, TOKEN, worker=False) as server:
        call(server.url, "POST", "/setup", setup_body(1))
        with sqlite3.connect(tmp_path / "state.sqlite3") as database:
            database.execute("BEGIN IMMEDIATE")
            assert call(server.url, "POST", "/webhook", hook("ANNOTATION_CREATED", 1)).status == 201
            assert call(server.url, "POST", "/setup", setup_body(2)).status == 200
            os.kill(server.pid, signal.SIGTERM)
            wait_for("it to be asked", lambda: "Shutting down" in server.log_path.read_text())
            time.sleep(0.5)  # so that it has asked the web process
            database.rollback()
        wait_for("its end", lambda: not server.running)
    left = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    project = left.projects.get(1)
    assert project is not None and project.annotation_events == 1
    assert left.projects.get(2) is not None


def test_versions_by_name_and_in_full(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(41))
    old = published(state, 41, [1], name="entropy-c1-aaaaaaaa")
    new = published(state, 41, [1], name="entropy-c2-bbbbbbbb", cycle=2)
    state.leases.take(41, "test", 60)
    state.versions.update(new, "test", status="current")
    state.leases.release(41, "test")
    for path in ("/versions?project=41", "/versions?project=" + project_key(41)):
        found = call(server.url, "GET", path).json
        assert found["versions"] == [new.name, old.name]
        assert list(found["projects"]) == ["41"] and found["projects"]["41"]["current"] == new.name
        assert [v["status"] for v in found["projects"]["41"]["versions"]] == ["current", "superseded"]
    every = call(server.url, "GET", "/versions").json  # as Label Studio asks: it does not say for whom
    assert {new.name, old.name} <= set(every["versions"])
    assert call(server.url, "GET", "/versions?project=424242").json == {"versions": [], "projects": {}}


def test_the_old_way_to_start_training(server: BackendServer, state: State) -> None:
    call(server.url, "POST", "/setup", setup_body(42))
    answer = call(server.url, "POST", "/train", {"annotations": [], "project": project_key(42), "params": {}})
    assert answer.status == 201
    job = answer.json["job"]
    project = state.projects.get(42)
    assert project is not None and project.train_requested
    assert call(server.url, "POST", "/job_status", {"job": job}).json["job_status"] == "queued"
    state.leases.take(42, "test", 60)
    cycle = state.cycles.start(42, "test", 1, "entropy", 0)
    assert call(server.url, "POST", "/job_status", {"job": job}).json["job_status"] == "started"
    state.cycles.finish(cycle, 42, "test", status="done")
    state.projects.update(42, train_seen=project.train_seq)
    assert call(server.url, "POST", "/job_status", {"job": job}).json == {"job_status": "finished"}


def test_the_log_holds_no_token(server: BackendServer) -> None:
    """Last: after everything above."""
    log = server.log_path.read_text()
    assert "Refused" in log and "is connected" in log
    assert TOKEN not in log and BROUGHT not in log
