"""The gateway against a real Label Studio.

A small server of our own stands in only for what it never does: broken connections, foreign web sites, a backend.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import pytest
import requests
from PIL import Image

from backend import memory
from backend.errors import BackendError, ImageError, ImageLater, LabelStudioRefused, LabelStudioUnavailable
from backend.images.cache import ImageCache
from backend.images.decoding import decode
from backend.images.source import fetch_image, sources
from backend.labelstudio import client as labelstudio
from backend.labelstudio import http as labelstudio_http
from backend.labelstudio import images as labelstudio_images
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.records import TaskRef
from backend.labelstudio.webhook import NEEDED, same_address
from backend.settings.core import Settings
from backend.tasks.choices import ChoicesSpec, choices_result, choices_spec
from backend.tasks.classification import Classification, class_of
from backend.tasks.segmentation.config import Control, SegmentationSpec
from backend.tasks.segmentation.kind import Segmentation
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.slow

CONFIG = """<View><Image name="img" value="$image"/><Choices name="kind" toName="img">
<Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices></View>"""
SPEC = ChoicesSpec("kind", "img", "image", ("cat", "dog", "owl"))
KIND = Classification(SPEC, Settings())


class Site:
    """A web server on this machine; ``answer`` maps a request's path to (status, content type, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: dict[str, bytes] = {}
        self.answer: Callable[[str], tuple[int, str, bytes]] = lambda path: (404, "text/plain", b"")
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                site.bodies[self.path] = self.rfile.read(int(self.headers.get("content-length") or 0))
                site.requests.append((self.command, self.path, dict(self.headers)))
                status, kind, body = site.answer(self.path)
                if status == 0:  # break off
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                if 300 <= status < 400:
                    self.send_header("location", body.decode())
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def web_site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with web_site() as found:
        yield found


@pytest.fixture
def second_site() -> Iterator[Site]:
    with web_site() as found:
        yield found


@pytest.fixture(scope="module")
def api(label_studio: Any) -> Any:
    """Label Studio's HTTP API with the legacy token, to prepare and to check, past the code under test."""

    def call(method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Token {label_studio.legacy_token}"}
        answer = requests.request(method, f"{label_studio.url}/api/{path}", headers=headers, timeout=60, **options)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    return call


@pytest.fixture(scope="module")
def gateway(label_studio: Any) -> LabelStudio:
    return LabelStudio(label_studio.url, label_studio.personal_access_token())


@pytest.fixture
def project(api: Any) -> Iterator[int]:
    number = int(api("POST", "projects/", json={"title": "test", "label_config": CONFIG})["id"])
    yield number
    with contextlib.suppress(AssertionError):
        api("DELETE", f"projects/{number}/")


def add_tasks(api: Any, project: int, count: int) -> list[int]:
    api("POST", f"projects/{project}/import", json=[{"image": f"s3://bucket/{n}.png"} for n in range(count)])
    page = api("GET", "tasks/", params={"project": project, "page_size": 10_000, "include": "id"})
    return sorted(task["id"] for task in page["tasks"])


def picture(value: int = 200, size: tuple[int, int] = (28, 28)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full(size[::-1], value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def upload(api: Any, project: int, values: list[int]) -> list[dict[str, Any]]:
    files = [(f"f{value}", (f"{value} é.png", picture(value), "image/png")) for value in values]
    api("POST", f"projects/{project}/import", files=files)
    page = api("GET", "tasks/", params={"project": project, "page_size": 10_000, "include": "id,data"})
    return sorted(page["tasks"], key=lambda task: task["id"])


_TAKEN: list[socket.socket] = []


def unused_port() -> int:
    """A port that refuses, and goes on to: it is taken, and nobody listens on it."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _TAKEN.append(taken)
    return int(taken.getsockname()[1])


def callers(listening: socket.socket) -> int:
    """How many connections wait for ``listening`` to accept them."""
    listening.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    return count


# -- keys and addresses ------------------------------------------------------------------------------------------------


def test_both_kinds_of_key_are_accepted(label_studio: Any, project: int) -> None:
    for token in (label_studio.personal_access_token(), label_studio.legacy_token):
        client = LabelStudio(label_studio.url + "/", token)
        client.check()
        assert client.project(project).title == "test"


def signed(**claims: Any) -> str:
    return jwt.encode({"token_type": "refresh", "jti": "x", **claims}, "a key that is not the server's, long enough")


def spoil_token(client: LabelStudio) -> None:
    """Label Studio refuses the short-lived token, although it is valid by our clock."""
    tokens = client._connection._tokens
    tokens._obtained[tokens._where] = signed(exp=int(time.time()) + 1000)


@pytest.mark.parametrize(
    "token",
    [
        "0123456789" * 4,
        signed(exp=int(time.time()) + 1000, user_id="1"),
        signed(exp=int(time.time()) - 1000, user_id="1"),
        signed(),
        "",
        "two words",
        "schlüssel",
        "line\nfeed",
    ],
)
def test_a_wrong_key_is_refused_in_words_that_do_not_hold_it(label_studio: Any, token: str) -> None:
    client = LabelStudio(label_studio.url, token)
    with pytest.raises(LabelStudioRefused, match="LABEL_STUDIO_API_KEY") as refused:
        client.check(timeout=10)
    with pytest.raises(LabelStudioRefused):
        client.predictions.of_version(1, "v")
    assert not token or token not in str(refused.value)
    str(refused.value).encode("latin-1")  # may become a reason phrase


@pytest.mark.parametrize("kind", ["legacy", "personal"])
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((404, "text/html", b"<html>no such page</html>"), LabelStudioRefused, "is not Label Studio"),
        ((200, "text/html", b"<html>welcome</html>"), LabelStudioRefused, "is not Label Studio"),
        ((301, "text/html", b"https://elsewhere.example/"), LabelStudioRefused, "moved to https://elsewhere.example/"),
        ((502, "text/html", b"<html>bad gateway</html>"), LabelStudioUnavailable, "502"),
        ((500, "application/json", b'{"detail": "database is locked"}'), LabelStudioUnavailable, "database is locked"),
        ((0, "", b""), LabelStudioUnavailable, "closed the connection"),
    ],
)
def test_what_is_not_a_label_studio_is_said(
    site: Site, answer: tuple[int, str, bytes], error: type[Exception], words: str, kind: str
) -> None:
    site.answer = lambda path: answer
    token = "a" * 40 if kind == "legacy" else signed(exp=int(time.time()) + 1000)
    with pytest.raises(error, match=words):
        LabelStudio(site.url, token).check()


def test_nobody_there_is_unavailable_and_said_soon() -> None:
    for url in ("", "localhost:8080", "ftp://localhost"):
        with pytest.raises(LabelStudioRefused, match="LABEL_STUDIO_URL"):
            LabelStudio(url, "a" * 40).check()
    started = time.monotonic()
    with pytest.raises(LabelStudioUnavailable):
        LabelStudio(f"http://127.0.0.1:{unused_port()}", "a" * 40).check()
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for token in ("a" * 40, signed(exp=int(time.time()) + 1000)):
            with pytest.raises(LabelStudioUnavailable, match="in time"):
                LabelStudio(f"http://127.0.0.1:{silent.getsockname()[1]}", token).check(timeout=0.5)
        assert callers(silent) == 2  # once each
    assert time.monotonic() - started < 10
    with pytest.raises(LabelStudioUnavailable) as unreachable:
        LabelStudio(f"http://u:secret@127.0.0.1:{unused_port()}", "a" * 40).check()
    assert "secret" not in str(unreachable.value)


def test_an_access_token_that_is_refused_early_is_renewed(label_studio: Any, project: int) -> None:
    client = LabelStudio(label_studio.url, label_studio.personal_access_token())
    client.check()
    client.project(project)
    spoil_token(client)  # as one of a server whose clock is ahead
    assert client.project(project).id == project


def test_a_short_lived_token_is_shared_by_those_that_may_and_renewed_for_all(site: Site) -> None:
    """The second job does not ask for a token again; one that checks a key does."""
    given = [signed(exp=int(time.time()) + 1000, number=number) for number in range(3)]
    personal, accepted = signed(exp=int(time.time()) + 1000), set(given)

    def exchanged() -> int:
        return sum(path.startswith("/api/token/refresh") for _, path, _ in site.requests)

    def answer(path: str) -> tuple[int, str, bytes]:
        if path.startswith("/api/token/refresh"):
            return 200, "application/json", json.dumps({"access": given[exchanged() - 1]}).encode()
        used = site.requests[-1][2].get("Authorization", "").removeprefix("Bearer ")
        return (200, "application/json", b"{}") if used in accepted else (401, "application/json", b"{}")

    site.answer = answer
    first, second = (LabelStudio(site.url, personal, shares_token=True) for _ in range(2))
    first.predictions.versions(1)
    second.predictions.versions(1)
    assert exchanged() == 1
    LabelStudio(site.url, personal).check(timeout=10)
    assert exchanged() == 2
    accepted.discard(given[0])  # as after a change of Label Studio's secret key
    second.predictions.versions(1)
    first.predictions.versions(1)
    assert exchanged() == 3


def test_a_token_that_was_just_obtained_is_not_forgotten_by_another_thread(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads fetch images over one connection: one of them asks as soon as another has its token."""
    short = signed(exp=int(time.time()) + 1000, of="a minute")

    def answer(path: str) -> tuple[int, str, bytes]:
        body = {"access": short} if path.startswith("/api/token/refresh") else {}
        return 200, "application/json", json.dumps(body).encode()

    site.answer = answer
    client = LabelStudio(site.url, signed(exp=int(time.time()) + 1000, of="threads"), shares_token=True)
    connection = client._connection
    exchange = connection._exchange
    with ThreadPoolExecutor(1) as another:

        def obtain() -> str:
            another.submit(client.predictions.versions, 2)
            time.sleep(0.3)  # enough for it to begin
            return exchange()

        monkeypatch.setattr(connection, "_exchange", obtain)
        client.predictions.versions(1)
    sent = [headers["Authorization"] for _, path, headers in site.requests if "token/refresh" not in path]
    assert sent == [f"Bearer {short}"] * 2
    assert len(site.requests) == 3


# -- what is sent how often --------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelstudio_http, "RETRY_AFTER", (0.01, 0.01))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer", [(0, "", b""), (500, "text/html", b""), (503, "text/html", b"")])
def test_new_predictions_are_sent_once_and_the_doubt_is_told(site: Site, answer: tuple[int, str, bytes]) -> None:
    site.answer = lambda path: answer
    client = LabelStudio(site.url, "a" * 40)
    for write in (
        lambda: client.predictions.create(1, [], 0.5, "v"),
        lambda: client.predictions.create_many(1, [{"task": 1, "result": [], "score": 0.5, "model_version": "v"}]),
    ):
        site.requests.clear()
        with pytest.raises(LabelStudioUnavailable) as failed:
            write()
        assert failed.value.maybe_written
        assert len(site.requests) == 1
    site.requests.clear()
    with pytest.raises(LabelStudioUnavailable) as failed:
        client.predictions.versions(1)
    assert not failed.value.maybe_written
    assert len(site.requests) == 3


@pytest.mark.usefixtures("quick")
def test_what_was_never_sent_was_not_written(site: Site) -> None:
    with pytest.raises(LabelStudioUnavailable) as failed:
        LabelStudio(f"http://127.0.0.1:{unused_port()}", "a" * 40).predictions.create(1, [], 0.5, "v")
    assert not failed.value.maybe_written
    site.answer = lambda path: (502, "text/html", b"")  # already at the exchange of the token
    with pytest.raises(LabelStudioUnavailable) as failed:
        LabelStudio(site.url, signed(exp=int(time.time()) + 1000)).predictions.create(1, [], 0.5, "v")
    assert not failed.value.maybe_written
    site.answer = lambda path: (429, "text/html", b"")
    with pytest.raises(LabelStudioUnavailable) as failed:
        LabelStudio(site.url, "a" * 40).predictions.create(1, [], 0.5, "v")
    assert not failed.value.maybe_written


@pytest.mark.usefixtures("quick")
def test_a_call_that_fails_once_is_made_again(site: Site) -> None:
    answers = iter([(0, "", b""), (500, "text/html", b""), (200, "application/json", b'{"v": 3}')])
    site.answer = lambda path: next(answers)
    assert LabelStudio(site.url, "a" * 40).predictions.versions(1) == {"v": 3}


@pytest.mark.usefixtures("quick")
def test_a_list_that_breaks_off_is_not_taken_for_the_whole(site: Site) -> None:
    rows = [{"id": n, "task": n, "score": 0.5, "model_version": "v", "result": [{"a": '],[ {é"'}]} for n in range(999)]
    whole = json.dumps(rows).encode()
    site.answer = lambda path: (200, "application/json", whole)
    client = LabelStudio(site.url, "a" * 40)
    assert [ref.id for ref in client.predictions.of_version(1, "v")] == list(range(999))
    site.answer = lambda path: (200, "application/json", whole[:-1000])
    with pytest.raises(LabelStudioUnavailable, match="was cut off"):
        client.predictions.of_version(1, "v")


# -- projects, tasks, annotations --------------------------------------------------------------------------------------


def test_project(api: Any, gateway: LabelStudio, project: int) -> None:
    add_tasks(api, project, 3)
    info = gateway.project(project)
    assert (info.id, info.task_number, info.model_version) == (project, 3, "")
    assert choices_spec(info.label_config) == SPEC
    gateway.update_project(project, sampling="Uncertainty sampling")
    assert gateway.project(project).sampling == "Uncertainty sampling"
    with pytest.raises(BackendError, match="Model version") as refused:
        gateway.update_project(project, model_version="nobody wrote this")
    assert not isinstance(refused.value, LabelStudioUnavailable)
    assert gateway.project_exists(project)
    api("DELETE", f"projects/{project}/")
    assert not gateway.project_exists(project)
    with pytest.raises(LabelStudioRefused, match="404"):
        gateway.update_project(project, title="gone")
    with pytest.raises(LabelStudioRefused, match="404"):
        list(gateway.tasks(project))


def test_tasks_ascend_page_by_page(
    api: Any, gateway: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelstudio, "_TASKS_A_PAGE", 10)
    monkeypatch.setattr(labelstudio, "_FIRST_NEW_TASKS", 4)
    assert list(gateway.tasks(project)) == []
    ids = add_tasks(api, project, 30)
    assert next(gateway.tasks(project)) == TaskRef(ids[0], {"image": "s3://bucket/0.png"})
    assert [task.id for task in gateway.tasks(project)] == ids
    assert [task.id for task in gateway.tasks(project, after_id=ids[12])] == ids[13:]
    assert list(gateway.tasks(project, after_id=ids[-1])) == []
    listing = gateway.tasks(project)
    head = [next(listing).id for _ in range(10)]
    api("DELETE", f"tasks/{head[3]}/")  # moves no other task out of the next page
    assert head + [task.id for task in listing] == ids


def annotate(api: Any, task: int, label: str | None, **more: Any) -> int:
    result = choices_result(SPEC, [label], 1.0) if label else []
    return int(api("POST", f"tasks/{task}/annotations/", json={"result": result} | more)["id"])


def test_whatever_changes_a_task_shows_in_what_changed(
    api: Any, gateway: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelstudio, "_TASKS_A_PAGE", 3)
    ids = add_tasks(api, project, 12)
    annotations = [annotate(api, task, "cat") for task in ids[:4]]
    clock = gateway.project(project).clock
    assert clock is not None and abs(clock - time.time()) < 30
    since = time.time()
    assert [task.id for task in gateway.changed(project, since, ids[-1])] == []
    assert [task.id for task in gateway.changed(project, since, ids[7])] == ids[8:]
    api("PATCH", f"annotations/{annotations[0]}/", json={"result": choices_result(SPEC, ["dog"], 1.0)})
    api("DELETE", f"annotations/{annotations[1]}/")
    body = {"selectedItems": {"all": False, "included": [ids[2]]}, "project": project}
    api("POST", f"dm/actions?id=delete_tasks_annotations&project={project}", json=body)
    annotate(api, ids[4], None, was_cancelled=True)
    api("PATCH", f"tasks/{ids[5]}/", json={"data": {"image": "s3://bucket/other.png"}})
    gateway.predictions.create(ids[6], [], 0.5, "v-c1-aa")
    found = {task.id: task for task in gateway.changed(project, since, ids[-1])}
    assert sorted(found) == [*ids[:3], *ids[4:7]]
    assert [found[task].annotations for task in sorted(found)] == [1, 0, 0, 1, 0, 0]
    assert found[ids[5]].data == {"image": "s3://bucket/other.png"}
    info = gateway.project(project)
    assert (info.task_number, info.submitted, info.skipped) == (12, 2, 1)
    (prediction,) = gateway.predictions.of_version(project, "v-c1-aa")
    since = time.time()
    gateway.predictions.delete(prediction.id)
    assert [task.id for task in gateway.changed(project, since, ids[-1])] == [ids[6]]


def test_annotations_that_label_studio_has_not_counted_are_found(
    label_studio: Any, api: Any, gateway: LabelStudio, project: int
) -> None:
    """It was killed in the middle of a Submit, as can only be made here in its database."""
    ids = add_tasks(api, project, 4)
    submitted, skipped = annotate(api, ids[1], "cat"), annotate(api, ids[2], None, was_cancelled=True)
    with contextlib.closing(sqlite3.connect(label_studio.directory / "label_studio.sqlite3", timeout=30)) as database:
        database.execute(
            "UPDATE task SET total_annotations = 0, cancelled_annotations = 0 WHERE project_id = ?", [project]
        )
        database.commit()
    found = {item.task_id: [one["id"] for one in item.annotations] for item in gateway.annotated(project)}
    assert found == {ids[1]: [submitted], ids[2]: [skipped]}
    changed = {task.id: task.annotations for task in gateway.changed(project, 0.0, 0)}
    assert changed == {ids[0]: 0, ids[1]: 1, ids[2]: 0, ids[3]: 0}  # the other one is missed in the project's count


def test_annotated(api: Any, gateway: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelstudio, "_ANNOTATED_A_PAGE", 3)
    ids = add_tasks(api, project, 12)
    assert list(gateway.annotated(project)) == []
    annotate(api, ids[0], "cat")
    annotate(api, ids[1], "cat")
    two = annotate(api, ids[1], "dog")
    annotate(api, ids[2], None, was_cancelled=True)
    truth = annotate(api, ids[3], "owl", ground_truth=True)
    annotate(api, ids[3], "cat")
    annotate(api, ids[4], None)
    gone = annotate(api, ids[5], "cat")
    last = annotate(api, ids[11], "dog")
    api("DELETE", f"annotations/{gone}/")
    api("POST", "predictions/", json={"task": ids[0], "result": choices_result(SPEC, ["owl"], 0.1), "score": 0.1})
    found = list(gateway.annotated(project))
    assert [item.task_id for item in found] == [ids[n] for n in (0, 1, 2, 3, 4, 11)]
    assert [class_of(item.annotations, SPEC) for item in found] == ["cat", "dog", None, "owl", None, "dog"]
    first = found[3].annotations[0]
    assert (first["id"], first["ground_truth"], first["was_cancelled"]) == (truth, True, False)
    assert isinstance(first["completed_by"], int)
    assert len(KIND.counted(found[1].annotations)) == 2
    before = dict(KIND.counted(found[1].annotations))[two]
    api("PATCH", f"annotations/{two}/", json={"result": choices_result(SPEC, ["owl"], 1.0)})
    again = list(gateway.annotated(project))[1]
    assert class_of(again.annotations, SPEC) == "owl"
    assert dict(KIND.counted(again.annotations))[two] > before  # an edit is news
    assert found[-1].annotations[0]["id"] == last


def test_what_was_annotated_since_is_told_without_what_only_got_a_prediction(
    api: Any, gateway: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = add_tasks(api, project, 4)
    began = gateway.project(project).clock
    assert began is not None
    assert gateway.annotated_since(project, began - 60) == {}
    result = [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}]
    gateway.predictions.create(tasks[0], result, 0.5, "v")
    api("POST", f"tasks/{tasks[1]}/annotations/", json={"result": result})
    api("POST", f"tasks/{tasks[2]}/annotations/", json={"result": [], "was_cancelled": True})
    found = gateway.annotated_since(project, began - 60)
    assert found.keys() == {tasks[1], tasks[2]}
    number = next(gateway.annotations_of(project, [tasks[1]])).annotations[0]["id"]
    api("PATCH", f"annotations/{number}/", json={"result": []})
    again = gateway.annotated_since(project, began - 60)
    assert again[tasks[1]] > found[tasks[1]] and again[tasks[2]] == found[tasks[2]]
    assert gateway.annotated_since(project, began + 3600) == {}
    monkeypatch.setattr(labelstudio, "_TASKS_A_PAGE", 2)
    assert gateway.annotated_since(project, began - 60) is None, "there may be more"


def test_annotations_of_chosen_tasks(api: Any, gateway: LabelStudio, project: int) -> None:
    ids = add_tasks(api, project, 6)
    for task in (ids[0], ids[2], ids[4]):
        annotate(api, task, "cat")
    annotate(api, ids[3], None, was_cancelled=True)
    found = {item.task_id: item.annotations for item in gateway.annotations_of(project, [ids[4], ids[3], ids[1]])}
    assert found.keys() - {ids[1]} == {ids[3], ids[4]}
    assert found.get(ids[1], []) == []
    assert class_of(found[ids[4]], SPEC) == "cat" and found[ids[3]][0]["was_cancelled"]
    assert list(gateway.annotations_of(project, [])) == []
    assert list(gateway.annotations_of(project, [10**9])) == []
    wide = [*range(10**9, 10**9 + 250), *ids]  # over several pages
    assert [item.task_id for item in gateway.annotations_of(project, wide) if item.annotations] == [
        *(ids[0], ids[2], ids[3], ids[4])
    ]


def test_annotations_without_what_they_say(api: Any, gateway: LabelStudio, project: int) -> None:
    """A brush stroke is a list of thousands of numbers: it is not sent where it is not read."""
    ids = add_tasks(api, project, 3)
    numbers = [number % 256 for number in range(50_000)]
    region = {"type": "brushlabels", "from_name": "brush", "to_name": "img", "original_width": 9, "original_height": 9}
    stroke = [region | {"value": {"format": "rle", "rle": numbers, "brushlabels": ["cat"]}}]
    for task in ids[:2]:
        api("POST", f"tasks/{task}/annotations/", json={"result": stroke})
    sent: list[int] = []
    client = gateway._connection._http()
    client.event_hooks["response"].append(lambda answer: sent.append(len(answer.read())))
    try:
        short = list(gateway.annotated(project, results=False))
        assert max(sent) < 10_000
        whole = list(gateway.annotated(project, drawn=True))
        assert max(sent) > 200_000
    finally:
        client.event_hooks["response"].pop()
    assert [item.task_id for item in short] == [item.task_id for item in whole] == ids[:2]
    for without, full in zip(short, whole, strict=True):
        (one,), (other,) = without.annotations, full.annotations
        assert one == {key: value for key, value in other.items() if key != "result"}
        assert other["result"][0]["value"]["rle"] == numbers


def test_annotations_arrive_page_by_page(
    api: Any, gateway: LabelStudio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelstudio, "_DRAWN_A_PAGE", 2)
    ids = add_tasks(api, project, 5)
    for task in ids:
        annotate(api, task, "cat")
    asked: list[str] = []
    client = gateway._connection._http()
    client.event_hooks["response"].append(lambda answer: asked.append(answer.url.path))
    try:
        listing = gateway.annotated(project, drawn=True)
        assert (next(listing).task_id, len(asked)) == (ids[0], 1)
        assert (next(listing).task_id, len(asked)) == (ids[1], 1)
        assert (next(listing).task_id, len(asked)) == (ids[2], 2)
        assert [item.task_id for item in listing] == ids[3:]
        assert len(asked) == 3
    finally:
        client.event_hooks["response"].pop()


def test_overlap_tells_finished_tasks(api: Any, gateway: LabelStudio, project: int) -> None:
    task = add_tasks(api, project, 2)[0]
    annotate(api, task, "cat")
    assert [(item.task_id, item.is_labeled) for item in gateway.annotated(project)] == [(task, True)]
    api("PATCH", f"projects/{project}/", json={"maximum_annotations": 2})
    assert [(item.task_id, item.is_labeled) for item in gateway.annotated(project)] == [(task, False)]


# -- predictions -------------------------------------------------------------------------------------------------------


def predictions(tasks: list[int], version: str) -> list[dict[str, Any]]:
    return [
        {"task": task, "result": choices_result(SPEC, ["dog"], 0.5), "score": task / 1e6, "model_version": version}
        for task in tasks
    ]


def test_predictions_of_exactly_one_version(api: Any, gateway: LabelStudio, project: int) -> None:
    ids = add_tasks(api, project, 20)
    assert gateway.predictions.versions(project) == {}
    assert gateway.predictions.of_version(project, "v-c1-aa") == []
    assert gateway.predictions.create_many(project, predictions(ids, "v-c1-aa")) == 20
    assert gateway.predictions.create_many(project, predictions(ids, "v-c1-aab")) == 20
    assert gateway.predictions.create_many(project, []) == 0
    gateway.predictions.create(ids[0], choices_result(SPEC, ["cat"], 0.9), 0.25, "v-c1-aa")  # a double
    found = gateway.predictions.of_version(project, "v-c1-aa")
    assert [ref.task_id for ref in found] == [*ids, ids[0]]
    assert gateway.predictions.versions(project) == {"v-c1-aa": 21, "v-c1-aab": 20}
    gateway.predictions.delete(found[0].id)
    gateway.predictions.delete(found[0].id)  # gone already
    assert [ref.id for ref in gateway.predictions.of_version(project, "v-c1-aa")] == [ref.id for ref in found[1:]]
    gateway.update_project(project, model_version="v-c1-aa")
    assert gateway.project(project).model_version == "v-c1-aa"


def test_predictions_for_a_deleted_task_are_refused_and_nothing_is_written(
    api: Any, gateway: LabelStudio, project: int
) -> None:
    ids = add_tasks(api, project, 5)
    api("DELETE", f"tasks/{ids[2]}/")
    for write in (
        lambda: gateway.predictions.create_many(project, predictions(ids, "v")),
        lambda: gateway.predictions.create(ids[2], [], 0.5, "v"),
    ):
        with pytest.raises(BackendError, match=str(ids[2])) as refused:
            write()
        assert not isinstance(refused.value, LabelStudioUnavailable)
    assert gateway.predictions.versions(project) == {}


def test_what_label_studio_leaves_out_is_counted(api: Any, gateway: LabelStudio, project: int) -> None:
    ids = add_tasks(api, project, 3)
    rows = predictions(ids, "v")
    rows[1]["result"] = choices_result(SPEC, ["no such class"], 0.5)
    rows[2]["result"] = []  # no answer is a valid one
    assert gateway.predictions.create_many(project, rows) == 2
    assert [ref.task_id for ref in gateway.predictions.of_version(project, "v")] == [ids[0], ids[2]]


# -- set-up of a project -----------------------------------------------------------------------------------------------


def test_queue_tab_orders_unlabeled_tasks_by_the_current_version(api: Any, gateway: LabelStudio, project: int) -> None:
    ids = add_tasks(api, project, 30)
    rng = np.random.default_rng(0)
    orders = {}
    for version in ("old-c1-aa", "new-c2-bb"):
        scores = dict(zip(ids, rng.permutation(len(ids)) / 100 + 0.001, strict=True))
        orders[version] = sorted(ids, key=scores.__getitem__)
        rows = [row | {"score": float(scores[row["task"]])} for row in predictions(ids, version)]
        gateway.predictions.create_many(project, rows)
    gateway.update_project(project, model_version="new-c2-bb")
    assert gateway.queue_tab.look_after(project) is None
    tab = gateway.queue_tab.ensure(project, SPEC.data_key, Classification.queue_columns)
    assert gateway.queue_tab.ensure(project, SPEC.data_key, Classification.queue_columns) == tab
    assert gateway.queue_tab.look_after(project) == tab
    annotate(api, ids[7], "cat")

    def shown() -> list[int]:
        return [task["id"] for task in api("GET", "tasks/", params={"view": tab, "page_size": 100})["tasks"]]

    # both versions are there, and only the current one orders
    assert shown() == [task for task in orders["new-c2-bb"] if task != ids[7]]
    gateway.update_project(project, model_version="old-c1-aa")
    assert shown() == [task for task in orders["old-c1-aa"] if task != ids[7]]
    view = api("GET", f"dm/views/{tab}/")["data"]
    displayed = {"ordering": view["ordering"], "filters": view["filters"]}  # what "Label Tasks As Displayed" sends
    where = {"id": "next_task", "project": project, "tabID": tab}
    served = api("POST", "dm/actions", params=where, json=displayed)
    assert served["id"] == orders["old-c1-aa"][0]

    titles = [view["data"]["title"] for view in api("GET", "dm/views/", params={"project": project})]
    assert titles == ["Default", "Acquisition queue"]
    for own, said, title in (
        (tab, "81 % · new-c2-bb", "Acquisition queue · 81 % · new-c2-bb"),
        (tab + 1, "90 % · x", "Acquisition queue · 81 % · new-c2-bb"),  # not the one that we made
        (tab, "84 % · old-c1-aa", "Acquisition queue · 84 % · old-c1-aa"),
        (tab, None, "Acquisition queue · 84 % · old-c1-aa"),
    ):
        assert gateway.queue_tab.look_after(project, own, said) == tab
        assert api("GET", f"dm/views/{tab}/")["data"] == view | {"title": title}  # and nothing else of it
    assert shown() == [task for task in orders["old-c1-aa"] if task != ids[7]]
    assert gateway.queue_tab.ensure(project, SPEC.data_key, Classification.queue_columns) == tab
    for renamed in ("My queue", "Acquisition queue of Ann", "Acquisition queue (mine) · 81 %"):
        api("PATCH", f"dm/views/{tab}/", json={"data": {"title": renamed}, "project": project})
        assert gateway.queue_tab.look_after(project, tab, "85 % · x") is None
        assert api("GET", f"dm/views/{tab}/")["data"]["title"] == renamed
    api("PATCH", f"dm/views/{tab}/", json={"data": {"title": "Acquisition queue"}, "project": project})
    assert gateway.queue_tab.ensure(project, SPEC.data_key, Classification.queue_columns) == tab
    kept = api("GET", f"dm/views/{tab}/")["data"]
    assert "hiddenColumns" not in kept  # what the owner changed stays changed


def test_queue_tab_of_masks_shows_no_numbers_of_masks(api: Any, gateway: LabelStudio, project: int) -> None:
    add_tasks(api, project, 1)
    spec = SegmentationSpec("img", "image", ("cat",), (Control("brush", "paint", ("cat",)),))
    tab = gateway.queue_tab.ensure(project, spec.data_key, Segmentation.queue_columns)
    hidden = api("GET", f"dm/views/{tab}/")["data"]["hiddenColumns"]["explore"]
    assert "tasks:predictions_results" in hidden and "tasks:predictions_score" not in hidden


def connect_with_password(api: Any, project: int, site: Site) -> None:
    site.answer = lambda path: (200, "application/json", b'{"status": "UP", "model_version": "m"}')
    body = {"project": project, "url": site.url, "title": "AL", "auth_method": "BASIC_AUTH"}
    api("POST", "ml/", json=body | {"basic_auth_user": "u", "basic_auth_pass": "p"})


def test_our_webhook_gets_the_credentials_and_no_other_does(
    api: Any, gateway: LabelStudio, project: int, site: Site, second_site: Site
) -> None:
    """Not even that of another backend with a password of its own."""
    connect_with_password(api, project, site)
    connect_with_password(api, project, second_site)
    assert json.loads(site.bodies["/setup"])["project"] == gateway.project(project).key  # the two agree on who is who
    other = api("POST", "webhooks/", json={"project": project, "url": "http://127.0.0.1:9/webhook"})
    header = {"Authorization": "Basic dTpw"}
    assert gateway.connections.repair_webhook(project, ["http://127.0.0.1:8"], header) is None
    assert gateway.connections.repair_webhook(project, [f"{site.url}/"], header) == [
        "its header for basic auth was missing"
    ]
    assert gateway.connections.repair_webhook(project, [site.url], header) == []
    hooks = {hook["url"]: hook for hook in api("GET", "webhooks/", params={"project": project})}
    assert hooks[f"{site.url}/webhook"]["headers"] == header
    assert hooks[f"{site.url}/webhook"]["send_for_all_actions"]
    assert hooks[other["url"]]["headers"] == hooks[f"{second_site.url}/webhook"]["headers"] == {}
    site.requests.clear()
    api("POST", f"projects/{project}/import", json=[{"image": "x"}])
    wait_for("the webhook", lambda: site.requests)
    assert site.requests[0][1] == "/webhook"
    assert site.requests[0][2]["Authorization"] == "Basic dTpw"


def test_a_webhook_that_hears_too_little_is_set_right(api: Any, gateway: LabelStudio, project: int, site: Site) -> None:
    connect_with_password(api, project, site)
    header = {"Authorization": "Basic dTpw"}
    (hook,) = api("GET", "webhooks/", params={"project": project})
    path = f"webhooks/{hook['id']}/"
    few = {"send_for_all_actions": False, "actions": ["TASKS_CREATED"]}
    api("PATCH", path, json={"is_active": False, "send_payload": False, **few})
    assert gateway.connections.repair_webhook(project, [site.url], {}) == [
        "it was switched off", "it left out what happened", "it left out actions",
    ]  # fmt: skip
    assert gateway.connections.repair_webhook(project, [site.url], {}) == []
    narrow = {"send_for_all_actions": False, "actions": sorted(NEEDED)}
    api("PATCH", path, json=narrow)
    assert gateway.connections.repair_webhook(project, [site.url], {"Authorization": "Basic one"}) == [
        "its header for basic auth was missing"
    ]
    (hook,) = api("GET", "webhooks/", params={"project": project})
    assert {"send_for_all_actions": hook["send_for_all_actions"], "actions": sorted(hook["actions"])} == narrow
    api("DELETE", path)
    assert gateway.connections.repair_webhook(project, [site.url], {}) is None
    gateway.connections.create_webhook(project, f"{site.url}/", header)
    (hook,) = api("GET", "webhooks/", params={"project": project})
    assert (hook["url"], hook["headers"], hook["is_active"]) == (
        f"{site.url}/webhook",
        header,
        True,
    )


def test_the_list_of_connections_says_who_answers(
    api: Any, gateway: LabelStudio, project: int, site: Site, second_site: Site
) -> None:
    assert gateway.connections.of_project(project) == []
    connect_with_password(api, project, site)
    connect_with_password(api, project, second_site)
    second_site.answer = lambda path: (500, "text/plain", b"")
    for each in (site, second_site):
        each.requests.clear()
    rows = gateway.connections.of_project(project)
    assert [(row.url, row.title, row.answers, row.model_version) for row in rows] == [
        (site.url, "AL", True, "m"), (second_site.url, "AL", False, "m"),
    ]  # fmt: skip
    assert rows[0].id < rows[1].id
    assert [request[1] for request in site.requests] == ["/health", "/setup"]
    second_site.requests.clear()
    assert gateway.connections.with_id(rows[0].id) == rows[0] and second_site.requests == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:9090", "http://localhost:9090/", True),
        ("http://u:p@Localhost:9090", "http://localhost:9090", True),
        ("https://al.example.com", "http://al.example.com:443", True),  # a proxy ends TLS
        ("http://localhost:9090", "http://localhost:9091", False),
        ("http://ml.example.com/a", "http://ml.example.com/b", False),
        ("", "", False),
    ],
)
def test_two_addresses_of_one_place(one: str, other: str, same: bool) -> None:
    assert same_address(one, other) is same_address(other, one) is same


def test_more_uploads_than_sqlite_takes_in_one_page(api: Any, gateway: LabelStudio, project: int) -> None:
    for first in (0, 550):
        files = [(str(n), (f"{n}.png", picture(n % 250), "image/png")) for n in range(first, first + 550)]
        api("POST", f"projects/{project}/import", files=files)
    tasks = list(gateway.tasks(project))
    assert len({task.data["image"] for task in tasks}) == 1100


# -- images ------------------------------------------------------------------------------------------------------------


def test_uploads_are_fetched_in_parallel(api: Any, gateway: LabelStudio, project: int, tmp_path: Path) -> None:
    tasks = upload(api, project, list(range(100, 130)))
    sources = [(task["id"], task["data"]["image"]) for task in tasks]
    assert all(source.startswith(f"/data/upload/{project}/") for _, source in sources)

    def fetch(task: int, source: str) -> bytes:
        return gateway.fetch_image(source, task)

    with ThreadPoolExecutor(8) as pool:  # the same one by all threads at once
        assert set(pool.map(lambda _: gateway.fetch_image(sources[0][1]), range(40))) == {picture(100)}
    assert gateway.fetch_image(sources[1][1].replace("/data/", "", 1)) == picture(101)  # as exports have it
    assert gateway.fetch_image(f"{gateway._connection.url}{sources[2][1]}") == picture(102)
    cache = ImageCache(tmp_path / "cache", 32)
    assert cache.sync(sources, fetch, 8) == []
    pixels = cache.pixels[cache.rows([task for task, _ in sources])]
    assert sorted(pixels[:, 5, 5, 0].tolist()) == list(range(100, 130))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]  # no original stays behind


def test_uploads_come_by_the_proxy_where_only_that_has_them(site: Site) -> None:
    """As with a Label Studio that keeps uploads in a cloud bucket, behind a server that serves no /data/upload."""
    proxied = "/storage-data/uploaded/?filepath=upload/1/a.png"
    site.answer = lambda path: (200, "image/png", picture()) if path == proxied else (404, "text/html", b"")
    client = LabelStudio(site.url, "a" * 40)
    for _ in range(3):
        assert client.fetch_image("/data/upload/1/a.png") == picture()
    paths = [path for _, path, _ in site.requests]
    assert paths == ["/data/upload/1/a.png", proxied, proxied, proxied]  # learnt at the first
    assert {headers["Authorization"] for _, _, headers in site.requests} == {"Token " + "a" * 40}


def test_web_addresses_get_no_key(gateway: LabelStudio, site: Site) -> None:
    site.answer = lambda path: (302, "", b"/there.png") if path == "/here" else (200, "image/png", picture(7))
    assert gateway.fetch_image(f"{site.url}/here") == picture(7)
    assert all("Authorization" not in headers for _, _, headers in site.requests)


def test_images_inside_the_task_data(gateway: LabelStudio) -> None:
    inline = "data:image/png;base64," + base64.b64encode(picture(9)).decode()
    served_by = sources(gateway, Settings())
    assert fetch_image(f" {inline} ", 1, served_by) == picture(9)
    assert fetch_image("data:,abc%21", 1, served_by) == b"abc!"
    with pytest.raises(ImageError, match="damaged"):
        fetch_image("data:image/png;base64,a", 1, served_by)


def test_images_that_cannot_be_had_say_why(gateway: LabelStudio, project: int, site: Site) -> None:
    site.answer = lambda path: {
        "/gone.png": (404, "text/html", b"<html>"),
        "/private.png": (403, "text/html", b"<html>"),
        "/page": (200, "text/html", b"<!DOCTYPE html><html>Log in</html>"),
        "/broken.png": (0, "", b""),
        "/failing.png": (500, "", b""),
    }[path.partition("?")[0]]
    for source, words in {
        f"{site.url}/gone.png": "answered 404 (not found",
        f"{site.url}/private.png?signature=secret": "answered 403 (no access",
        f"{site.url}/page": "a web page came instead of an image",
        f"{site.url}/broken.png": "cannot be reached",
        f"{site.url}/failing.png": "answered 500",
        f"http://127.0.0.1:{unused_port()}/a.png": "cannot be reached",
        f"/data/upload/{project}/never-uploaded.png": "answered 500 (a server error: was the file removed?)",
        "/data/local-files/?d=no/such.png": "answered 403 (no access: is the storage still connected",
        "/static/no-such.png": "answered 404",
        "s3://bucket/no-such-storage.png": "answered 404",
        "redis://bucket/a.png": "storage that is not supported",
        "photo.png": "relative path",
        "../../etc/passwd": "relative path",
        "file:///etc/passwd": "not supported",
        "http://169.254.169.254/latest/meta-data": "never fetched",
        "http://10.1.2.3/a.png": "add it to IMAGE_HOSTS",
        "http://[broken": "not a web address",
        "http://user:secret@[broken": "not a web address",
    }.items():
        with pytest.raises(ImageError) as error:
            task = next(iter(gateway.tasks(project)), TaskRef(0, {})).id
            decode(gateway.fetch_image(source, task), 32)
        assert words in str(error.value), source
        assert "secret" not in str(error.value)
        assert gateway._connection.authorization().split()[1] not in str(error.value)
    with pytest.raises(ImageError, match="its task's id"):
        gateway.fetch_image("s3://bucket/a.png")


def test_slow_and_huge_files_are_given_up(gateway: LabelStudio, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_process", memory.MemoryBudget(4000))  # a quarter of it for a file
    site.answer = lambda path: (200, "image/png", bytes(2000))
    with pytest.raises(ImageError, match="more than"):
        gateway.fetch_image(f"{site.url}/huge.png")
    monkeypatch.undo()
    monkeypatch.setattr(labelstudio_images, "READ_SECONDS", 0.3)
    site.answer = lambda path: (time.sleep(1), (200, "image/png", b""))[1]
    with pytest.raises(ImageLater, match="in time"):
        gateway.fetch_image(f"{site.url}/slow.png")


def test_a_host_that_is_down_is_not_waited_for_again_and_again(gateway: LabelStudio) -> None:
    source = f"http://127.0.0.1:{unused_port()}/a.png"
    for _ in range(3):
        with pytest.raises(ImageError, match="cannot be reached"):
            gateway.fetch_image(source)
    _TAKEN[-1].listen()
    with pytest.raises(ImageLater, match="a moment ago"):
        gateway.fetch_image(source)
    assert callers(_TAKEN[-1]) == 0


@pytest.mark.usefixtures("quick")
def test_label_studio_away_is_no_image_fault(site: Site, tmp_path: Path) -> None:
    away = LabelStudio(f"http://127.0.0.1:{unused_port()}", "a" * 40)
    with pytest.raises(LabelStudioUnavailable):
        away.fetch_image("/data/upload/1/a.png")
    failing = LabelStudio(site.url, "a" * 40)
    site.answer = lambda path: (500, "text/html", b"")
    cache = ImageCache(tmp_path / "cache", 32)
    with pytest.raises(LabelStudioUnavailable):
        cache.sync([(1, "/data/upload/1/a.png")], lambda task, source: failing.fetch_image(source))
    site.answer = lambda path: (401, "application/json", b"{}")
    with pytest.raises(LabelStudioRefused):
        failing.fetch_image("/data/upload/1/a.png")


def test_an_expired_key_is_renewed_for_a_download(label_studio: Any, api: Any, project: int) -> None:
    source = upload(api, project, [50])[0]["data"]["image"]
    client = LabelStudio(label_studio.url, label_studio.personal_access_token())
    assert client.fetch_image(source) == picture(50)
    spoil_token(client)
    assert client.fetch_image(source) == picture(50)
