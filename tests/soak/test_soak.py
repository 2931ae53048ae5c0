"""The soak itself, for a minute, and what its figures rest on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.rig.processes import REPOSITORY, ServerError, clean_environment
from tests.rig.waiting import PATIENCE, wait_for
from tests.soak import faults
from tests.soak.annotators import Floor, Pace
from tests.soak.faults import Faults, Parts


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_nothing_is_lost_in_a_minute(database: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "1", "--tasks", "150", "--keep", str(tmp_path)]
    command += ["--database", database]
    run = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=850)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Nothing was lost." in run.stdout
    assert "seen: 1.0000" in run.stdout
    assert "twice: 0" in run.stdout


def test_a_floor_is_quiet_once_everybody_has_handed_in_their_task() -> None:
    floor = Floor(Pace(1000.0))
    floor.open.set()
    assert floor.enter() and floor.enter()
    assert not floor.quiet(0.1), "two tasks are in hand"
    entered: list[bool] = []
    late = threading.Thread(target=lambda: entered.append(floor.enter()))
    late.start()
    floor.leave()
    floor.leave()
    assert floor.quiet(60.0)
    assert not entered, "nobody takes a task while the floor is closed"
    floor.open.set()
    late.join(60.0)
    assert entered == [True]
    floor.leave()
    floor.over.set()
    assert not floor.enter()


def test_all_together_keep_the_pace() -> None:
    pace, began, done = Pace(50.0), time.monotonic(), []
    people = [threading.Thread(target=lambda: [done.append(pace.wait()) for _ in range(5)]) for _ in range(4)]
    for person in people:
        person.start()
    wait_for("all to be through", lambda: len(done) == 20)
    assert time.monotonic() - began >= 19 / 50.0


class Part:
    """A server that notes when it was killed and started."""

    def __init__(self) -> None:
        self.killed = self.started = 0
        self.running = True

    def kill(self) -> None:
        self.running, self.killed = False, self.killed + 1

    def start(self) -> None:
        self.running, self.started = True, self.started + 1

    def healthy(self) -> bool:
        return self.running


class Web(Part):
    """The backend: whose processes are killed one by one, too."""

    asked = 0

    def _pid(self) -> int:
        self.asked += 1
        raise ServerError("it is being restarted")

    web_pid = worker_pid = property(_pid)


@pytest.mark.parametrize("apart", [True, False])
def test_each_part_is_killed_in_turn_and_runs_again_in_the_end(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "SECONDS", (0.0, 0.0))
    monkeypatch.setattr(faults, "AWAY", (0.0, 0.0))
    studio, database, web, workers = Part(), Part(), Web(), [Part(), Part()]
    proxy: Any = SimpleNamespace(set=lambda *_, **__: None, clear=lambda: None)
    parts: Any = Parts(studio, proxy, web, workers if apart else [], database if apart else None, None)  # type: ignore[arg-type]
    going_wrong = Faults(parts, every=0.0, seed=0)
    going_wrong.start()
    own = {"worker 1 killed", "worker 2 killed", "PostgreSQL killed"} if apart else {"worker killed"}
    wanted = {"web process killed", "supervisor killed", "Label Studio killed", *own}
    wait_for("each kind of kill", lambda: wanted <= going_wrong.counts.keys())
    going_wrong.over.set()
    going_wrong.join(PATIENCE)
    assert not going_wrong.failed and web.asked
    for part in (studio, web, *([database, *workers] if apart else [])):
        assert part.killed and part.killed == part.started and part.running
