"""A web process and two workers on one database, each with its own way to Label Studio."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from tests.integration.helpers import FAST, LabelProject, Seen, Studio, start_backend, wait_for
from tests.rig.proxy import Passed, Proxy
from tests.rig.servers import BackendServer, WorkerProcess

BUDGET, POOL, LEASE_SECONDS = 4, 18, 4
SETTINGS = {"BUDGET": str(BUDGET), "SHORTLIST": "5", "SAMPLER": "entropy", "LEASE_SECONDS": str(LEASE_SECONDS)}
LONG = {"epochs": 100}
SINGLE, BULK = ("POST", "^/api/predictions/$"), ("POST", "/import/predictions$")


class Hand:
    """One worker and the proxy that it alone uses."""

    def __init__(self, folder: Path, studio: Studio, name: str, settings: dict[str, str]) -> None:
        self.proxy = Proxy(studio.url)
        self.worker = self.worker_of(folder, studio, name, settings)

    def worker_of(self, folder: Path, studio: Studio, name: str, settings: dict[str, str]) -> WorkerProcess:
        key = studio.server.personal_access_token()
        return WorkerProcess(folder, self.proxy.url, key, env=FAST | settings, log_name=f"{name}.log", warm=True)

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

    def writes_since(self, moment: float) -> list[Passed]:
        """All that it changed outside of its own machine."""
        return self.changes_since(moment)

    def close(self) -> None:
        self.worker.stop()
        self.proxy.close()


class Rig:
    """A web process and two workers over one database. ``of_machines``: settings for machines of their own; without,
    they share ``folder``. ``hand``: makes each of the two workers."""

    def __init__(
        self,
        folder: Path,
        studio: Studio,
        of_machines: dict[str, str],
        hand: Callable[[Path, Studio, str, dict[str, str]], Hand] = Hand,
    ) -> None:
        settings = SETTINGS | of_machines
        names = ("first", "second")
        folders = [folder / name if of_machines else folder for name in names]
        self.web: BackendServer = start_backend(folder, studio, worker=False, **settings)
        self.seen = Seen.of(self.web)
        self.hands = [hand(own, studio, name, settings) for own, name in zip(folders, names, strict=True)]

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


def check(rig: Rig, project: LabelProject, version: str) -> None:
    """``version`` is whole, no version has a task twice, and the queue is in its order."""
    wait_for("all to be done", lambda: rig.seen.idle(project))
    assert project.version() == version and project.missing_predictions(version) == ""
    held = Counter((item["task"], item["model_version"]) for item in project.predictions())
    assert [key for key, times in held.items() if times > 1] == []
    waiting = project.unlabelled()
    order = [task for task in project.published_order(version) if task in waiting]
    assert project.label_served(2) == order[:2]


def check_it_comes_back_to_nothing(
    rig: Rig, project: LabelProject, lost: Hand, version: str, bring_back: Callable[[], None]
) -> None:
    """``lost`` has no lease any more, the other one has finished: it notices, and changes nothing."""
    wait_for("all to be done", lambda: rig.seen.idle(project))
    before, log = everything(rig, project), lost.worker.log_path
    read, back = log.stat().st_size, time.time()
    bring_back()
    # PostgreSQL ends a transaction that nothing has come from for 30 s; a connection may break off, or a store's.
    words = (f"Project {project.id}: the lease", "no longer by", "The database closed the connection", "cannot be")
    wait_for("it to notice", lambda: any(word in log.read_text()[read:] for word in words))
    wait_for("all to be done", lambda: rig.seen.idle(project))
    written = lost.writes_since(back)
    assert not written, written
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
