"""Starting, waiting for and ending servers: what the whole suite stands on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rig.processes import REPOSITORY, Server, ServerError, answers, children_of, free_port
from tests.rig.waiting import PATIENCE, wait_for

WEB = """
import http.server, sys
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


class FileServer(Server):
    """Python's own web server, as a server that starts quickly."""

    name = "the file server"
    start_timeout = PATIENCE

    def __init__(self, directory: Path, program: str = WEB) -> None:
        super().__init__(directory, "web.log")
        self.port = free_port()
        self.program = program

    def command(self) -> list[str]:
        return [sys.executable, "-u", "-c", self.program, str(self.port)]

    def healthy(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_port_is_given_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is drawn again before anybody listens on it."""
    first, draw = free_port(), random.SystemRandom.randrange
    again = iter([first, first])
    monkeypatch.setattr(random.SystemRandom, "randrange", lambda self, *ends: next(again, None) or draw(self, *ends))
    assert free_port() != first
    assert next(again, None) is None


def test_it_serves_once_started_and_again_after_a_stop(tmp_path: Path) -> None:
    server = FileServer(tmp_path)
    for _ in range(2):
        server.start()
        assert server.healthy()
        pid = server.pid
        server.stop()
        assert not alive(pid)
        assert not server.running
    server.stop()  # twice is fine


def test_one_that_ends_instead_of_starting_says_so_with_its_log(tmp_path: Path) -> None:
    server = FileServer(tmp_path, "print('no such database'); raise SystemExit(3)")
    with pytest.raises(ServerError, match=r"(?s)exit code 3.*no such database"):
        server.start()


def test_one_that_never_answers_is_ended_and_said_so(tmp_path: Path) -> None:
    server = FileServer(tmp_path, "import time; print('thinking'); time.sleep(60)")
    server.launch()
    pid = server.pid
    wait_for("its first words", lambda: "thinking" in server.log_path.read_text())
    with pytest.raises(ServerError, match=r"(?s)not healthy after 1 s.*thinking"):
        server.wait_healthy(timeout=1)
    assert not alive(pid)


def test_a_started_one_is_not_started_again(tmp_path: Path) -> None:
    with FileServer(tmp_path) as server, pytest.raises(ServerError, match="running already"):
        server.launch()


STUBBORN_FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(15, signal.SIG_IGN); print('stubborn', flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, '-c', child])
time.sleep(60)
"""


def test_stop_ends_the_whole_family_even_when_it_refuses(tmp_path: Path) -> None:
    server = FileServer(tmp_path, STUBBORN_FAMILY)
    server.stop_timeout = 0.5
    server.launch()
    wait_for("its child", lambda: "stubborn" in server.log_path.read_text())
    family = [server.pid, *children_of(server.pid)]
    assert len(family) == 2
    server.stop()
    wait_for("their end", lambda: not any(alive(pid) for pid in family))


ORPHAN_MAKER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_processes import FileServer
server = FileServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_owner_takes_its_servers_along(tmp_path: Path) -> None:
    program = ORPHAN_MAKER.format(tests=str(Path(__file__).parent))
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert alive(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    wait_for("its end", lambda: not alive(pid))


def test_a_servers_environment_is_not_the_developers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "mine")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    environment = FileServer(tmp_path).environment()
    assert "PATH" in environment
    assert not {"LABEL_STUDIO_API_KEY", "LOG_LEVEL"} & environment.keys()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_during_the_start_waits_until_the_process_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    server = FileServer(tmp_path)
    started = subprocess.Popen

    def popen(*args: Any, **options: Any) -> Any:
        process = started(*args, **options)
        os.kill(os.getpid(), number)  # between the start and our note of it
        return process

    before = signal.signal(number, interrupt)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", popen)
            with pytest.raises(KeyboardInterrupt):
                server.launch()
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert server.running
    server.stop()
    assert not server.running
