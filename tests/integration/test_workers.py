"""Two workers on one database, each with its own way to Label Studio: who runs what, who takes over from whom.

Over SQLite, they share a folder. Over PostgreSQL, they and the web process are on machines of their own: each has its
folder, and what they learn goes through an object store."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.helpers import FAST, LabelProject, Seen, Studio, kill_hard, start_backend, wait_for
from tests.rig.object_store import ObjectStoreServer, settings_for
from tests.rig.proxy import Passed, Proxy
from tests.rig.servers import BackendServer, PostgresServer, WorkerProcess

BUDGET, POOL, LEASE_SECONDS = 4, 18, 4
SETTINGS = {"BUDGET": str(BUDGET), "SHORTLIST": "5", "SAMPLER": "entropy", "LEASE_SECONDS": str(LEASE_SECONDS)}
LONG = {"epochs": 100}
SINGLE, BULK = ("POST", "^/api/predictions/$"), ("POST", "/import/predictions$")


class Hand:
    """One worker and the proxy that it alone uses."""

    def __init__(self, folder: Path, studio: Studio, name: str, settings: dict[str, str]) -> None:
        self.proxy = Proxy(studio.url)
        key = studio.server.personal_access_token()
        self.worker = WorkerProcess(folder, self.proxy.url, key, env=FAST | settings, log_name=f"{name}.log", warm=True)

    @property
    def pid(self) -> int:
        return self.worker.pid

    def restart(self) -> None:
        self.worker.kill()
        self.worker.start()

    def changes_since(self, moment: float) -> list[Passed]:
        """Its calls that changed something in Label Studio."""
        reads = ("GET", "HEAD")
        calls = list(self.proxy.requests)
        return [c for c in calls if c.at >= moment and c.method not in reads and "token" not in c.path]

    def close(self) -> None:
        self.worker.stop()
        self.proxy.close()


class Rig:
    """A web process and two workers over one database. ``of_machines``: settings for machines of their own; without,
    they share ``folder``."""

    def __init__(self, folder: Path, studio: Studio, of_machines: dict[str, str]) -> None:
        settings = SETTINGS | of_machines
        names = ("first", "second")
        folders = [folder / name if of_machines else folder for name in names]
        self.web: BackendServer = start_backend(folder, studio, worker=False, **settings)
        self.seen = Seen.of(self.web)
        self.hands = [Hand(own, studio, name, settings) for own, name in zip(folders, names, strict=True)]

    def at_work(self, project: LabelProject) -> tuple[Hand, Hand]:
        """Whose cycle the project's newest is, and the other one."""
        pid = int(self.seen.state.cycles.recent(project.id)[0].owner.split(":")[1])
        busy = next(hand for hand in self.hands if hand.pid == pid)
        return busy, next(hand for hand in self.hands if hand is not busy)

    def freeze(self, hand: Hand, project: LabelProject) -> None:
        """SIGSTOP, but not in the middle of a transaction: everybody would wait for that one."""
        for _ in range(100):
            os.kill(hand.pid, signal.SIGSTOP)
            if self._can_write(project):
                return
            os.kill(hand.pid, signal.SIGCONT)
            time.sleep(0.02)
        raise AssertionError("always in a transaction")

    def _can_write(self, project: LabelProject) -> bool:
        engine = self.seen.state.database.engine
        try:
            if engine.dialect.name == "sqlite":
                with sqlite3.connect(str(engine.url.database), timeout=0.3) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                return True
            with engine.begin() as conn:
                conn.execute(sa.text("SET LOCAL lock_timeout = '300ms'"))
                conn.execute(sa.text("SELECT id FROM projects WHERE id = :id FOR UPDATE"), {"id": project.id})
            return True
        except (sqlite3.OperationalError, sa.exc.OperationalError):
            return False

    def close(self) -> None:
        for hand in self.hands:
            hand.close()
        self.web.stop()


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


def check(rig: Rig, project: LabelProject, version: str) -> None:
    """``version`` is whole, no version has a task twice, and the queue is in its order."""
    wait_for("all to be done", lambda: rig.seen.idle(project))
    assert project.version() == version and project.missing_predictions(version) == ""
    held = Counter((item["task"], item["model_version"]) for item in project.predictions())
    assert [key for key, times in held.items() if times > 1] == []
    waiting = project.unlabelled()
    order = [task for task in project.published_order(version) if task in waiting]
    assert project.label_served(2) == order[:2]


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


def test_one_that_slept_through_its_lease_in_training_changes_nothing(rig: Rig, project: LabelProject) -> None:
    project.label_served(BUDGET)
    rig.seen.wait_for_training(project)
    asleep, _ = rig.at_work(project)
    rig.freeze(asleep, project)
    version = project.wait_for_cycle(2)
    wait_for("the cycle to be recorded", lambda: rig.seen.labels(project) == {2: BUDGET})
    check_it_wakes_to_nothing(rig, project, asleep, version)


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
    wait_for("all to be done", lambda: rig.seen.idle(project))
    before = everything(rig, project)
    log = asleep.worker.log_path
    read = log.stat().st_size
    woken = time.time()
    os.kill(asleep.pid, signal.SIGCONT)
    # PostgreSQL ends a transaction that nothing has come from for 30 s.
    words = (f"Project {project.id}: the lease", "no longer by", "The database closed the connection")
    wait_for("it to notice", lambda: any(word in log.read_text()[read:] for word in words))
    wait_for("all to be done", lambda: rig.seen.idle(project))
    assert asleep.changes_since(woken) == []
    differences = changed(before, everything(rig, project))
    assert not differences, differences
    check(rig, project, version)


def changed(before: dict[str, object], after: dict[str, object]) -> dict[str, tuple[object, object]]:
    keys = before.keys() | after.keys()
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def everything(rig: Rig, project: LabelProject) -> dict[str, object]:
    """All that a worker could have changed: in the state and in Label Studio."""
    state = rig.seen.state
    found: dict[str, object] = {
        "cycles": state.cycles.recent(project.id),
        "seen": state.labels.seen(project.id),
        "queue": project.version(),
        "held": sorted((item["id"], item["score"], item["model_version"]) for item in project.predictions()),
    }
    for version in state.versions.of_project(project.id):
        found[version.name] = (version, state.scores.all(version), state.scores.to_write(version, None))
    return found
