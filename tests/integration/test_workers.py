"""Two workers on one database, each with its own way to Label Studio: who runs what, who takes over from whom.

Over SQLite, they share a folder. Over PostgreSQL, they and the web process are on machines of their own: each has its
folder, and what they learn goes through an object store."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.integration.helpers import LabelProject, Studio, kill_hard, wait_for
from tests.integration.two_workers import (
    BUDGET,
    BULK,
    LONG,
    POOL,
    SINGLE,
    Hand,
    Rig,
    check,
    check_it_comes_back_to_nothing,
)
from tests.rig.object_store import ObjectStoreServer, settings_for
from tests.rig.servers import PostgresServer


@pytest.fixture(scope="module", params=["postgresql", pytest.param("sqlite", marks=pytest.mark.long)])
def shared_rig(
    request: pytest.FixtureRequest, studio: Studio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    of_machines: dict[str, str] = {}
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        store: ObjectStoreServer = request.getfixturevalue("object_store")
        of_machines = {"DATABASE_URL": server.create_database(), **settings_for(store.url, "workers")}
    made = Rig(tmp_path_factory.mktemp(request.param), studio, of_machines)
    yield made
    made.close()


@pytest.fixture
def rig(shared_rig: Rig) -> Iterator[Rig]:
    for hand in shared_rig.hands:
        if not hand.worker.running:
            hand.restart()
    yield shared_rig
    for hand in shared_rig.hands:
        hand.proxy.clear()
        print(hand.worker.log_tail())  # shown when the test failed


@pytest.fixture
def project(rig: Rig, make_project: Callable[..., LabelProject]) -> LabelProject:
    made = make_project(tasks=POOL).connected(rig.web.url, LONG)
    made.wait_for_version()
    return made


@pytest.mark.long
def test_what_is_due_runs_once(rig: Rig, project: LabelProject) -> None:
    project.label_served(BUDGET)
    version = project.wait_for_cycle(1)
    wait_for("the cycle to be recorded", lambda: rig.seen.labels(project) == {1: BUDGET})
    assert [cycle.number for cycle in rig.seen.state.cycles.recent(project.id)] == [
        1,
        0,
    ]  # the first order was made once, too
    check(rig, project, version)


def test_the_other_takes_over_from_a_killed_one(rig: Rig, project: LabelProject) -> None:
    project.label_served(BUDGET)
    rig.seen.wait_for_training(project)
    busy, other = rig.at_work(project)
    kill_hard(busy.pid)
    rig.seen.let_leases_run_out()
    version = project.wait_for_cycle(2)
    assert rig.at_work(project) == (other, busy)
    assert rig.seen.cycles(project, "interrupted") == [1]
    check(rig, project, version)
    assert rig.seen.labels(project) == {2: BUDGET}


@pytest.mark.long
def test_one_that_slept_through_its_lease_in_training_changes_nothing(rig: Rig, project: LabelProject) -> None:
    project.label_served(BUDGET)
    rig.seen.wait_for_training(project)
    asleep, _ = rig.at_work(project)
    rig.freeze(asleep, project)
    version = project.wait_for_cycle(2)
    wait_for("the cycle to be recorded", lambda: rig.seen.labels(project) == {2: BUDGET})
    check_it_wakes_to_nothing(rig, project, asleep, version)


@pytest.mark.long
def test_one_that_slept_through_its_lease_while_publishing_changes_nothing(rig: Rig, project: LabelProject) -> None:
    # one moment for each database: they do not depend on each other
    call, nth = (BULK, 1) if rig.seen.state.database.engine.dialect.name == "sqlite" else (SINGLE, 3)
    asleep: list[Hand] = []

    def put_to_sleep(hand: Hand) -> Callable[[], None]:
        def strike() -> None:
            rig.freeze(hand, project)
            asleep.append(hand)

        return strike

    for hand in rig.hands:
        hand.proxy.set(*call, body="-c1-", nth=nth, before=put_to_sleep(hand))
    project.label_served(BUDGET)
    wait_for("one to be put to sleep", lambda: asleep)
    for hand in rig.hands:
        hand.proxy.clear()
    version = project.wait_for_cycle(1)
    wait_for("the cycle to be recorded", lambda: rig.seen.labels(project) == {1: BUDGET})
    check_it_wakes_to_nothing(rig, project, asleep[0], version)


def check_it_wakes_to_nothing(rig: Rig, project: LabelProject, asleep: Hand, version: str) -> None:
    check_it_comes_back_to_nothing(rig, project, asleep, version, lambda: os.kill(asleep.pid, signal.SIGCONT))
