"""The soak itself, for a minute, and what its figures rest on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.rig.processes import REPOSITORY, clean_environment
from tests.rig.waiting import wait_for
from tests.soak.annotators import Floor, Pace


@pytest.mark.slow
@pytest.mark.long
def test_nothing_is_lost_in_a_minute(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "1", "--tasks", "150", "--keep", str(tmp_path)]
    run = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=850)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Nothing was lost." in run.stdout
    assert "seen: 1.0000" in run.stdout


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
