"""What the owner reads where Ray is missing or does not answer, and what is left of Ray when a worker is killed."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from backend.engine import session as module
from backend.engine.session import RaySession
from backend.errors import OwnerError, SettingsError
from backend.settings.core import Settings
from backend.worker.engine import Engine

CPU = torch.device("cpu")


def engine(**environment: str) -> Engine:
    return Engine(Settings.from_env(environment))


def test_by_default_nothing_of_ray_is_loaded() -> None:
    local = engine()
    local.start(CPU)
    assert local.executor is None
    local.end()
    code = "import sys, backend.worker.worker, backend.cycle, backend.engine.executor; print('ray' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=module.ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_worker_without_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(OwnerError, match=r"requirements-ray\.txt .* EXECUTOR=local"):
        engine(EXECUTOR="ray").start(CPU)


def test_a_cluster_that_does_not_answer_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OwnerError, match=rf"RAY_ADDRESS=127\.0\.0\.1:{port} \(Connection refused\): start its head"):
        engine(EXECUTOR="ray", RAY_ADDRESS=f"127.0.0.1:{port}").start(CPU)


def test_a_ray_of_this_machine_waits_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(RaySession, "connect", lambda self: pytest.fail("it was started"))
    started = engine(EXECUTOR="ray")
    started.start(CPU)
    assert started.executor is not None
    started.end()


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:8265", "head:port"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(SettingsError, match="RAY_ADDRESS must be host:port"):
        Settings.from_env({"RAY_ADDRESS": address})


def test_folders_of_killed_workers_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "LONGEST_PATH", 1000)
    mine = module._new_folder()
    left = tmp_path / mine.name.replace(str(module.os.getpid()), "4194399")  # above the highest number of a process
    left.mkdir()
    again = module._new_folder()
    assert mine.is_dir() and again.is_dir() and again != mine and not left.exists()
    assert mine.stat().st_mode & 0o077 == 0


AGENT_SECONDS = 180
"""Two small processes of Ray try to report for a minute that its others are gone."""
START = """
import sys, time
from backend.engine.session import RaySession
session = RaySession("", cores=1)
session.connect()
print("ready", flush=True)
if sys.argv[1] == "end":
    session.end()
else:
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.machines
@pytest.mark.long
@pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed")
@pytest.mark.parametrize("how", ["end", "SIGKILL", "SIGTERM"])
def test_ray_ends_with_its_worker_however_it_ends(how: str) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", START, how], cwd=module.ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert worker.stdout is not None
    assert "ready" in worker.stdout.read(6)
    if how != "end":
        assert len(of_session(worker.pid)) > 3, "Ray runs"
        worker.send_signal(getattr(signal, how))
    worker.wait(120)
    died = time.monotonic()
    while left := of_session(worker.pid):
        computing = [command for command in left if not re.match(r"ray::\w+Agent\b", command)]
        assert time.monotonic() < died + 30 or not computing, left
        assert time.monotonic() < died + AGENT_SECONDS, left
        time.sleep(0.2)


def of_session(session: int) -> list[str]:
    """The commands of a session's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((path / "cmdline").read_text().replace("\0", " ")[:120])
        except OSError:
            continue
    return found
