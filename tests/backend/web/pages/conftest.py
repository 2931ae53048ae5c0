"""Applications over states that are filled by hand, asked without a server."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest

from backend.state import State
from backend.web.app import create_app
from tests.backend.web.pages.world import settings_in

USER, PASSWORD = "owner", "open-sesame"
PAGE = {"Accept": "text/html"}
WITH_PASSWORD = PAGE | {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


class Site:
    """An application and its state."""

    def __init__(self, folder: Path, **values: Any) -> None:
        self.settings = settings_in(folder, **values)
        self.app: flask.Flask = create_app(self.settings)
        self.state: State = self.app.extensions["services"].state

    def get(self, path: str, headers: dict[str, str] | None = None, **options: Any) -> Any:
        return self.app.test_client().get(path, headers=PAGE if headers is None else headers, **options)

    def text(self, path: str, headers: dict[str, str] | None = None) -> str:
        answer = self.get(path, headers)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return str(answer.get_data(as_text=True))


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes applications that are closed after the test: ``make_site(**settings)``."""
    made: list[Site] = []

    def make(**values: Any) -> Site:
        made.append(Site(tmp_path / str(len(made)), **values))
        return made[-1]

    yield make
    for site in made:
        site.app.extensions["services"].close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Without a password, as it is tried on one's own machine."""
    return make_site()


@pytest.fixture
def locked(make_site: Callable[..., Site]) -> Site:
    return make_site(basic_auth_user=USER, basic_auth_pass=PASSWORD)
