"""Who is who: what no request may erase, and a backend that has lost its state finds its projects again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.integration import helpers
from tests.integration.helpers import FRUIT, LabelProject, Seen, Studio, asleep, choices_config, cycle_of, start_backend
from tests.rig.servers import BackendServer
from tests.rig.waiting import wait_for
from tests.upgrade.installation import status

BUDGET = 4
PARAMS = {"sampler": "random", "budget": BUDGET}


@pytest.fixture(scope="module")
def forgetful(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    """A backend whose MODEL_DIR these tests take away."""
    server = start_backend(tmp_path_factory.mktemp("forgetful"), studio, CLEANUP_SECONDS="1")
    yield server
    print(server.log_tail())
    server.stop()


def books(server: BackendServer, *projects: LabelProject) -> Seen:
    """The books of a backend that has begun new ones."""
    seen = helpers._BOOKS[server.url] = Seen(f"sqlite:///{server.directory / 'state.sqlite3'}")
    for project in projects:
        project.seen = seen
    return seen


def check_published_once(project: LabelProject, version: str) -> None:
    assert project.missing_predictions(version) == ""
    task = project.next_task()
    assert task is not None and task["id"] == project.published_order(version)[0]


def test_a_request_to_setup_erases_nothing(
    backend: BackendServer, studio: Studio, make_project: Callable[..., LabelProject], seen: Seen
) -> None:
    """One that does not say when the project was created, or says it wrongly; while Label Studio can contradict, and
    while it is too slow to."""
    project = make_project(FRUIT, 12).connected(backend.url, {"sampler": "entropy", "budget": 3})
    first = project.wait_for_cycle(0)
    project.label_served(3)
    version = project.wait_for_cycle(1)
    wait_for("all to be done", lambda: seen.idle(project))

    def known() -> tuple[Any, ...]:
        row = seen.state.projects.get(project.id)
        assert row is not None
        versions = [one.name for one in seen.state.versions.of_project(project.id)]
        stored = (row.key, row.url, row.token, row.extra_params, row.label_config, row.current_version_id)
        return stored, versions, seen.state.labels.seen(project.id), seen.cycles(project)

    before = known()
    assert set(before[1]) == {first, version}
    claims = {
        "schema": choices_config(("other", "classes")),
        "hostname": "http://127.0.0.1:9",
        "access_token": "stolen-from-nobody",
    }
    for name in (project.id, f"{project.id}.1600000000"):
        with asleep(studio.server.pid):
            requests.post(f"{backend.url}/setup", json=claims | {"project": name}, timeout=20)
        assert known() == before
        requests.post(f"{backend.url}/setup", json=claims | {"project": name}, timeout=20)
        assert known() == before
    project.label_served(3)
    project.wait_for_cycle(2)


def test_a_lost_model_dir_is_made_up_for(
    forgetful: BackendServer, make_project: Callable[..., LabelProject], studio: Studio
) -> None:
    project = make_project(FRUIT, 16).connected(forgetful.url, PARAMS)
    other = make_project(FRUIT, 3)  # names no backend, and is left alone
    project.wait_for_cycle(0)
    project.label_served(BUDGET)
    lost = project.wait_for_cycle(1)
    forgetful.stop()
    shutil.rmtree(forgetful.directory)

    forgetful.directory.mkdir()
    forgetful.start()

    seen = books(forgetful, project)
    wait_for("the project to be adopted", lambda: [one.id for one in seen.state.projects.all()] == [project.id])
    row = seen.state.projects.get(project.id)
    assert row is not None and row.extra_params == PARAMS
    version = project.wait_for_version(lambda name: name != lost and cycle_of(name) == 1)  # from the same labels
    check_published_once(project, version)
    project.label_served(BUDGET)  # nothing but the webhook tells
    check_published_once(project, project.wait_for_cycle(2))
    assert other.predictions() == []


@pytest.mark.long
def test_a_torn_database_is_kept_and_made_up_for(
    forgetful: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, 8).connected(forgetful.url, PARAMS)
    first = project.wait_for_cycle(0)
    Seen.of(forgetful).state.close()
    forgetful.stop()
    file = forgetful.directory / "state.sqlite3"
    torn = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(torn)
    for log in ("-wal", "-shm"):  # of a process that had to be killed; SQLite would first write them into the file
        file.with_name(file.name + log).unlink(missing_ok=True)

    forgetful.start()

    (kept,) = forgetful.directory.glob("state.sqlite3.damaged-*[0-9]")
    assert kept.read_bytes() == torn
    seen = books(forgetful, project)
    wait_for("the project to be adopted", lambda: [one.id for one in seen.state.projects.all()] == [project.id])
    version = project.wait_for_version(lambda name: name != first)
    check_published_once(project, version)
    (words,) = status(forgetful)["warnings"]
    assert kept.name in words and "damaged" in words and kept.name in forgetful.log_path.read_text()


def test_a_webhook_of_a_forgotten_project_brings_it_back(
    forgetful: BackendServer, make_project: Callable[..., LabelProject]
) -> None:
    project = make_project(FRUIT, 8).connected(forgetful.url, PARAMS)
    project.wait_for_cycle(0)
    seen = Seen.of(forgetful)
    seen.state.projects.remove(project.id)
    assert seen.state.projects.named(project.id) == []

    project.start_training()  # it is answered, and not forgotten while the project is looked for
    project.label_served(1)

    wait_for("the project to be adopted", lambda: seen.state.projects.named(project.id))
    project.wait_for_version(lambda name: cycle_of(name) >= 1)


@pytest.mark.long
def test_adopting_by_hand(forgetful: BackendServer, make_project: Callable[..., LabelProject]) -> None:
    project = make_project(FRUIT, 4).connected(forgetful.url, PARAMS)
    bare = make_project(FRUIT, 2)
    project.wait_for_cycle(0)
    seen = Seen.of(forgetful)
    forgetful.stop()
    seen.state.projects.remove(project.id)

    def adopt(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        python, *_ = forgetful.command()
        command = [python, "-m", "backend", "adopt", *arguments]
        environment = forgetful.environment() | settings
        options: Any = forgetful.popen_options()
        return subprocess.run(command, env=environment, capture_output=True, text=True, **options)

    try:
        none = adopt()
        assert f"project {project.id}: not connected" in none.stdout and "BACKEND_URL" in none.stdout
        assert seen.state.projects.named(project.id) == []
        told = adopt(BACKEND_URL=forgetful.url + "/")
        assert f"project {project.id}: connected" in told.stdout.splitlines()
        assert [one.extra_params for one in seen.state.projects.named(project.id)] == [PARAMS]
        seen.state.projects.remove(project.id)
        assert adopt(str(project.id)).stdout == f"project {project.id}: connected\n"
        refused = adopt(str(bare.id))
        assert refused.returncode == 1 and "names no backend" in refused.stderr
    finally:
        forgetful.start()
    project.wait_for_version()
