"""The way in that label-studio-ml's tools know."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import _wsgi
from tests.rig.processes import HOST, REPOSITORY, Server, answers, children_of, clean_environment, free_port
from tests.rig.waiting import wait_for

PROGRAMS = Path(sys.executable).parent


class Started(Server):
    """A command that serves at ``port``, run in ``where``."""

    name = "the backend"
    start_timeout = 180.0

    def __init__(self, directory: Path, port: int, where: Path, *command: str) -> None:
        super().__init__(directory, "log")
        self.port, self._where, self._command = port, where, list(command)

    def command(self) -> list[str]:
        return self._command

    def environment(self) -> dict[str, str]:
        path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"  # as with the environment activated
        return clean_environment({"PATH": path, "MODEL_DIR": str(self.directory / "data")})

    def popen_options(self) -> dict[str, object]:
        return {"cwd": self._where}

    def healthy(self) -> bool:
        return answers(f"http://{HOST}:{self.port}/health")


@pytest.fixture
def port() -> Iterator[int]:
    yield free_port()


def test_label_studio_ml_start_serves_and_works(tmp_path: Path, port: int) -> None:
    command = [str(PROGRAMS / "label-studio-ml"), "start", "backend", "-p", str(port), "--host", HOST]
    with Started(tmp_path, port, REPOSITORY, *command, "--debug") as server:
        wait_for("a worker", lambda: any("backend worker" in line for line in children_of(server.pid).values()))
        assert (tmp_path / "data" / "state.sqlite3").exists()
        assert "DEBUG" in server.log_path.read_text()


@pytest.mark.parametrize(
    ("where", "module"), [(REPOSITORY / "backend", "_wsgi:app"), (REPOSITORY, "backend._wsgi:app")]
)
def test_gunicorn_finds_the_application(tmp_path: Path, port: int, where: Path, module: str) -> None:
    """As label-studio-ml's example containers start theirs: in the folder, with one process and threads."""
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", "--workers", "1", "--threads", "4"]
    with Started(tmp_path, port, where, *gunicorn, "--timeout", "0", module):
        assert answers(f"http://{HOST}:{port}/versions")


def test_its_options_stand_in_for_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", "/elsewhere")
    program, environment = _wsgi.command([])
    assert program[1:] == ["-m", "backend", "serve", "--host", "0.0.0.0", "--port", "9090"]
    assert environment["MODEL_DIR"] == "/elsewhere"
    program, environment = _wsgi.command(
        [
            *("--host", "::1", "-p", "9", "--model-dir", "m", "--log-level", "debug"),
            *("--basic-auth-user", "me", "--basic-auth-pass", "sesame"),
        ]
    )
    assert program[1:] == ["-m", "backend", "serve", "--host", "::1", "--port", "9"]
    wanted = {"MODEL_DIR": "m", "LOG_LEVEL": "DEBUG", "BASIC_AUTH_USER": "me", "BASIC_AUTH_PASS": "sesame"}
    assert wanted.items() <= environment.items()


def test_check_says_what_is_wrong_and_serves_nothing(tmp_path: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "backend" / "_wsgi.py"), "--check"]
    for settings, code in (({}, 0), ({"BUDGET": "many"}, 2)):
        env = clean_environment({"MODEL_DIR": str(tmp_path), **settings})
        ended = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=180)
        assert ended.returncode == code, ended.stderr
        assert ("BUDGET must be a whole number" in ended.stderr) == (code != 0)
