"""What the tests against a real Label Studio share: a project, its annotator, and a backend in a hurry.

Everything goes the way an owner's script would: Label Studio's HTTP API with a personal access token. Nothing here
imports the backend's publishing code, so that what a test compares does not come from what it tests. The backend's
own database is read only to see how many cycles ran and where one stands, and written only to let time pass.
"""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import requests
from PIL import Image

from backend.state import State
from tests.rig.servers import BackendServer, LabelStudioServer
from tests.rig.waiting import PATIENCE, wait_for

Json = Any
SHAPES = ("stripes", "checks", "rings", "blank")
FRUIT = ("apple", "pear", "plum")
UNCERTAINTY = "Uncertainty sampling"
FAST = {
    "DEVICE": "cpu",
    "POLL_SECONDS": "0.1",
    "RECONCILE_SECONDS": "600",  # only hints: a test that passes by the slow timer would prove little
    "CLEANUP_SECONDS": "600",
    "RETRY_BROKEN_SECONDS": "2",
    "LEASE_SECONDS": "30",
    "WORKER_NICENESS": "0",  # or tests that compute would hold up those that wait for a worker
    "CONTROL_FRACTION": "0",  # what is served and learned from is the sampler's alone, save where a test asks for more
    "EPOCHS": "2",
    "TASK_WIDTH": "4",
    "BATCH_SIZE": "16",
    "VAAL_WIDTH": "8",
    "VAAL_LATENT": "8",
    "VAAL_ITERATIONS": "5",
    "VAAL_BATCH_SIZE": "16",
    "SHORTLIST": "3",
    "BUDGET": "5",
    "OMP_NUM_THREADS": "1",
}
"""The backend's environment for tests: the real thing, only small."""


# -- images ------------------------------------------------------------------------------------------------------------


def drawing(kind: int, rng: np.random.Generator, side: int = 28) -> np.ndarray:
    """A gray picture (side, side) uint8 whose pattern tells its class 0..3, with noise so that no two are equal."""
    y, x = np.mgrid[0:side, 0:side]
    shift = int(rng.integers(0, 8))
    pattern = {
        0: ((x + shift) // 4) % 2,
        1: ((x + shift) // 4 + (y + shift) // 4) % 2,
        2: (np.hypot(x - side / 2, y - side / 2) + shift).astype(int) // 4 % 2,
        3: np.zeros_like(x),
    }[kind % 4]
    return np.clip(60 + 130 * pattern + rng.normal(0, 20, (side, side)), 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def drawings(count: int, classes: Sequence[str], seed: int = 0, prefix: str = "") -> dict[str, bytes]:
    """File name → PNG. The class stands in the name (``0007-pear.png``), where :meth:`LabelProject.truth` finds it."""
    rng = np.random.default_rng(seed)
    files = {}
    for number in range(count):
        kind = number % len(classes)
        files[f"{prefix}{number:04d}-{classes[kind]}.png"] = png(drawing(kind, rng))
    return files


# -- Label Studio ------------------------------------------------------------------------------------------------------


class Studio:
    """Label Studio's HTTP API, as its owner."""

    def __init__(self, server: LabelStudioServer) -> None:
        self.server, self.url = server, server.url
        # the other kind of token costs Label Studio twice the processor time, at each of thousands of requests
        self.auth: requests.auth.AuthBase = _LegacyToken(server.legacy_token)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """The answer, whatever its status. A connection of its own for each call: nothing is left open when Label
        Studio is stopped."""
        return requests.request(method, self.url + path, auth=self.auth, timeout=120, **options)

    def call(self, method: str, path: str, **options: Any) -> Json:
        """The parsed body. Raises AssertionError with Label Studio's words for a status of 400 and above."""
        answer = self.request(method, path, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def get(self, path: str, **params: Any) -> Json:
        return self.call("GET", path, params=params)

    def post(self, path: str, body: Json = None, **params: Any) -> Json:
        return self.call("POST", path, json=body, params=params)

    def patch(self, path: str, body: Json) -> Json:
        return self.call("PATCH", path, json=body)

    def delete(self, path: str) -> Json:
        return self.call("DELETE", path)

    def make_project(
        self,
        title: str,
        classes: Sequence[str],
        files: Mapping[str, bytes] | None = None,
        *,
        names: tuple[str, str, str] = ("choice", "picture", "image"),
    ) -> LabelProject:
        """A project with a Choices of ``classes`` on an Image and ``files`` as its tasks; ``names`` are the names of
        the two tags and of the data key."""
        body = {"title": title, "label_config": choices_config(classes, names), "show_collab_predictions": True}
        number = self.post("/api/projects/", body)["id"]
        project = LabelProject(self, number, tuple(classes), names)
        if files:
            project.upload(files)
        return project


def choices_config(classes: Sequence[str], names: tuple[str, str, str] = ("choice", "picture", "image")) -> str:
    from_name, to_name, key = names
    choices = "".join(f'<Choice value="{name}"/>' for name in classes)
    return (
        f'<View><Image name="{to_name}" value="${key}"/>'
        f'<Choices name="{from_name}" toName="{to_name}" choice="single" showInLine="true">{choices}</Choices></View>'
    )


class _LegacyToken(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Token {self.token}"
        return request


class Colleague(Studio):
    """Label Studio's HTTP API as another member of the owner's organization, who has signed up just now."""

    def __init__(self, server: LabelStudioServer, name: str) -> None:
        self.server, self.url, self.name = server, server.url, name
        with requests.Session() as session:
            page = f"{self.url}/user/signup/"
            session.get(page, timeout=120).raise_for_status()
            form = {
                "email": f"{name}@example.com",
                "password": server.password,
                "csrfmiddlewaretoken": session.cookies["csrftoken"],
            }
            session.post(page, data=form, headers={"Referer": page}, timeout=120).raise_for_status()
            answer = session.get(f"{self.url}/api/current-user/token", timeout=120)
            answer.raise_for_status()
        self.auth = _LegacyToken(answer.json()["token"])


@dataclass
class LabelProject:
    """One Label Studio project, seen and worked on through the API."""

    studio: Studio
    id: int
    classes: tuple[str, ...]
    names: tuple[str, str, str]
    ml_backend: int = 0
    seen: Seen | None = None
    """The books of the backend that it is connected to, if :func:`start_backend` started that."""

    # -- tasks

    def upload(self, files: Mapping[str, bytes]) -> None:
        """One task for each file, in one request."""
        # a field each: of several files under one name Label Studio takes the last
        parts = {name: (name, data, "image/png") for name, data in files.items()}
        self.studio.call("POST", f"/api/projects/{self.id}/import", files=parts)

    def import_tasks(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Tasks given as data, an address for the image for instance."""
        self.studio.post(f"/api/projects/{self.id}/import", list(items))

    def tasks(self) -> dict[int, dict[str, Any]]:
        """Task id → what the tests look at of it: with all of it, Label Studio takes twice as long. Of a page of 1,000
        it makes an expression that is too deep for SQLite."""
        fields = {"fields": "task_only", "include": "id,data,is_labeled,total_annotations"}
        found: dict[int, dict[str, Any]] = {}
        for page in count(1):
            part = self.studio.get("/api/tasks/", project=self.id, page=page, page_size=500, **fields)
            found |= {task["id"]: task for task in part["tasks"]}
            if len(found) >= part["total"] or not part["tasks"]:
                break
        return found

    def unlabelled(self) -> set[int]:
        return {number for number, task in self.tasks().items() if not task["is_labeled"]}

    def truth(self, task: Mapping[str, Any]) -> str:
        """The class that the uploaded file's name tells."""
        return str(task["data"][self.names[2]]).rsplit("-", 1)[1].removesuffix(".png")

    def delete_task(self, task_id: int) -> None:
        self.studio.delete(f"/api/tasks/{task_id}/")

    # -- the backend

    def connect(self, url: str, extra_params: Json = None, auth: tuple[str, str] | None = None) -> requests.Response:
        """What the connect dialog does, whatever the answer."""
        body: dict[str, Any] = {"url": url, "project": self.id, "title": "AL", "extra_params": extra_params or {}}
        if auth:
            body |= {"auth_method": "BASIC_AUTH", "basic_auth_user": auth[0], "basic_auth_pass": auth[1]}
        answer = self.studio.request("POST", "/api/ml/", json=body)
        if answer.ok:
            self.ml_backend, self.seen = answer.json()["id"], _BOOKS.get(url)
        return answer

    def connected(self, url: str, extra_params: Json = None, auth: tuple[str, str] | None = None) -> LabelProject:
        """Connects and says why if that fails."""
        answer = self.connect(url, extra_params, auth)
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        return self

    def start_training(self) -> None:
        self.studio.post(f"/api/ml/{self.ml_backend}/train", {})

    # -- the queue

    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = self.studio.get(f"/api/projects/{self.id}/")
        return found

    def version(self) -> str:
        """The version that orders the queue now."""
        found = self.studio.get(f"/api/projects/{self.id}/", include="model_version")
        return str(found["model_version"] or "")

    def predictions(self, version: str | None = None) -> list[dict[str, Any]]:
        """All predictions of ``version``, or of all versions."""
        found: list[dict[str, Any]] = self.studio.get("/api/predictions/", project=self.id)
        return [item for item in found if version is None or item["model_version"] == version]

    def published_order(self, version: str | None = None) -> list[int]:
        """Task ids of ``version`` (the current one), lowest score first: the order Label Studio has to serve."""
        found = self.predictions(version or self.version())
        return [item["task"] for item in sorted(found, key=lambda item: item["score"])]

    def missing_predictions(self, version: str, without: Iterable[int] = ()) -> str:
        """What keeps ``version`` from having exactly one prediction for each unlabeled task; empty: nothing.

        ``without``: tasks that have none for a reason (a broken image). A labeled task may have one or none.
        """
        held = [item["task"] for item in self.predictions(version)]
        doubles = {task for task in held if held.count(task) > 1}
        wanted = self.unlabelled() - set(without)
        missing = wanted - set(held)
        return " ".join(
            f"{name}: {sorted(tasks)}" for name, tasks in (("doubles", doubles), ("missing", missing)) if tasks
        )

    def wait_for_version(
        self,
        wanted: Callable[[str], bool] = lambda name: True,
        *,
        timeout: float = PATIENCE,
        without: Iterable[int] = (),
    ) -> str:
        """The project's version, once ``wanted`` says yes to its name, it is wholly published, and the backend has let
        go of the project: Label Studio has all of a version some moments before the backend has noted that."""

        def found() -> str:
            if self._is_worked_at() or not self._expects(wanted):
                return ""
            name = self.version()
            whole = "-c" in name and wanted(name) and not self.missing_predictions(name, without)
            return name if whole and not self._is_worked_at() else ""

        return str(wait_for(f"a new version of project {self.id}", found, timeout))

    def wait_for_cycle(self, number: int, **options: Any) -> str:
        return self.wait_for_version(lambda name: cycle_of(name) == number, **options)

    def _is_worked_at(self) -> bool:
        return self.seen is not None and not self.seen.idle(self)

    def _expects(self, wanted: Callable[[str], bool]) -> bool:
        """Whether the backend's own database has such a version. Before that, asking Label Studio is in vain."""
        name = "" if self.seen is None else self.seen.version(self)
        return self.seen is None or ("-c" in name and wanted(name))

    # -- the annotator

    def next_task(self) -> dict[str, Any] | None:
        """What the labeling stream opens; None when everything is labeled."""
        answer = self.studio.request("GET", f"/api/projects/{self.id}/next/")
        if answer.status_code == 404:
            return None
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def annotate(self, task_id: int, label: str, **fields: Any) -> int:
        """An annotation of ``task_id``, submitted; ``was_cancelled=True`` makes it a skip."""
        from_name, to_name, _ = self.names
        region = {"from_name": from_name, "to_name": to_name, "type": "choices", "value": {"choices": [label]}}
        body = {"result": [region], "lead_time": 1.0, **fields}
        return int(self.studio.post(f"/api/tasks/{task_id}/annotations/", body)["id"])

    def label_served(self, count: int) -> list[int]:
        """Labels truly, one after the other, the next ``count`` tasks that Label Studio serves; their ids."""
        served: list[int] = []
        while len(served) < count and (task := self.next_task()) is not None:
            self.annotate(task["id"], self.truth(task))
            served.append(task["id"])
        return served

    def seen_by(self, colleague: Studio) -> LabelProject:
        """The same project in another annotator's hands."""
        return replace(self, studio=colleague)

    def delete(self) -> None:
        """Ends the project, also for the backend, which would go on to look whether something is due: Label Studio
        does not tell it."""
        self.studio.request("DELETE", f"/api/projects/{self.id}/")
        if self.seen is not None:
            self.seen.state.projects.remove(self.id)


def cycle_of(version: str) -> int:
    """The cycle's number in ``<sampler>-c<cycle>-<hash>``."""
    return int(version.rsplit("-", 2)[1].removeprefix("c"))


# -- the backend -------------------------------------------------------------------------------------------------------


def start_backend(
    directory: Path, studio: Studio, *, worker: bool = True, api_key: str | None = None, **settings: str
) -> BackendServer:
    """A backend in a hurry (:data:`FAST`, then ``settings`` by their environment names), up and healthy. Without
    ``api_key`` it has the token that Label Studio checks faster; demos and workers that are killed have the other."""
    key = studio.server.legacy_token if api_key is None else api_key
    server = BackendServer(directory, studio.url, key, env=FAST | settings, worker=worker, warm=True)
    server.start()
    _BOOKS[server.url] = Seen(settings.get("DATABASE_URL") or f"sqlite:///{server.directory / 'state.sqlite3'}")
    return server


@dataclass
class Seen:
    """The backend's own database: how often it worked, and where it is."""

    url: str
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(self.url)

    @classmethod
    def of(cls, server: BackendServer) -> Seen:
        """The database of a backend that :func:`start_backend` started."""
        return _BOOKS[server.url]

    def cycles(self, project: LabelProject, status: str = "done") -> list[int]:
        """Numbers of the cycles with ``status`` that learnt from labels, oldest first: a cold start is none."""
        found = self.state.cycles.recent(project.id, limit=1000)
        return sorted(cycle.number for cycle in found if cycle.status == status and cycle.labels)

    def labels(self, project: LabelProject) -> dict[int, int]:
        """Cycle number → how many labels it learnt from, of every finished cycle but cold starts."""
        found = self.state.cycles.recent(project.id, limit=1000)
        return {cycle.number: cycle.labels for cycle in reversed(found) if cycle.status == "done" and cycle.labels}

    def last_error(self, project: LabelProject) -> str:
        known = self.state.projects.get(project.id)
        return (known.last_error or "") if known else ""

    def pending(self, project: LabelProject) -> int:
        """New annotations, as far as the backend knows."""
        known = self.state.projects.get(project.id)
        return known.pending_annotations if known else 0

    def counts(self, project: LabelProject) -> dict[str, int]:
        """Tasks, labeled, scored and broken, as of the last comparison with Label Studio."""
        return dict(self.state.tasks.counts(project.id))

    def classes(self, version: str, project: LabelProject) -> list[str]:
        """The classes that the model of ``version`` knows, in the order of its outputs."""
        return next(known.classes for known in self.state.versions.of_project(project.id) if known.name == version)

    def version(self, project: LabelProject) -> str:
        """The version that orders the queue, as far as the backend knows; "" before the first."""
        current = self.state.versions.current(project.id)
        return current.name if current else ""

    def idle(self, project: LabelProject) -> bool:
        """No worker is at the project, and no hint waits for one."""
        known = self.state.projects.get(project.id)
        return known is not None and known.lease_owner is None and known.refresh_seq == known.refresh_seen

    def activity(self, project: LabelProject) -> tuple[Any, ...]:
        """Changes with every cycle, every publishing and every comparison with Label Studio."""
        known = self.state.projects.get(project.id)
        versions = [(version.name, version.status) for version in self.state.versions.of_project(project.id)]
        cycles = [(cycle.number, cycle.status) for cycle in self.state.cycles.recent(project.id, limit=1000)]
        return (known and (known.checked_at, known.lease_owner), versions, cycles)

    def phase(self, project: LabelProject) -> str:
        """The phase of the running cycle, "" when none runs."""
        running = [cycle.phase for cycle in self.state.cycles.recent(project.id) if cycle.status == "running"]
        return running[0] if running else ""

    def let_leases_run_out(self) -> None:
        """As if the time of every lease had passed: a killed worker's may be long enough for a busy machine."""
        for project in self.state.projects.all():
            self.state.projects.update(project.id, lease_expires=0.0)

    def wait_for_phase(self, project: LabelProject, *phases: str, timeout: float = PATIENCE) -> str:
        words = f"phase {' or '.join(phases)} in project {project.id}"
        return str(wait_for(words, lambda: (now := self.phase(project)) in phases and now, timeout, every=0.01))

    def wait_for_training(self, project: LabelProject) -> None:
        """Until a cycle trains and has noted on how many labels, which it does after it has noted the phase."""

        def training() -> bool:
            cycles = self.state.cycles.recent(project.id)
            return any(cycle.status == "running" and cycle.phase == "train" and cycle.labels for cycle in cycles)

        wait_for(f"training in project {project.id}", training, every=0.01)


_BOOKS: dict[str, Seen] = {}
"""A backend's address → its database."""

QUIET_SECONDS = 2.0  # twenty of the worker's looks at what is due


def wait_until_quiet(seen: Seen, *projects: LabelProject, timeout: float = 60.0) -> None:
    """Waits until nothing has happened for :data:`QUIET_SECONDS`: no cycle, no publishing, no comparison with Label
    Studio. Fails the test when that never comes, as in a loop."""
    last, since = None, time.monotonic()

    def quiet() -> bool:
        nonlocal last, since
        now = [seen.activity(project) for project in projects]
        if now != last or not all(seen.idle(project) for project in projects):
            last, since = now, time.monotonic()
        return time.monotonic() - since >= QUIET_SECONDS

    wait_for("the backend to be quiet", quiet, timeout)


@contextmanager
def asleep(pid: int) -> Iterator[None]:
    """A process that a test's own server started gets no processor meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def kill_hard(pid: int) -> None:
    """``kill -9`` of one process that a test's own server started."""
    os.kill(pid, signal.SIGKILL)
