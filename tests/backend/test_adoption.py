"""Which projects are found again, as far as that follows from what Label Studio lists.

That it calls ``/setup`` while it is asked is tested against a real one, in tests/integration/test_identity.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import adoption
from backend.errors import LabelStudioUnavailable, OwnerError
from backend.labelstudio.http import NotFound
from backend.labelstudio.records import MLBackend, ProjectInfo
from backend.settings.core import Settings
from backend.state import State
from tests.backend.small_label_studio import CONFIG

URL, BACKEND = "http://studio:8080", "http://me:9090"
SETTINGS = Settings(label_studio_url=URL, label_studio_api_key="key", backend_url=BACKEND + "/")


class Studio:
    """What a client is asked here. ``named``: project → the backends that it names, or what asking it raises."""

    url = URL

    def __init__(self, named: dict[int, list[MLBackend] | Exception]) -> None:
        self.named, self.connections, self.asked = named, self, list[int]()

    def project_numbers(self) -> Iterator[int]:
        yield from self.named

    def of_project(self, number: int) -> list[MLBackend]:
        self.asked.append(number)
        found = self.named[number]
        if isinstance(found, Exception):
            raise found
        return found

    def project(self, number: int) -> ProjectInfo:
        return ProjectInfo(number, f"{number}.100", "Pets", "<View/>" if number == 3 else CONFIG, "", "", 0)


def names(url: str, responds: bool = True, extra_params: Any = None) -> MLBackend:
    return MLBackend(1, url, answers=responds, extra_params=extra_params)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    yield opened
    opened.close()


def connected(state: State) -> dict[int, dict[str, Any]]:
    return {project.number: project.extra_params for project in state.projects.all()}


def test_all_projects_that_name_this_backend_are_connected_and_no_other(state: State) -> None:
    state.projects.connect(1, "1.100", CONFIG, {}, "", "", studio=URL)
    studio = Studio(
        {
            1: [names(BACKEND)],
            2: [names("http://other:9090"), names(BACKEND, extra_params={"budget": 7})],
            3: [names(BACKEND)],  # its label config asks nothing
            4: [names(BACKEND, extra_params={"budget": "many"})],
            5: NotFound("it was deleted just now"),
            6: [names("http://other:9090", responds=False)],  # may be this one, which is still starting
            7: [],
            8: [names("http://other:9090")],
        }
    )
    assert adoption.adopt_all(state, SETTINGS, studio) == [6]  # type: ignore[arg-type]
    assert connected(state) == {1: {}, 2: {"budget": 7}}
    assert studio.asked == [2, 3, 4, 5, 6, 7, 8]


def test_nothing_is_guessed_while_label_studio_is_away(state: State) -> None:
    studio = Studio({1: LabelStudioUnavailable("it is away")})
    with pytest.raises(LabelStudioUnavailable):
        adoption.adopt_all(state, SETTINGS, studio)  # type: ignore[arg-type]
    assert connected(state) == {}


@pytest.mark.parametrize(
    ("named", "by_hand", "expected"),
    [
        ([names("http://other")], True, True),
        ([names("http://other")], False, False),
        ([names("http://other"), names("http://third")], True, False),
        ([], True, False),
    ],
)
def test_by_hand_the_one_backend_that_a_project_names_is_this_one(
    named: list[MLBackend], by_hand: bool, expected: bool, state: State
) -> None:
    adoption.adopt(state, SETTINGS, Studio({9: named}), 9, by_hand=by_hand)  # type: ignore[arg-type]
    assert (connected(state) == {9: {}}) is expected


def test_without_a_key_of_ours_nobody_is_asked(state: State) -> None:
    assert adoption.gateway_of(Settings(label_studio_url=URL)) is None
    with pytest.raises(OwnerError, match="LABEL_STUDIO_API_KEY"):
        adoption.adopt_by_hand(state, Settings(), None)
