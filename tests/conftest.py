"""Fixtures for the whole suite: the real servers, each started once and only when a test asks for it."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from typing import NoReturn

import pytest

# One thread for each process: the servers, the workers and the tests share the same few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MOST = 0.8
"""Files that wait for servers all start within this part of the order, so that none of them runs alone at the end."""

with contextlib.suppress(ImportError):  # a lent machine with a GPU has pytest and nothing else
    from hypothesis import HealthCheck, settings

    # A property is true or false, however busy the machine is: no example has a deadline.
    settings.register_profile(
        "suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
    )
    settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Whatever draws from torch's global generator draws the same, whichever tests ran before in this process."""
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():  # before that, torch would note each seed, and where it was set, for later
            torch.cuda.manual_seed_all(0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the files, each of which stays in one test process. Files that wait for servers alternate with files that
    compute, so that no core is idle, and the largest come first, so that all processes end together."""
    size = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {}
    for files, part in ((slow, MOST), (size.keys() - slow, 1.0)):
        for rank, path in enumerate(sorted(files, key=lambda path: (-size[path], path))):
            place[path] = part * rank / len(files)
    items.sort(key=lambda item: place[item.path])


def pytest_collection_finish() -> None:
    """Excludes everything imported so far from garbage collection, which took a sixth of the time of some files."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # some libraries report a leak if they are not collected at exit


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running Label Studio (tests.rig.servers.LabelStudioServer) that all tests share: a project each."""
    from tests.rig.servers import LabelStudioServer

    server = LabelStudioServer(tmp_path_factory.mktemp("label-studio"), durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    """A running PostgreSQL (tests.rig.servers.PostgresServer); skipped where none is installed."""
    from tests.rig.servers import PostgresServer

    if PostgresServer.programs() is None:
        _missing("PostgreSQL is not installed: apt-get install postgresql")
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A running server that speaks S3 (tests.rig.object_store.ObjectStoreServer)."""
    from tests.rig.object_store import ObjectStoreServer

    server = ObjectStoreServer(tmp_path_factory.mktemp("object-store"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: object) -> str:
    """The address of a new, empty PostgreSQL database."""
    return postgres.create_database()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium; skipped where none is installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or _missing("Chromium is not installed: apt-get install chromium")


def _missing(reason: str) -> NoReturn:
    """Skips the test; fails it where ``make setup`` could install everything, so nothing may be missing."""
    if os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(reason)
    pytest.skip(reason)
