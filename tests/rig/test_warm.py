"""A process that is forked is one like any other: what is said of subprocess.Popen, and of Python's own start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.leash import signal_group
from tests.rig.processes import REPOSITORY
from tests.rig.waiting import wait_for
from tests.rig.warm import WarmProcess

SLEEP = "import time; time.sleep(600)"


class Bare(WarmProcess):
    """From a fork server that starts quickly."""

    imported = ()


class Runs:
    """What runs a statement by ``python -m timeit``, and where it prints to."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.log = directory, directory / "log"
        self._started: list[Bare] = []

    def __call__(self, statement: str, **env: str) -> Bare:
        return self.module("timeit", "-n", "1", "-r", "1", statement, **env)

    def module(self, *words: str, **env: str) -> Bare:
        with self.log.open("ab") as log:
            self._started.append(Bare([sys.executable, "-m", *words], env, self.directory, log))
        return self._started[-1]

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                signal_group(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)
    yield made
    made.end()


def test_it_has_the_environment_the_directory_and_the_session_that_it_was_given(run: Runs) -> None:
    process = run("import os; print(dict(os.environ), os.getcwd(), os.getsid(0), os.listdir('/proc/self/fd'))", A="b")
    assert process.wait(60) == 0
    assert run.log.read_text().startswith(f"{{'A': 'b'}} {run.directory} {process.pid} ['0', '1', '2', '3']")


def test_its_command_line_is_that_of_a_cold_one(run: Runs) -> None:
    process = run(SLEEP)
    words = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    assert [word.decode() for word in words] == [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", SLEEP]


@pytest.mark.parametrize(("words", "code"), [("timeit pass", 0), ("timeit --unknown", 2), ("no_such_module", 1)])
def test_its_exit_code_is_pythons(run: Runs, words: str, code: int) -> None:
    assert run.module(*words.split()).wait(60) == code


def test_a_kill_ends_it_alone_and_is_told(run: Runs) -> None:
    killed, other = run(SLEEP), run(SLEEP)
    assert killed.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        killed.wait(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL == killed.poll()
    assert other.poll() is None


OWNER = """
import os, sys
from pathlib import Path
from tests.rig.test_warm import Bare
with open("log", "wb") as log:
    Bare([sys.executable, "-m", "timeit", "pass"], {}, Path("/"), log)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
os.kill(os.getpid(), 9)
"""


def test_nobody_is_left_when_its_owner_dies(run: Runs) -> None:
    """The fork server ends with the process that started it; what it forked, the leash ends (test_processes)."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    owner = subprocess.run([sys.executable, "-c", OWNER], cwd=run.directory, env=env, capture_output=True, text=True)
    (server,) = owner.stdout.split()
    wait_for("its end", lambda: not Path(f"/proc/{server}").exists())
