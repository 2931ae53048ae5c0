"""Who is who: projects by the address of their Label Studio and their key there, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.errors import OwnerError
from backend.files import project_folder
from backend.state import State
from backend.state.identities import FIRST_ALLOCATED, studio_of
from backend.state.projects import MOST_UNCHECKED

HERE, THERE = "http://here:8080", "https://there.example/label-studio"


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    sqlite = request.param == "sqlite"
    opened = State(f"sqlite:///{tmp_path / 'state.sqlite3'}" if sqlite else request.getfixturevalue("postgres_url"))
    yield opened
    opened.close()


def connect(state: State, key: str, url: str = HERE, *, moved: bool = False) -> int:
    return state.projects.connect(int(key.split(".")[0]), key, "<View/>", {}, url, "token", moved=moved)


def announce(state: State, key: str, url: str = HERE) -> int | None:
    return state.projects.announce(int(key.split(".")[0]), key, "<Other/>", {"budget": 1}, url, "stolen", studio=url)


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("http://Here:8080/", "http://here:8080"),
        ("http://me:secret@here:80", "http://here"),
        ("https://here:443/Label-Studio/", "https://here/Label-Studio"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("", ""),
        ("http://here:port", "http://here:port"),
    ],
)
def test_an_address_has_one_form(address: str, stored: str) -> None:
    assert studio_of(address) == stored


def test_two_label_studios_with_the_same_numbers_live_side_by_side(state: State) -> None:
    here, there, twin = (
        connect(state, "27.100"),
        connect(state, "27.200", THERE),
        connect(state, "27.100", THERE + "/b"),
    )
    assert (here, there, twin) == (27, FIRST_ALLOCATED, FIRST_ALLOCATED + 1)
    assert [(one.number, one.key, one.studio) for one in state.projects.all()] == [
        (27, "27.100", HERE),
        (27, "27.200", THERE),
        (27, "27.100", THERE + "/b"),
    ]
    folders = {project_folder("d", one.folder_key) for one in state.projects.all()}
    assert len(folders) == 3 and project_folder("d", "27.100") in folders
    assert [one.name for one in state.projects.all()] == ["27", f"27@{THERE}", f"27@{THERE}/b"]

    assert [connect(state, "27.200", THERE), connect(state, "27.100")] == [there, here]  # known, each at its place
    assert [one.id for one in state.projects.named(27, "27.200")] == [there]
    assert [one.id for one in state.projects.named(27)] == [here, there, twin]


def test_a_project_is_found_by_what_people_call_it_and_asked_back_where_that_is_not_enough(state: State) -> None:
    connect(state, "27.100")
    assert state.projects.find("27").id == state.projects.find("27.100").id == 27
    connect(state, "27.200", THERE)
    assert state.projects.find(f"27@{THERE}").key == state.projects.find("27.200").key == "27.200"
    with pytest.raises(OwnerError, match=f"say 27@{HERE} or 27@{THERE}"):
        state.projects.find("27")
    with pytest.raises(OwnerError, match="Project 28 is not connected"):
        state.projects.find("28")


@pytest.mark.parametrize("key", ["27.100", "27.999", "27"])
def test_what_label_studio_has_not_confirmed_changes_nothing(state: State, key: str) -> None:
    connect(state, "27.100")
    before = state.projects.get(27)
    announce(state, key)
    assert state.projects.get(27) == before
    waiting = [one for one in state.projects.all() if one.standing == "unchecked"]
    assert [one.key for one in waiting] == (["27.999"] if key == "27.999" else [])


def test_an_announced_project_is_the_same_once_label_studio_has_confirmed_it(state: State) -> None:
    assert announce(state, "27") == 27
    project = state.projects.get(27)
    assert project is not None and project.standing == "unchecked"
    state.projects.confirm(project, "27.100", HERE)
    project = state.projects.get(27)
    assert project is not None
    assert (project.standing, project.key, project.folder_key) == ("connected", "27.100", "27")  # its files stay
    assert connect(state, "27.100") == 27


def test_an_announcement_of_what_is_known_is_dropped_when_label_studio_says_so(state: State) -> None:
    connect(state, "27.100")
    second = state.projects.announce(27, "27.100", "", {}, THERE, "", studio=THERE)
    assert second is not None
    project = state.projects.get(second)
    assert project is not None
    state.projects.confirm(project, "27.100", HERE)  # LABEL_STUDIO_URL was set meanwhile
    assert [one.id for one in state.projects.all()] == [27]


def test_nobody_can_announce_projects_without_end(state: State) -> None:
    for number in range(1, MOST_UNCHECKED + 1):
        assert announce(state, f"{number}.5") == number
    assert announce(state, f"{MOST_UNCHECKED + 1}.5") is None
    assert len(state.projects.all()) == MOST_UNCHECKED
    assert connect(state, "999.5") == 999  # what Label Studio confirms has room


def test_a_label_studio_that_the_owner_moved_keeps_its_projects(state: State) -> None:
    assert connect(state, "27.100") == 27
    assert connect(state, "27.100", THERE, moved=True) == 27
    assert [one.studio for one in state.projects.all()] == [THERE]
    assert connect(state, "27.100", HERE) != 27  # a request alone moves nothing


def test_no_hint_and_no_work_for_what_is_set_aside_or_gone(state: State) -> None:
    connect(state, "27.100")
    for gone in (True, False):
        state.projects.set_aside(27, "because", gone=gone)
        assert state.projects.all() == [] and state.projects.named(27) == []
        assert not state.hints.add_named(27, "27.100", train=True) and not state.hints.add(27, train=True)
        (kept,) = state.projects.kept()
        assert (kept.standing, kept.standing_reason) == ("gone" if gone else "aside", "because")
    assert connect(state, "27.100") == 27
    assert [one.standing for one in state.projects.all()] == ["connected"]


def test_a_project_of_an_earlier_version_is_recognized_and_gets_its_address(state: State) -> None:
    connect(state, "27.100", "")
    state.projects.update(27, url=HERE)
    assert connect(state, "27.100") == 27
    assert [one.studio for one in state.projects.all()] == [HERE]
