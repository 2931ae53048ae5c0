"""The door stays open: clients that never finish a request, or never take a response, keep nobody else out."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pytest

from backend.settings.core import Settings
from backend.state import State
from backend.web import door
from backend.web.door import Doors
from backend.web.lanes import LANES, lane_of
from backend.web.pages.guard import FORWARDED
from backend.web.plugin import NO_PREDICTION
from tests.backend.small_label_studio import project_key, small_label_studio
from tests.backend.web.test_app import TOKEN, call, hook, load_the_model, picture, predict, published, setup_body
from tests.rig.servers import BackendServer
from tests.rig.waiting import PATIENCE, wait_for

SLOW_CLIENTS = 20
HEAD = b"POST /webhook HTTP/1.1\r\nHost: backend\r\nContent-Length: 1000\r\n"
ANSWER_SECONDS = 8.0
"""Far more than an answer takes on a busy machine, and less than a slow client is waited for: ten seconds at least."""


# -- with the real web process -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BackendServer, State]]:
    """A backend whose Label Studio never hands out the bytes of an upload; project 1 has a model."""
    import torch

    from backend.learning.learner import Learner

    with small_label_studio() as studio:
        studio.hangs_at = "/data/"
        with BackendServer(tmp_path_factory.mktemp("door"), studio.url, TOKEN, worker=False) as server:
            state = State(f"sqlite:///{server.directory / 'state.sqlite3'}")
            settings = Settings(sampler="entropy", task_width=4)
            path = server.directory / "entropy.pt"
            Learner.fresh(settings, ("cat", "dog"), 32, torch.device("cpu"), seed=0).save(path)
            for number in (1, 2):
                assert call(server.url, "POST", "/setup", setup_body(number)).status == 200
                published(state, number, [1, 2], checkpoint=str(path))
                state.tasks.put(number, dict.fromkeys(range(1, 100), "/data/upload/1/slow.png") | {100: picture(9)})
            load_the_model(server, 1, [{"id": 100, "data": {"image": picture(9)}}])
            yield server, state  # type: ignore[misc]
            state.close()


def all_urgent_requests_are_answered(server: BackendServer, state: State) -> None:
    before = state.projects.get(2)
    answers = [
        call(server.url, "GET", "/health"),
        call(server.url, "POST", "/setup", setup_body(2)),
        call(server.url, "POST", "/webhook", hook("ANNOTATION_CREATED", 2, annotation={"id": 1})),
    ]
    assert [answer.status for answer in answers] == [200, 200, 201]
    assert max(answer.seconds for answer in answers) < ANSWER_SECONDS
    assert before is not None
    wait_for("the hint", lambda: state.projects.get(2).annotation_events == before.annotation_events + 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("sent", [HEAD[:20], HEAD + b"\r\n{"], ids=["half a head", "half a body"])
def test_half_sent_requests_keep_nobody_out(served: tuple[BackendServer, State], sent: bytes) -> None:
    server, state = served
    with ExitStack() as clients:
        for _ in range(SLOW_CLIENTS):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(sent)
        all_urgent_requests_are_answered(server, state)


def test_slow_images_keep_nobody_out_and_leave_stored_predictions_to_others(
    served: tuple[BackendServer, State],
) -> None:
    server, state = served
    task = {"id": 60, "data": {"image": "/data/upload/1/slow.png"}}
    body = {"tasks": [task, {"id": 1}], "project": project_key(1)}
    answers: list[Any] = []

    def ask() -> None:
        answers.append(call(server.url, "POST", "/predict", body))

    clients = [threading.Thread(target=ask) for _ in range(SLOW_CLIENTS)]
    for client in clients:
        client.start()
    # those that find all places for slow images taken are answered with what is stored
    wait_for("the answers of those that do not wait for an image", lambda: len(answers) >= SLOW_CLIENTS - 4)
    assert any(client.is_alive() for client in clients)
    all_urgent_requests_are_answered(server, state)
    began = time.monotonic()
    (stored,) = predict(server, 2, [{"id": 1}])
    assert stored["score"] == pytest.approx(0.1) and time.monotonic() - began < ANSWER_SECONDS
    for client in clients:
        client.join(PATIENCE)
    assert [answer.status for answer in answers] == [200] * SLOW_CLIENTS
    for answer in answers:
        slow, stored = answer.json["results"]
        assert slow == NO_PREDICTION and stored["score"] == pytest.approx(0.1)


# -- in this process, with short limits --------------------------------------------------------------------------------


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


@contextmanager
def opened(application: Callable[..., Any] = echo) -> Iterator[int]:
    """Doors in a thread of this process. Yields their port."""
    listener = socket.create_server(("127.0.0.1", 0))
    doors, ended = Doors(application, [listener]), threading.Event()

    def run() -> None:
        while not ended.is_set():
            doors.look(0.05)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        thread.join(PATIENCE)
        listener.close()


def get(port: int, path: str = "/health") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def client_of(port: int, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(sent)
    return client


@pytest.mark.parametrize(
    ("limit", "sent"), [("IDLE_SECONDS", b""), ("HEAD_SECONDS", HEAD), ("REQUEST_SECONDS", HEAD + b"\r\n{")]
)
def test_a_connection_is_closed_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes) -> None:
    monkeypatch.setattr(door, limit, 0.2)
    with opened() as port, client_of(port, sent) as client:
        assert client.recv(1) == b""


def test_a_byte_now_and_then_does_not_keep_a_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REQUEST_SECONDS", 1.0)
    with opened() as port, client_of(port, HEAD + b"\r\n") as client:
        client.settimeout(0.1)

        def is_closed() -> bool:
            try:
                client.sendall(b" ")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for("the end of the connection", is_closed)


def test_a_request_in_pieces_is_served_and_the_connection_lives_on() -> None:
    with opened() as port, client_of(port) as client:
        for path in (b"/one", b"/two"):
            for piece in (b"GET ", path, b" HTTP/1.1\r\nHo", b"st: x\r\n\r\n"):
                client.sendall(piece)
            received = b""
            while not received.endswith(path):
                received += client.recv(1000)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_one_address_that_holds_all_its_connections_open_loses_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CONNECTIONS_PER_ADDRESS", 5)
    with opened() as port, ExitStack() as clients:
        held = [clients.enter_context(client_of(port, HEAD)) for _ in range(5)]
        assert get(port) == b"/health"
        assert held[0].recv(1) == b""
        held[-1].sendall(b"\r\n" + b" " * 1000)
        assert held[-1].recv(12) == b"HTTP/1.1 200"


def test_too_many_connections_in_all_close_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CONNECTIONS", 5)
    with opened() as port, ExitStack() as clients:
        held = [clients.enter_context(client_of(port, HEAD)) for _ in range(5)]
        assert get(port) == b"/health"
        assert held[0].recv(1) == b""


def test_a_client_that_does_not_take_its_response_lets_go_of_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "RESPONSE_SECONDS", 0.5)
    ended = threading.Event()

    def large(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            for _ in range(100):
                yield b" " * 2**20
        finally:
            ended.set()

    with opened(large) as port, client_of(port, b"GET /versions HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert ended.wait(PATIENCE)


def test_a_lane_that_is_full_leaves_the_others_theirs() -> None:
    go_on = threading.Event()

    def slow(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["PATH_INFO"] == "/predict":
            go_on.wait(PATIENCE)
        return echo(environ, start_response)

    request = b"GET /predict HTTP/1.1\r\nHost: x\r\n\r\n"
    with opened(slow) as port, ExitStack() as clients:
        waiting = [clients.enter_context(client_of(port, request)) for _ in range(LANES["predict"][1] + 5)]
        for path in ("/health", "/webhook", "/setup", "/metrics"):
            assert get(port, path) == path.encode()
        go_on.set()
        assert all(client.recv(12) == b"HTTP/1.1 200" for client in waiting)


@pytest.mark.parametrize(
    ("path", "lane"),
    [
        *[("/", "health"), ("/health/", "health"), ("/setup", "setup"), ("/webhook", "webhook"), ("", "others")],
        *[("/metrics", "others"), ("/predict", "predict"), ("/predict/x", "others")],
        *[("/projects/5", "pages"), ("/projects/5/images/x", "pages"), ("/assets/page.css", "pages")],
        ("/projects-of-others", "others"),
    ],
)
def test_the_lane_of_a_path(path: str, lane: str) -> None:
    class Request:
        headers: ClassVar[dict[str, str]] = {}

    class Job:
        requests = (request := Request(),)

        def service(self) -> None: ...

        def cancel(self) -> None: ...

    Job.request.path = path  # type: ignore[attr-defined]
    assert lane_of(Job()) == lane
    Job.request.headers = {"ACCEPT": "text/html,*/*;q=0.8"}  # type: ignore[misc]
    assert lane_of(Job()) == ("pages" if path == "/" else lane)


def test_a_browser_takes_no_thread_of_the_health_check() -> None:
    """All threads of the pages wait: programs are answered at once, and so is Label Studio's check of ``/``."""
    go_on = threading.Event()

    def slow(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if "html" in environ.get("HTTP_ACCEPT", ""):
            go_on.wait(PATIENCE)
        start("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]

    request = b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n"
    with opened(slow) as port, ExitStack() as clients:
        waiting = [clients.enter_context(client_of(port, request)) for _ in range(LANES["pages"][1] + 5)]
        for path in ("/", "/health", "/webhook", "/setup", "/metrics"):
            assert get(port, path) == path.encode()
        go_on.set()
        assert all(client.recv(12) == b"HTTP/1.1 200" for client in waiting)


def test_the_application_is_told_of_a_proxy_though_its_headers_are_removed() -> None:
    """Anybody could send them, so nothing else is believed of them."""

    def tell(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ[FORWARDED]} {'HTTP_X_FORWARDED_FOR' in environ}".encode()]

    for header, said in ((b"", b"False False"), (b"X-Forwarded-For: 192.0.2.7\r\n", b"True False")):
        request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n"
        with opened(tell) as port, client_of(port, request) as client:
            received = b""
            while piece := client.recv(1000):
                received += piece
        assert received.endswith(said)


def test_refusals_are_json() -> None:
    with opened() as port, client_of(port, b"nonsense\r\n\r\n") as client:
        received = b""
        while piece := client.recv(1000):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert json.loads(body)["error"].startswith("Bad Request")
