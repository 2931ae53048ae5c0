"""One Label Studio and one backend for all of these tests; a project for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import BackendServer, LabelStudioServer
from tests.integration.helpers import FRUIT, LabelProject, Seen, Studio, drawings, start_backend

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def studio(label_studio: LabelStudioServer) -> Studio:
    """Label Studio's API, as the owner of its projects."""
    return Studio(label_studio)


@pytest.fixture(scope="session")
def backend(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    """A web process and a worker that tests share; who needs to kill or to configure one starts their own."""
    server = start_backend(tmp_path_factory.mktemp("backend"), studio, CLEANUP_SECONDS="1")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seen(backend: BackendServer) -> Seen:
    """The shared backend's own account of its cycles."""
    return Seen.of(backend)


@pytest.fixture
def make_project(studio: Studio, request: pytest.FixtureRequest) -> Iterator[Callable[..., LabelProject]]:
    """Makes projects that are deleted after the test: ``make_project(classes, tasks=40, **options)``."""
    made: list[LabelProject] = []

    def make(classes: Sequence[str] = FRUIT, tasks: int = 40, seed: int = 0, **options: Any) -> LabelProject:
        title = f"{request.node.name} {len(made)}"[:50]
        files = drawings(tasks, classes, seed) if tasks else None
        made.append(studio.make_project(title, classes, files, **options))
        return made[-1]

    yield make
    for project in made:
        project.delete()
