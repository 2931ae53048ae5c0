"""The command line, as a person or an init system uses it: real processes, real signals."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from backend import __version__, status
from backend.__main__ import COMMANDS
from backend.arguments import parser
from backend.exposure import is_loopback
from backend.files import project_folder
from backend.reporting.snapshot import snapshot
from backend.settings.core import Settings
from backend.settings.table import settings_table
from backend.state import State, StoredLabel
from samplers import SAMPLER_NAMES, SAMPLERS
from tests.backend.web.test_metrics import fill
from tests.rig.processes import HOST, answers, children_of, clean_environment, free_port
from tests.rig.servers import BackendServer, WorkerProcess
from tests.rig.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backend", *arguments],
        cwd=ROOT,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


# -- the small commands ------------------------------------------------------------------------------------------------


def test_version() -> None:
    assert run("--version").stdout.strip().endswith(__version__)


def test_every_command_that_can_be_typed_does_something() -> None:
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(commands.choices) == set(COMMANDS)


def test_settings_prints_the_table_of_the_readme() -> None:
    assert run("settings").stdout == settings_table()


def test_samplers_lists_all_with_a_summary() -> None:
    lines = run("samplers").stdout.splitlines()
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(SAMPLER_NAMES)
    assert all(len(line.partition(": ")[2]) > 10 for line in lines)
    only = {line.partition(": ")[0] for line in lines if line.endswith("(classification only)")}
    assert only == {name for name, sampler in SAMPLERS.items() if sampler.tasks == ("classification",)}


def test_forget_says_what_would_be_lost_and_then_keeps_nothing(tmp_path: Path) -> None:
    state = State.for_settings(Settings(model_dir=str(tmp_path)))
    fill(state)
    state.leases.release(1, "w")
    folder = project_folder(str(tmp_path), "1.1")
    checkpoint = folder / "checkpoints" / "vaal-c2-abc.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")

    refused = run("forget", "1", MODEL_DIR=str(tmp_path))
    assert refused.returncode == 1 and checkpoint.exists() and state.projects.get(1) is not None
    assert "2 versions and 1 trained network" in refused.stderr and "--yes" in refused.stderr.splitlines()[-1]
    assert state.leases.take(1, "w", 60)  # it was given back
    state.leases.release(1, "w")

    done = run("forget", "1", "--yes", MODEL_DIR=str(tmp_path))
    assert done.returncode == 0 and "is forgotten" in done.stdout and "Webhooks" in done.stdout
    assert state.projects.get(1) is None and state.versions.of_project(1) == [] and not folder.exists()
    state.close()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["status"], {"BUDGET": "many"}, 2, 'BUDGET must be a whole number (1 to 1000000), not "many"'),
        (["serve"], {"DEVICE": "gpu"}, 2, "DEVICE must be auto, cpu, cuda or cuda:N"),
        (["worker"], {"SAMPLER": "psychic"}, 2, "SAMPLER must be one of"),
        (["status"], {"DATABASE_URL": "postgresql://me:open-sesame@127.0.0.1:9/x"}, 2, "DATABASE_URL: "),
        (["serve"], {"MODEL_DIR": "/proc/none"}, 2, "MODEL_DIR: "),
        (["run-cycle", "7"], {}, 1, "Project 7 is not connected"),
        (["run-cycle", "pets"], {}, 2, "is not a project's id"),
        (["forget", "7"], {}, 1, "Project 7 is not connected"),
        (["serve", "--port", "99999"], {}, 1, "Cannot listen on 127.0.0.1, port 99999"),
        ([], {}, 2, "COMMAND"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], environment: dict[str, str], code: int, words: str, tmp_path: Path
) -> None:
    ended = run(*arguments, **{"MODEL_DIR": str(tmp_path)} | environment)
    assert ended.returncode == code
    assert words in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr and "open-sesame" not in ended.stderr + ended.stdout


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_before_anything_is_connected(tmp_path: Path) -> None:
    assert run("status", MODEL_DIR=str(tmp_path)).stdout.strip() == "No project is connected yet."
    found = json.loads(run("status", "--json", MODEL_DIR=str(tmp_path)).stdout)
    assert found["projects"] == []


def test_status_shows_what_is_due_what_runs_and_what_is_broken(tmp_path: Path) -> None:
    state = State.for_settings(Settings(model_dir=str(tmp_path)))
    fill(state, metrics={"checkpoint_unreadable": "it is damaged"})
    state.projects.update(1, title="Pets [of mine]")
    state.hints.add(1, train=True)
    skips = [StoredLabel(task, None, [], 1, 1, ignored={"skipped": 1, "empty": 1}) for task in (3, 4)]
    state.labels.put(1, [*skips, StoredLabel(5, None, [], 0, 1, ignored={"skipped": 1})])
    state.close()
    environment = {"MODEL_DIR": str(tmp_path), "LABEL_STUDIO_URL": "http://ls", "LABEL_STUDIO_API_KEY": "a-secret-key"}

    found = json.loads(run("status", "--json", **environment).stdout)
    pets, fresh = found["projects"]
    assert pets["due"] == ["cycle (asked for)", "comparison"]
    assert (pets["pending_annotations"], pets["budget"], pets["current_version"]) == (3, 7, "vaal-c2-abc")
    assert (pets["running"]["phase"], pets["running"]["done"], pets["running"]["total"]) == ("train", 5, 20)
    assert [image["reason"] for image in pets["broken_images"]] == ["not an image"]
    assert pets["ignored_annotations"] == {"skipped": 3, "empty": 2}
    assert [version["status"] for version in pets["versions"]] == ["current", "superseded"]
    assert (fresh["due"], fresh["last_error"], fresh["current_version"]) == (["first order"], "refused", None)
    assert (pets["checkpoint_unreadable"], fresh["checkpoint_unreadable"]) == ("it is damaged", None)

    shown = run("status", COLUMNS="200", **environment).stdout
    for words in (
        "Pets [of mine]",
        "3/7",
        "cycle (asked for)",
        "cycle 3: train 5/20",
        "vaal-c2-abc",
        "not an image",
        "Annotations that do not count",
        "skipped",
        "Project 2: refused",
        "first order",
        "had to learn from the beginning: it is damaged",
    ):
        assert words in shown
    assert "a-secret-key" not in shown


# -- serve -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServer]:
    with BackendServer(tmp_path_factory.mktemp("serve"), "http://127.0.0.1:9", "some-key-or-other") as running:
        yield running  # type: ignore[misc]


def alive(pids: set[int]) -> set[int]:
    def is_alive(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return False
        return state != "Z"

    return {pid for pid in pids if is_alive(pid)}


def web_children(server: BackendServer) -> list[int]:
    """gunicorn's arbiter and its one worker process."""
    return [pid for pid, line in sorted(children_of(server.pid).items()) if "gunicorn" in line]


def test_whoever_dies_is_started_again_and_no_caller_is_refused(server: BackendServer) -> None:
    arbiter, process = web_children(server)
    worker = server.worker_pid

    os.kill(process, signal.SIGKILL)
    wait_for("gunicorn's process", lambda: len(web_children(server)) == 2 and process not in web_children(server))
    assert answers(server.url + "/health", timeout=PATIENCE)

    second = web_children(server)[1]
    for pid in (arbiter, worker):
        os.kill(pid, signal.SIGKILL)
    wait_for("their end", lambda: not alive({arbiter, second, worker}))
    # The socket outlives the web process: callers wait, they are not refused.
    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as caller:
        caller.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.0 200")
    assert wait_for("the worker", lambda: [p for p in children_of(server.pid).values() if "backend worker" in p])
    assert server.worker_pid != worker and server.web_pid != arbiter


def test_serve_runs_web_and_worker_and_sigterm_ends_them_all(server: BackendServer) -> None:
    wait_for("the worker", lambda: "Worker" in server.log_path.read_text())
    assert len(web_children(server)) == 2
    own = os.getpriority(os.PRIO_PROCESS, 0)
    worker = os.getpriority(os.PRIO_PROCESS, server.worker_pid)
    assert worker == min(own + 10, 19), "the web process must get its share of busy cores"
    assert os.getpriority(os.PRIO_PROCESS, server.web_pid) == own
    family = {server.pid, *children_of(server.pid)}
    assert len(family) == 4

    os.kill(server.pid, signal.SIGTERM)

    assert server.process is not None
    assert server.process.wait(PATIENCE) == 0
    assert alive(family) == set()
    assert "Traceback" not in server.log_path.read_text()


def test_kill_9_of_the_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    server = BackendServer(tmp_path, "http://127.0.0.1:9", "some-key-or-other")
    server.start()
    family = {server.pid, *children_of(server.pid)}
    assert len(family) == 4
    os.kill(server.pid, signal.SIGKILL)
    wait_for("all to end", lambda: not alive(family))
    server.stop()


def test_serve_without_a_worker_over_a_port_of_its_choice(tmp_path: Path) -> None:
    environment = clean_environment({"MODEL_DIR": str(tmp_path)})
    command = [sys.executable, "-m", "backend", "serve", "--no-worker", "--port", "0"]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=file)
    try:
        found = wait_for("the address", lambda: re.search(r"Listening at (http://\S+)", log.read_text()))
        assert answers(found[1] + "/health", timeout=PATIENCE)
        assert not [line for line in children_of(process.pid).values() if "backend worker" in line]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_worker_shows_that_it_lives_and_one_that_hangs_does_not(tmp_path: Path) -> None:
    environment = {
        "MODEL_DIR": str(tmp_path),
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": "k" * 9,
    }
    before = run("check-worker", **environment)
    assert (before.returncode, "No worker has been seen on this machine" in before.stderr) == (1, True)
    with WorkerProcess(tmp_path, "http://127.0.0.1:9", "k" * 9):
        wait_for("a sign of life", lambda: run("check-worker", **environment).returncode == 0)
    (sign,) = (tmp_path / "workers").iterdir()
    os.utime(sign, (0, 0))
    assert run("check-worker", **environment).returncode == 1


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_an_open_door_is_said_at_the_start_and_in_status(tmp_path: Path) -> None:
    words = "it asks for no password: set BASIC_AUTH_USER and BASIC_AUTH_PASS"
    password = {"BASIC_AUTH_USER": "me", "BASIC_AUTH_PASS": "open-sesame"}
    settings = Settings(model_dir=str(tmp_path / "data"))
    for number, (environment, said) in enumerate([({}, True), (password, False)]):
        log = tmp_path / f"log-{number}"
        command = [sys.executable, "-m", "backend", "serve", "--no-worker", "--host", "0.0.0.0", "--port", "0"]
        with log.open("w") as file:
            env = clean_environment({"MODEL_DIR": settings.model_dir}, environment)
            process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=file)
        try:
            wait_for("the address", lambda log=log: "Listening at" in log.read_text())  # type: ignore[misc]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        assert (words in log.read_text()) == said
        state = State.for_settings(settings)
        found = snapshot(state, settings)
        state.close()
        assert (words in " ".join(found["warnings"])) == said
        shown = Console(record=True, width=400, file=io.StringIO())
        status.show(found, shown)
        assert (words in shown.export_text()) == said


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        *[("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)],
        *[("0.0.0.0", False), ("::", False), ("10.0.0.7", False), ("no-such-host.invalid", False)],
    ],
)
def test_what_counts_as_this_machine_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_all_that_the_backend_writes_is_its_users_alone(tmp_path: Path) -> None:
    """Also what an earlier version left open, and where the whole is a folder that the owner made."""
    directory = tmp_path / "data"
    old = directory / "projects" / "1-100" / "checkpoints"
    old.mkdir(parents=True)
    for path in (directory, *(parent for parent in old.parents if directory in parent.parents), old):
        path.chmod(0o755)
    (old / "dast-al-c1-8f2d1a90.pt").write_bytes(b"weights")
    (old / "dast-al-c1-8f2d1a90.pt").chmod(0o644)
    State.for_settings(Settings(model_dir=str(directory))).close()
    (directory / "state.sqlite3").chmod(0o644)

    server = BackendServer(directory, "http://127.0.0.1:9", "some-key-or-other")
    server.log_path.touch(mode=0o600)  # the log's place here is the tests' own choice
    with server:
        wait_for("the worker", lambda: "Worker" in server.log_path.read_text())
        found = {path.relative_to(tmp_path): oct(mode_of(path)) for path in [directory, *directory.rglob("*")]}
    folders = {path for path in found if (tmp_path / path).is_dir()}
    assert {found[path] for path in folders} == {"0o700"}, found
    assert {found[path] for path in found if path not in folders} == {"0o600"}, found
    assert Path("data/state.sqlite3-wal") in found


def test_a_folder_that_is_not_the_backends_alone_keeps_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, home = tmp_path / "shared", tmp_path / "home"
    shared.mkdir()
    shared.chmod(0o1777)
    home.mkdir()
    home.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    for folder, mode in ((shared, 0o1777), (home, 0o755)):
        State.for_settings(Settings(model_dir=str(folder))).close()
        assert mode_of(folder) == mode
        assert mode_of(folder / "state.sqlite3") == 0o600


def test_a_port_in_use_is_found_out_before_anything_starts(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server((HOST, port)):
        ended = run("serve", "--port", str(port), MODEL_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use" in ended.stderr
    assert "runs as process" not in ended.stderr
