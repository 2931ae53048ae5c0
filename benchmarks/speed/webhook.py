"""p99 of ``/webhook`` while a cycle runs ÷ p99 while nothing does.

A real ``python -m backend serve`` with its worker, and a Label Studio with labeled images for it to learn from. The
webhooks come as Label Studio sends them when several people label: a few at once, each on a new connection, then a
pause. A cycle is asked for by START_TRAINING; what was sent before it ran or after it ended is not counted.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backend.settings.core import Settings
from backend.state import Cycle, State
from benchmarks.speed.measuring import Bound, Measured, percentile
from benchmarks.speed.pool import CLASSES, SIZE
from demo.annotator import Annotator, as_png, image_name
from demo.choices import choices_config, choose
from tests.rig.processes import HOST
from tests.rig.servers import BackendServer, LabelStudioServer

LIMIT, LIMIT_MILLISECONDS = 3.0, 200.0
AT_ONCE, PAUSE = 4, 0.1
_PATIENCE = 180.0


@dataclass(frozen=True)
class Load:
    """How much of it: ``posts`` at least in each phase, ``images`` in the project, ``labels`` among them."""

    posts: int = 400
    images: int = 400
    labels: int = 100
    repetitions: int = 2
    epochs: int = 150


def measure(folder: Path, server: LabelStudioServer, small: bool) -> Measured:
    """Two repetitions of 400 webhooks or more idle and under training (one of 20 when ``small``)."""
    load = Load(posts=20, images=24, labels=8, repetitions=1, epochs=8) if small else Load()
    token = server.personal_access_token()
    annotator = Annotator(server.url, token)
    idle: list[float] = []
    busy: list[float] = []
    sent = 0
    backend = BackendServer(folder / "webhook", server.url, token, env={"DEVICE": "cpu"})
    with backend:
        posts = _Posts(annotator, backend, load)
        posts.wait(lambda: posts.resting())
        posts.burst(2)  # opens what is opened at the first request
        for _ in range(load.repetitions):
            quiet = posts.while_idle()
            trained = posts.while_training()
            idle.append(percentile(quiet, 0.99) * 1000)
            busy.append(percentile(trained, 0.99) * 1000)
            sent += len(quiet) + len(trained)
    return Measured(
        "webhook",
        "p99 of /webhook while a cycle runs ÷ while idle",
        busy,
        idle,
        "ms",
        LIMIT,
        bounds=(Bound("p99 while a cycle runs", max(busy), LIMIT_MILLISECONDS, "ms"),),
        notes=(f"{sent:,} webhooks, {AT_ONCE} at once, each on a new connection as Label Studio sends them",),
    )


@dataclass
class _Posts:
    """Sends webhooks to one connected project, and knows from the state whether a cycle runs."""

    annotator: Annotator
    backend: BackendServer
    load: Load
    state: State = field(init=False)
    project: int = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(0)
        self.project = self.annotator.create_project("Webhooks", choices_config(CLASSES))
        images = draw.integers(0, 256, (self.load.images, SIZE, SIZE, 3), dtype=np.uint8)
        self.annotator.upload(self.project, [(image_name(index), as_png(image)) for index, image in enumerate(images)])
        # never due by labels alone, so that cycles begin when the bench says so
        params = {"sampler": "dast-al", "budget": 1_000_000, "epochs": self.load.epochs, "warm_start": False}
        self.annotator.connect(self.project, self.backend.url, params)
        self.state = State.for_settings(Settings(model_dir=str(self.backend.directory)))
        self.wait(lambda: self.state.versions.current(self.project) is not None)
        for number in range(self.load.labels):
            task = self.annotator.next_task(self.project)
            assert task is not None
            self.annotator.submit(int(task["id"]), choose([CLASSES[number % len(CLASSES)]]))

    # -- phases ------------------------------------------------------------------------------------------------------

    def while_idle(self) -> list[float]:
        """Seconds of each webhook, with web and worker up and nothing to do."""
        self.wait(self.resting)
        taken: list[float] = []
        while len(taken) < self.load.posts:
            taken += self.burst()
        if not self.resting():
            raise RuntimeError("the worker was at work in what was to be the idle phase")
        return taken

    def while_training(self) -> list[float]:
        """Seconds of each webhook that was sent and accepted while a cycle ran; as many cycles as that takes."""
        taken: list[float] = []
        while len(taken) < self.load.posts:
            self._start_cycle()
            while self._running():
                some = self.burst()
                if self._running():
                    taken += some
            self.wait(self.resting)
            newest = self._newest()
            if newest is None or newest.status != "done":
                raise RuntimeError(f"the cycle did not finish: {newest and newest.error}")
        return taken

    def _start_cycle(self) -> None:
        before = self._finished()
        self.post("START_TRAINING")
        self.wait(lambda: self._running() or self._finished() > before)

    def burst(self, times: int = 1) -> list[float]:
        """``AT_ONCE`` webhooks at the same moment and a pause, ``times`` over."""
        taken: list[float] = []
        with ThreadPoolExecutor(AT_ONCE) as people:
            for _ in range(times):
                taken += people.map(lambda _: self.post("ANNOTATION_CREATED"), range(AT_ONCE))
                time.sleep(PAUSE)
        return taken

    def post(self, action: str) -> float:
        """Send one webhook; the seconds until its response was read. Raises RuntimeError unless it was accepted."""
        body = json.dumps(_payload(action, self.project)).encode()
        started = time.perf_counter()
        connection = http.client.HTTPConnection(HOST, self.backend.port, timeout=30)
        try:
            connection.request("POST", "/webhook", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        seconds = time.perf_counter() - started
        if response.status not in (200, 201):
            raise RuntimeError(f"/webhook responded with {response.status}")
        return seconds

    # -- what the backend is at --------------------------------------------------------------------------------------

    def resting(self) -> bool:
        """The last version is out, nobody holds the project, and no hint waits."""
        project, version = self.state.projects.get(self.project), self.state.versions.current(self.project)
        if project is not None and project.last_error:
            raise RuntimeError(f"the backend reports: {project.last_error}")
        return (
            project is not None
            and version is not None
            and version.status == "current"
            and project.lease_owner is None
            and not project.train_requested
            and project.refresh_seq == project.refresh_seen
        )

    def wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not until():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the backend took more than {_PATIENCE:.0f} s\n{self.backend.log_tail()}")
            time.sleep(0.2)

    def _newest(self) -> Cycle | None:
        cycles: Sequence[Cycle] = self.state.cycles.recent(self.project, 1)
        return cycles[0] if cycles else None

    def _running(self) -> bool:
        newest = self._newest()
        return newest is not None and newest.status == "running"

    def _finished(self) -> int:
        newest = self._newest()
        return 0 if newest is None else newest.number + (newest.status != "running")


def _payload(action: str, project: int) -> dict[str, object]:
    """A webhook with all that Label Studio puts into one that matters for its size: about 2 KB."""
    region = {
        "id": "a1b2c3d4e5",
        "from_name": "class",
        "to_name": "image",
        "type": "choices",
        "origin": "prediction",
        "value": {"choices": [CLASSES[0]]},
    }
    annotation = {"id": 1, "result": [region], "was_cancelled": False, "ground_truth": False, "lead_time": 2.5}
    return {
        "action": action,
        "project": {"id": project, "title": "Webhooks", "description": "x" * 500},
        "annotation": annotation | {"task": 1, "completed_by": 1, "draft_created_at": None, "notes": "x" * 500},
        "task": {"id": 1, "data": {"image": f"/data/upload/{project}/image-00001.png"}, "meta": {}},
    }
