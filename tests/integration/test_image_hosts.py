"""Images that are hard to come by: a host with a limit, a picture that kills whoever decodes it, a public name."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.helpers import FRUIT, LabelProject, Seen, Studio, drawings, start_backend
from tests.integration.test_broken_images import status
from tests.rig.processes import HOST, ServerError
from tests.rig.servers import BackendServer, LabelStudioServer

NO_CYCLE = {"budget": 1000, "sampler": "entropy"}
PER_SECOND = 20
LONG_NAMES = ("猫" * 30 + "-pear.png", "a" * 250 + "-plum.png")


@pytest.fixture(scope="module")
def careful(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    """A backend that leaves what it sets aside for ten minutes, so that nothing mends itself meanwhile."""
    server = start_backend(tmp_path_factory.mktemp("careful"), studio, RETRY_BROKEN_SECONDS="600")
    yield server
    server.stop()


class LimitedHost:
    """A web server that answers some requests a second, and the others with 429."""

    def __init__(self) -> None:
        self.files = drawings(60, FRUIT)
        self.refused = 0
        self.asked: list[float] = []
        guard, host = threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with guard:
                    now = time.monotonic()
                    host.asked = [moment for moment in host.asked if moment > now - 1.0]
                    many = len(host.asked) >= PER_SECOND
                    host.refused += many
                    if not many:
                        host.asked.append(now)
                self.send_response(429 if many else 200)
                if many:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                if not many:
                    self.wfile.write(host.files[self.path.lstrip("/")])

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def limited() -> Iterator[LimitedHost]:
    host = LimitedHost()
    yield host
    host.server.shutdown()
    host.server.server_close()


def test_a_host_with_a_limit_gives_all_its_images(
    limited: LimitedHost, careful: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, tasks=0)
    project.import_tasks([{"image": f"{limited.url}/{name}"} for name in limited.files])
    project.connected(careful.url, NO_CYCLE)
    project.wait_for_cycle(0)  # all of them
    assert limited.refused > 0
    (entry,) = [item for item in status(careful)["projects"] if item["id"] == project.id]
    assert entry["broken_images"] == [] and entry["counts"]["broken"] == 0


# -- a picture that kills ----------------------------------------------------------------------------------------------


@functools.cache
def poison() -> bytes:
    """A PNG of 10,000×10,000 transparent pixels in 390 kB, which takes seconds to write."""
    buffer = io.BytesIO()
    Image.new("RGBA", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


class OutOfMemory:
    """Kills a backend's worker whenever it takes more than ``limit`` bytes, as the kernel does in a container."""

    def __init__(self, backend: BackendServer, limit: int) -> None:
        self.kills = 0
        self._backend, self._limit = backend, limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> OutOfMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        pid = 0
        while not self._stop.wait(0.005):
            with contextlib.suppress(ServerError, OSError):
                pid = pid if pid and Path(f"/proc/{pid}").exists() else self._backend.worker_pid
                if resident(pid) > self._limit:
                    self.kills += 1
                    os.kill(pid, signal.SIGKILL)
                    pid = 0


def resident(pid: int) -> int:
    """The bytes of memory that a process takes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
def test_a_picture_that_kills_is_set_aside_and_the_others_are_served(
    studio: Studio, tmp_path: Path, make_project: Callable[..., LabelProject]
) -> None:
    """What the backend may take is set far too high, so that the picture does kill."""
    backend = start_backend(tmp_path, studio, RETRY_BROKEN_SECONDS="600", MEMORY_MB="4000", DOWNLOAD_WORKERS="1")
    try:
        healthy = make_project(FRUIT, tasks=5).connected(backend.url, NO_CYCLE)
        healthy.wait_for_cycle(0)
        with OutOfMemory(backend, resident(backend.worker_pid) + 200 * 2**20) as killer:
            project = make_project(FRUIT, tasks=10)
            project.upload({"9999-pear.png": poison()})
            (deadly,) = sorted(project.tasks())[10:]
            project.connected(backend.url, NO_CYCLE)
            version = project.wait_for_cycle(0, without=[deadly])
            assert 1 <= killer.kills <= 3
        assert deadly not in project.published_order(version)
        (entry,) = [item for item in status(backend)["projects"] if item["id"] == project.id]
        (image,) = entry["broken_images"]
        assert image["task"] == deadly and image["deaths"] == killer.kills
        assert "a process ended while it decoded this image" in image["reason"]
    finally:
        backend.stop()


@pytest.mark.long
def test_a_picture_that_would_kill_is_refused_within_the_budget(
    studio: Studio, tmp_path: Path, make_project: Callable[..., LabelProject]
) -> None:
    backend = start_backend(tmp_path, studio, RETRY_BROKEN_SECONDS="600", MEMORY_MB="128")
    try:
        healthy = make_project(FRUIT, tasks=5).connected(backend.url, NO_CYCLE)
        healthy.wait_for_cycle(0)
        with OutOfMemory(backend, resident(backend.worker_pid) + 200 * 2**20) as killer:
            project = make_project(FRUIT, tasks=5)
            project.upload({f"999{number}-pear.png": poison() for number in range(4)})
            deadly = sorted(project.tasks())[5:]
            project.connected(backend.url, NO_CYCLE)
            project.wait_for_cycle(0, without=deadly)
        assert killer.kills == 0
        (entry,) = [item for item in status(backend)["projects"] if item["id"] == project.id]
        assert [image["task"] for image in entry["broken_images"]] == deadly
        assert all("MEMORY_MB" in image["reason"] for image in entry["broken_images"])
    finally:
        backend.stop()


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_label_studio_under_a_path_and_a_public_name(tmp_path: Path) -> None:
    """Uploads with long names, and local files, whose addresses have the public name."""
    files = tmp_path / "studio" / "files" / "fruit"
    files.mkdir(parents=True)
    (files / "0001-apple.png").write_bytes(next(iter(drawings(1, FRUIT).values())))
    settings = {
        "LABEL_STUDIO_HOST": "https://labels.example/label-studio",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files.parent),
    }
    server = LabelStudioServer(tmp_path / "studio", extra_env=settings, durable=False)
    server.start()
    try:
        studio = Studio(server)
        project = studio.make_project("public name", FRUIT, drawings(4, FRUIT))
        project.upload(dict(zip(LONG_NAMES, drawings(2, FRUIT, seed=1).values(), strict=True)))
        body = {"project": project.id, "path": str(files), "use_blob_urls": True, "title": "fruit"}
        storage = studio.post("/api/storages/localfiles", body)["id"]
        studio.post(f"/api/storages/localfiles/{storage}/sync")
        addresses = [task["data"]["image"] for task in project.tasks().values()]
        assert sum(address.startswith("/label-studio/data/upload/") for address in addresses) == 6
        assert sum(address.startswith("https://labels.example/label-studio/data/local-files/") for address in addresses)
        backend = start_backend(tmp_path / "backend", studio)
        try:
            project.connected(backend.url, NO_CYCLE).wait_for_cycle(0)
            assert Seen.of(backend).state.tasks.broken_images(project.id) == []
        finally:
            backend.stop()
    finally:
        server.stop()
