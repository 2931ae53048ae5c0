"""Every endpoint gets what its description allows, what it does not allow, and what no client would send.

Whatever comes, the answer is JSON with a status below 500, and the log has no traceback. ``make fuzz`` sends 10,000
requests, each run others; this short form sends the same ones each time.
"""

from __future__ import annotations

import http.client
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from backend.state import State
from backend.web.openapi import description
from tests.backend.small_label_studio import CONFIG, SmallLabelStudio, project_key, small_label_studio
from tests.rig.servers import BackendServer
from tests.rig.waiting import PATIENCE

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "600"))
"""In all; a test gets its share of them."""

OPERATIONS = [(path, method) for path, found in description()["paths"].items() for method in found]
POSTS = [path for path, method in OPERATIONS if method == "post"]
TAKING = sum(
    bool({"requestBody", "parameters"} & one.keys())
    for path in description()["paths"].values()
    for one in path.values()
)
SHARE = max(1, math.ceil(REQUESTS / (2 * TAKING + 3 * len(POSTS))))
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
sent: Counter[tuple[str, int]] = Counter()
"""(endpoint, status) → how often."""

fuzzed = settings(
    max_examples=SHARE,
    derandomize="FUZZ_REQUESTS" not in os.environ,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def studio() -> Iterator[SmallLabelStudio]:
    with small_label_studio() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, studio: SmallLabelStudio) -> Iterator[BackendServer]:
    """A web process with one connected project that has a version in force."""
    with BackendServer(tmp_path_factory.mktemp("fuzz"), studio.url, "a-key-of-ours", worker=False) as running:
        connect = {"project": project_key(5), "schema": CONFIG}
        assert requests.post(f"{running.url}/setup", json=connect, timeout=PATIENCE).status_code == 200
        state = State(f"sqlite:///{running.directory / 'state.sqlite3'}")
        assert state.leases.take(5, "test", 60)
        version = state.versions.add(
            5,
            "test",
            cycle=1,
            name="entropy-c1-00000005",
            sampler="entropy",
            checkpoint=None,
            classes=["cat", "dog"],
            metrics={"labels": 4},
            task_ids=np.arange(1, 5),
            priority_score=np.linspace(0.1, 0.9, 4),
            class_index=np.array([0, 1, 0, 1]),
            confidence=np.full(4, 0.75),
        )
        state.versions.switch_to(version, "test")
        state.leases.release(5, "test")
        state.close()
        yield running  # type: ignore[misc]
        assert "Traceback" not in running.log_path.read_text()
        print(f"\n{sum(sent.values())} requests: " + ", ".join(f"{p} {s}: {n}" for (p, s), n in sorted(sent.items())))


def holds(path: str, status: int, content: str, server: BackendServer) -> None:
    """What must hold for every answer."""
    sent[path, status] += 1
    assert status < 500, (path, status, content[:500], server.log_tail(60))
    assert "Traceback" not in content
    assert server.running


# -- by the description ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(description())


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_description_allows_and_what_it_does_not(
    schema: Any, server: BackendServer, path: str, method: str, mode: GenerationMode
) -> None:
    operation = schema[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        pytest.skip("it takes nothing")
    with requests.Session() as session:

        @fuzzed
        @given(case=operation.as_strategy(generation_mode=mode))
        def answer(case: Any) -> None:
            response = case.call(base_url=server.url, session=session, timeout=PATIENCE)
            holds(path, response.status_code, response.text, server)
            case.validate_response(response, checks=CHECKS)

        answer()


# -- what no client would send -----------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["\x00", "\ud800", "5\x00", "²", "٣", "5.", ".5", "-1", "1e9", "9" * 5000, "<View/>", "\x1b[31m"]),
)
numbers = st.one_of(
    st.integers(-5, 5), st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1e308, float("nan"), -0.0])
)
atoms = st.one_of(st.none(), st.booleans(), numbers, texts)
anything = st.recursive(
    atoms,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def deep(levels: int, inside: Any) -> str:
    return "[" * levels + json.dumps(inside) + "]" * levels


def plausible(path: str) -> dict[str, Any]:
    """What Label Studio would send, for the connected project."""
    region = {"from_name": "what", "to_name": "pic", "type": "choices", "value": {"choices": ["cat"]}}
    bodies: dict[str, dict[str, Any]] = {
        "/setup": {
            "project": project_key(5),
            "schema": CONFIG,
            "hostname": "http://127.0.0.1:9",
            "access_token": "0" * 40,
            "extra_params": {"budget": 7},
        },
        "/predict": {
            "tasks": [{"id": 1, "data": {"image": "/data/upload/5/a.png"}}, {"id": 9, "data": {}}],
            "project": project_key(5),
            "label_config": CONFIG,
            "params": {"context": {"result": [region]}, "login": None},
        },
        "/webhook": {
            "action": "ANNOTATION_CREATED",
            "project": {"id": 5, "title": "Pets", "label_config": CONFIG},
            "task": {"id": 1, "data": {"image": "a"}},
            "annotation": {"id": 3, "result": [region]},
        },
        "/versions": {"project": "5"},
        "/train": {"project": project_key(5), "annotations": [], "params": {}},
        "/job_status": {"job": "5-1"},
        "/projects/{project}/cycle": {"token": "0" * 32},
        "/projects/{project}/replay": {"token": "0" * 32},
        "/projects/{project}/again": {"task": "1", "token": "0" * 32},
        "/projects/{project}/not-again": {"task": "1", "token": "0" * 32},
    }
    return bodies[path]


@st.composite
def one_thing_changed(draw: st.DrawFn, path: str) -> Any:
    """A plausible body in which one value, at any depth, is gone or something else."""
    body = json.loads(json.dumps(plausible(path)))
    place: Any = body
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()) and isinstance(place, dict):
            del place[key]
        else:
            place[key] = draw(anything)
        return body


def send(server: BackendServer, path: str, content: bytes, content_type: str = "application/json") -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    try:
        connection.request("POST", path, content, {"content-type": content_type})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.headers["content-type"] == "application/json"
        json.loads(text)
        holds(path, answer.status, text, server)
    finally:
        connection.close()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()  # lone surrogates are escaped, as clients do


@pytest.mark.parametrize("path", POSTS)
def test_one_thing_is_wrong_in_an_ordinary_request(server: BackendServer, path: str) -> None:
    @fuzzed
    @given(body=one_thing_changed(path))
    def answer(body: Any) -> None:
        send(server, path, as_json(body))

    answer()


@pytest.mark.parametrize("path", POSTS)
def test_any_json_at_all(server: BackendServer, path: str) -> None:
    @fuzzed
    @given(body=st.one_of(anything.map(as_json), st.integers(1, 20_000).map(lambda n: deep(n, {"id": 5}).encode())))
    def answer(body: bytes) -> None:
        send(server, path, body)

    answer()


@pytest.mark.parametrize("path", POSTS)
def test_no_json_at_all(server: BackendServer, path: str) -> None:
    broken = as_json(plausible(path))

    @fuzzed
    @given(
        body=st.one_of(
            st.binary(max_size=200),
            st.tuples(st.integers(0, len(broken)), st.binary(max_size=3)).map(lambda t: broken[: t[0]] + t[1]),
        ),
        content_type=st.sampled_from(
            [
                "application/json",
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "x",
            ]
        ),
    )
    def answer(body: bytes, content_type: str) -> None:
        send(server, path, body, content_type)

    answer()


@pytest.mark.parametrize("value", [[1], {"a": 1}, 2**63, -(2**70), True, 1.5, "٣", "²", "5\x00", "\ud800", None])
@pytest.mark.parametrize(
    ("path", "place"),
    [
        *[("/predict", ("tasks", 0, "id")), ("/predict", ("tasks", 0, "data")), ("/predict", ("project",))],
        *[("/setup", ("project",)), ("/setup", ("schema",)), ("/setup", ("hostname",)), ("/setup", ("extra_params",))],
        *[("/webhook", ("project", "id")), ("/webhook", ("project",)), ("/webhook", ("action",))],
        *[("/versions", ("project",)), ("/train", ("project",)), ("/job_status", ("job",))],
    ],
)
def test_odd_values_where_they_matter_most(
    server: BackendServer, path: str, place: tuple[str | int, ...], value: Any
) -> None:
    body: Any = plausible(path)
    inside = body
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    send(server, path, as_json(body))
    if path == "/job_status" and isinstance(value, str):
        send(server, path, as_json({"job": f"5-{value}"}))
