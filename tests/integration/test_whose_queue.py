"""Whose queue is it: a settings page that was opened earlier, a connection that was removed, two backends at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backend.reporting.snapshot import snapshot
from backend.settings.core import Settings
from backend.state import Project
from tests.integration.helpers import (
    FRUIT,
    UNCERTAINTY,
    LabelProject,
    Seen,
    Studio,
    cycle_of,
    start_backend,
    wait_for,
    wait_until_quiet,
)
from tests.rig.servers import BackendServer

BUDGET = 5
PARAMS = {"sampler": "margin", "budget": BUDGET}


@pytest.fixture(scope="module")
def first(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    """Removes nothing and compares nothing on its own for ten minutes: only hints tell it what happened."""
    server = start_backend(tmp_path_factory.mktemp("first"), studio, LEASE_SECONDS="600")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def second(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    server = start_backend(tmp_path_factory.mktemp("second"), studio, LEASE_SECONDS="600")
    yield server
    server.stop()


def known(server: BackendServer, project: LabelProject) -> Project:
    found = Seen.of(server).state.projects.get(project.id)
    assert found is not None
    return found


def status(server: BackendServer, project: LabelProject) -> dict[str, object]:
    found = snapshot(Seen.of(server).state, Settings())["projects"]
    return next(one for one in found if one["id"] == project.id)


def test_a_settings_page_saved_after_a_cycle_does_not_keep_the_old_order(
    first: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, 16).connected(first.url, PARAMS)
    old = project.wait_for_cycle(0)
    page = {"model_version": old, "sampling": project.info()["sampling"]}  # as it was loaded
    project.label_served(BUDGET)
    version = project.wait_for_cycle(1)
    seen = Seen.of(first)
    wait_until_quiet(seen, project)

    for saved in (page, {"sampling": "Sequential sampling"}, {"model_version": ""}):
        project.studio.patch(f"/api/projects/{project.id}/", saved)
        wait_for("our order", lambda: project.version() == version and project.info()["sampling"] == UNCERTAINTY)
        wait_until_quiet(seen, project)
        open_ones = project.unlabelled()
        order = [task for task in project.published_order(version) if task in open_ones]
        assert project.label_served(1) == order[:1]
        wait_until_quiet(seen, project)

    said = status(first, project)["queue_note"]
    assert isinstance(said, str) and "manage_queue" in said


def test_an_order_of_the_owners_own_is_left_alone_and_told(
    first: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, 10).connected(first.url, PARAMS)
    version = project.wait_for_cycle(0)
    seen = Seen.of(first)
    wait_until_quiet(seen, project)
    extra = {"url": first.url, "project": project.id, "title": "AL", "extra_params": PARAMS | {"manage_queue": False}}
    project.studio.patch(f"/api/ml/{project.ml_backend}", extra)
    wait_until_quiet(seen, project)

    project.studio.patch(f"/api/projects/{project.id}/", {"sampling": "Sequential sampling"})

    wait_for("a note", lambda: "Sequential" in str(status(first, project)["queue_note"]))
    wait_until_quiet(seen, project)
    assert project.info()["sampling"] == "Sequential sampling"
    assert project.version() == version


@pytest.mark.long
def test_a_backend_whose_connection_was_removed_rests_until_it_is_connected_again(
    first: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, 16).connected(first.url, PARAMS)
    version = project.wait_for_cycle(0)
    seen = Seen.of(first)
    wait_until_quiet(seen, project)
    held = sorted(item["id"] for item in project.predictions())
    project.studio.delete(f"/api/ml/{project.ml_backend}")

    project.label_served(BUDGET + 1)  # Label Studio leaves the webhook behind, so the backend hears of them
    wait_for("a word to the owner", lambda: known(first, project).hands_off)

    said = status(first, project)["hands_off"]
    assert isinstance(said, str) and "no longer lists" in said and f"forget {project.id}" in said
    assert seen.cycles(project) == [] and seen.last_error(project) == ""
    assert project.version() == version
    assert sorted(item["id"] for item in project.predictions()) == held

    project.connected(first.url, PARAMS)
    assert cycle_of(project.wait_for_version(lambda name: cycle_of(name) == 1)) == 1
    assert known(first, project).hands_off is None


@pytest.mark.long
def test_of_two_backends_the_one_connected_last_has_the_queue(
    first: BackendServer, second: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    """As after a move with the old host still on, and both connected."""
    project = make_project(FRUIT, 30).connected(first.url, PARAMS)
    theirs = project.wait_for_cycle(0)
    wait_until_quiet(Seen.of(first), project)
    project.connected(second.url, PARAMS)
    newer = project.ml_backend
    ours = project.wait_for_version(lambda name: name != theirs)

    wait_for("the first to stand back", lambda: known(first, project).hands_off)
    assert second.url in str(status(first, project)["hands_off"])
    assert first.url in str(status(second, project)["queue_note"])

    project.studio.patch(f"/api/projects/{project.id}/", {"model_version": theirs})  # a settings page opened earlier
    wait_for("our order", lambda: project.version() == ours)
    project.label_served(BUDGET)
    version = project.wait_for_cycle(1)
    wait_until_quiet(Seen.of(second), project)
    assert Seen.of(second).cycles(project) == [1] and Seen.of(first).cycles(project) == []
    assert project.version() == version
    written = {item["model_version"] for item in project.predictions()}
    assert written == {theirs, ours, version}

    project.studio.delete(f"/api/ml/{newer}")
    Seen.of(first).state.projects.update(project.id, retry_at=0.0)  # as if a minute had passed
    project.seen = Seen.of(first)
    project.label_served(1)
    last = project.wait_for_version(lambda name: name not in written)
    assert Seen.of(first).version(project) == last and Seen.of(first).cycles(project) == [1]
    assert known(first, project).hands_off is None
