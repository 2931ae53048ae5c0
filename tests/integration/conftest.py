"""One Label Studio and one backend for all of these tests; a project for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, StorageState, sync_playwright

from tests.integration.editor import FLAGS, PATIENCE_MS
from tests.integration.helpers import FRUIT, LabelProject, Seen, Studio, drawings, start_backend
from tests.rig.servers import BackendServer, LabelStudioServer

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
    server = start_backend(tmp_path_factory.mktemp("backend"), studio, CLEANUP_SECONDS="1", LEASE_SECONDS="600")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seen(backend: BackendServer) -> Seen:
    """The shared backend's own account of its cycles."""
    return Seen.of(backend)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A Chromium for the tests of one file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def logged_in(browser: Browser, studio: Studio) -> StorageState:
    """The cookies of an annotator who has logged in."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{studio.url}/user/login", wait_until="domcontentloaded")
    page.fill("input[name=email]", studio.server.email)
    page.fill("input[name=password]", studio.server.password)
    page.click("button[type=submit]", no_wait_after=True)
    page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit")
    cookies = context.storage_state()
    context.close()
    return cookies


@pytest.fixture
def page(browser: Browser, logged_in: StorageState) -> Iterator[Page]:
    """A page of that annotator."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, storage_state=logged_in)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


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
