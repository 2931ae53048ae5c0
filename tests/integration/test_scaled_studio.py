"""Label Studio in two processes behind a proxy, over PostgreSQL and Redis: the loop, and what must not come of it."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration.helpers import (
    FRUIT,
    Colleague,
    Seen,
    Studio,
    drawings,
    start_backend,
    wait_for,
    wait_until_quiet,
)
from tests.rig.scaled_studio import CHECK_JOBS, ScaledStudio, missing
from tests.rig.servers import BackendServer, PostgresServer, label_studio_program

pytestmark = [pytest.mark.long, pytest.mark.postgres]
PEOPLE, EACH, TASKS = 4, 5, 40
TRUSTED = "https://labels.example.com"


@pytest.fixture(scope="module")
def scaled(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledStudio]:
    if words := missing():
        pytest.skip(words)
    server = ScaledStudio(tmp_path_factory.mktemp("scaled"), postgres, processes=2)
    server.extra_env |= {"CSRF_TRUSTED_ORIGINS": TRUSTED, "LABEL_STUDIO_HOST": ""}
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def backend(scaled: ScaledStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    server = start_backend(tmp_path_factory.mktemp("backend"), Studio(scaled), SAMPLER="entropy")
    yield server
    server.stop()


def test_the_loop_runs_against_two_processes_and_several_people(scaled: ScaledStudio, backend: BackendServer) -> None:
    seen = Seen.of(backend)
    project = Studio(scaled).make_project("many hands", FRUIT, drawings(TASKS, FRUIT))
    project.connected(backend.url, {"budget": PEOPLE * EACH})
    first = project.published_order(project.wait_for_cycle(0))
    assert sorted(first) == sorted(project.tasks())

    team = [project.seen_by(Colleague(scaled, f"annotator-{secrets.token_hex(4)}")) for _ in range(PEOPLE)]
    with ThreadPoolExecutor(PEOPLE) as people:
        opened = list(people.map(lambda one: one.next_task(), team))  # in the same instant
        assert sorted(task["id"] for task in opened if task) == sorted(first[:PEOPLE])
        served = [task for part in people.map(lambda one: one.label_served(EACH), team) for task in part]
    assert sorted(served) == sorted(first[: PEOPLE * EACH])

    # The webhooks come by way of Redis and the job worker; nothing else tells the backend so soon.
    version = project.wait_for_cycle(1)
    assert seen.labels(project) == {1: PEOPLE * EACH}
    wait_until_quiet(seen, project)
    order = project.published_order(version)
    assert sorted(order) == sorted(set(first) - set(served))
    assert project.label_served(10) == order[:10]
    assert all(task["total_annotations"] <= 1 for task in project.tasks().values())


def at_work(studio: ScaledStudio) -> bool:
    """What the compose file's health check says of the job workers."""
    python = label_studio_program().with_name("python")
    run = subprocess.run([str(python), str(CHECK_JOBS)], env=studio.environment(), capture_output=True, text=True)
    assert not run.stderr, run.stderr
    return run.returncode == 0


def test_labels_are_heard_of_only_while_a_job_worker_runs(scaled: ScaledStudio, backend: BackendServer) -> None:
    """Why the compose file asks for the health of the job workers. What was not done meanwhile is done later."""
    seen = Seen.of(backend)
    project = Studio(scaled).make_project("nobody at work", FRUIT, drawings(8, FRUIT))
    project.connected(backend.url, {"budget": 1000})
    project.wait_for_cycle(0)
    wait_until_quiet(seen, project)
    (worker,) = scaled.workers
    assert at_work(scaled)
    worker.stop()
    assert not at_work(scaled)
    try:
        project.label_served(3)
        time.sleep(1.0)
        assert seen.pending(project) == 0
    finally:
        worker.start()
    wait_for("the webhooks", lambda: seen.pending(project) == 3)


def test_who_logs_in_through_the_proxy_is_logged_in_to_each_process(scaled: ScaledStudio) -> None:
    assert [log_in(scaled, origin)[0] for origin in ("https://elsewhere.example.com", TRUSTED)] == [403, 302]
    status, session = log_in(scaled, scaled.url)
    assert status == 302
    answers = [session.get(f"{scaled.url}/api/current-user/whoami", timeout=60) for _ in range(6)]
    assert [answer.json()["email"] for answer in answers] == [scaled.email] * 6


def log_in(studio: ScaledStudio, origin: str) -> tuple[int, requests.Session]:
    """The status of the form that a browser at ``origin`` sends."""
    session, page = requests.Session(), f"{studio.url}/user/login/"
    session.get(page, timeout=60)
    form = {"email": studio.email, "password": studio.password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    said = {"Origin": origin, "Referer": f"{origin}/user/login/"}
    return session.post(page, data=form, headers=said, timeout=60, allow_redirects=False).status_code, session
