"""The real servers that the demo, the tests and the benchmarks run against, each in a directory of its own.

Everything listens on the loopback address only, on a free port, and ends with the process that started it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import requests

from tests.rig.postgres import PostgresServer
from tests.rig.processes import (
    HOST,
    REPOSITORY,
    Process,
    Server,
    ServerError,
    answers,
    children_of,
    clean_environment,
    free_port,
)
from tests.rig.warm import WarmProcess

__all__ = [
    "BackendServer",
    "LabelStudioServer",
    "PostgresServer",
    "ServerError",
    "WorkerProcess",
    "free_port",
]

LABEL_STUDIO_ENVIRONMENT = REPOSITORY / ".venv-label-studio"
QUICK = Path(__file__).with_name("quick_label_studio.py")


class LabelStudioServer(Server):
    """A Label Studio with one user, over SQLite (or what ``extra_env`` names) in ``data_dir``.

    Started again on the same directory it is the same Label Studio: projects, users and tokens stay. One that is not
    ``durable`` does not wait for the disk (:mod:`tests.rig.quick_label_studio`).
    """

    name = "Label Studio"
    start_timeout = 180.0
    email = "annotator@example.com"
    password = "annotate-me"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        extra_env: Mapping[str, str] | None = None,
        *,
        durable: bool = True,
    ) -> None:
        super().__init__(data_dir, "label-studio.log")
        self.port = port or free_port()
        self.durable = durable
        self.extra_env = dict(extra_env or {})
        self.url = f"http://{HOST}:{self.port}"
        self.legacy_token = self._kept("legacy-token", lambda: secrets.token_hex(20))

    def command(self) -> list[str]:
        host = ["--internal-host", HOST, "--port", str(self.port)]
        program = label_studio_program()
        start = [str(program), "start", "--no-browser", *host]
        return start if self.durable else [str(program.parent / "python"), str(QUICK), *start]

    def environment(self) -> dict[str, str]:
        own = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.directory.resolve()),
            # both must be off, or Label Studio refuses a backend at a loopback or private address
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LATEST_VERSION_CHECK": "false",
            "LABEL_STUDIO_USERNAME": self.email,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.legacy_token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            # in one upload request; Label Studio's own default is 100
            "DATA_UPLOAD_MAX_NUMBER_FILES": "1000",
        }
        return clean_environment(own, self.extra_env)

    def popen_options(self) -> dict[str, object]:
        return {"cwd": self.directory}  # in a checkout it would ask git for "its" version

    def launch(self) -> None:
        database = self.directory / "label_studio.sqlite3"
        if "DJANGO_DB" not in self.extra_env and not database.exists() and (template := migrated_database()):
            self.directory.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template, database)
        super().launch()

    def healthy(self) -> bool:
        return answers(f"{self.url}/health")

    def personal_access_token(self) -> str:
        """The user's personal access token, made through the API at the first call, then kept. Versions that have none,
        and ``LABEL_STUDIO_TOKENS=legacy``: the legacy token."""
        if os.environ.get("LABEL_STUDIO_TOKENS") == "legacy":
            return self.legacy_token
        return self._kept("personal-access-token", self._make_personal_access_token)

    def client(self) -> Any:
        """A label-studio-sdk client that uses the personal access token."""
        from label_studio_sdk.client import LabelStudio  # here: the SDK takes seconds to import

        return LabelStudio(base_url=self.url, api_key=self.personal_access_token())

    def _make_personal_access_token(self) -> str:
        answer = requests.post(
            f"{self.url}/api/token/", headers={"Authorization": f"Token {self.legacy_token}"}, timeout=30
        )
        if answer.status_code == 404:
            return self.legacy_token
        if answer.status_code != 201:
            words = f"{answer.status_code}: {answer.text}"
            raise ServerError(f"Label Studio made no personal access token ({words})")
        return str(answer.json()["token"])

    def _kept(self, name: str, make: Any) -> str:
        path = self.directory / name
        if not path.exists():
            value = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(value)
        return path.read_text()


def label_studio_program() -> Path:
    """Label Studio's command in its own environment. Raises ServerError when that is not there."""
    program = Path(os.environ.get("LABEL_STUDIO_PROGRAM", LABEL_STUDIO_ENVIRONMENT / "bin" / "label-studio"))
    if not program.exists():
        raise ServerError(f"no Label Studio at {program}: run `make setup` first")
    return program


def migrated_database() -> Path | None:
    """An empty, migrated database, which `make setup` makes: migrating takes half a minute, a copy nothing.

    It is kept in Label Studio's environment, so it goes when that is replaced, and holds no user and no key. None where
    it cannot be kept: Label Studio migrates by itself.
    """
    environment = label_studio_program().parent.parent
    if not os.access(environment, os.W_OK):
        return None
    template = environment / "migrated.sqlite3"
    with (environment / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            make_migrated_database(template)
    return template


def make_migrated_database(template: Path) -> None:
    """Lets Label Studio migrate an empty database and moves it to ``template``. Raises ServerError."""
    with tempfile.TemporaryDirectory(prefix="label-studio-") as scratch:
        settings = {"LABEL_STUDIO_BASE_DATA_DIR": scratch, "COLLECT_ANALYTICS": "false", "SENTRY_DSN": ""}
        run = subprocess.run(
            # a sub-command that migrates, prints and ends; "nobody" has no account, which is fine
            [str(label_studio_program()), "user", "--username", "nobody"],
            env=clean_environment(settings),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        database = Path(scratch) / "label_studio.sqlite3"
        if run.returncode != 0 or not database.exists():
            words = run.stdout[-2000:] + run.stderr[-2000:]
            raise ServerError(f"Label Studio did not migrate its database:\n{words}")
        partial = template.with_suffix(".partial")
        shutil.copyfile(database, partial)
        os.replace(partial, template)


class _BackendProcess(Server):
    """``python -m backend <sub-command>`` with our settings in its environment. A ``warm`` one is forked from a process
    that has imported everything (:mod:`tests.rig.warm`)."""

    def __init__(
        self,
        model_dir: Path,
        label_studio_url: str,
        api_key: str,
        log_name: str,
        env: Mapping[str, str] | None,
        warm: bool,
    ) -> None:
        super().__init__(model_dir, log_name)
        self.warm = warm
        self.label_studio_url = label_studio_url
        self.api_key = api_key
        self.extra_env = dict(env or {})

    def environment(self) -> dict[str, str]:
        own = {
            "LABEL_STUDIO_URL": self.label_studio_url,
            "LABEL_STUDIO_API_KEY": self.api_key,
            "MODEL_DIR": str(self.directory.resolve()),
            "PYTHONUNBUFFERED": "1",
        }
        return clean_environment(own, self.extra_env)

    def popen_options(self) -> dict[str, object]:
        return {"cwd": REPOSITORY}

    def spawn(self, log: IO[bytes]) -> Process:
        if not self.warm:
            return super().spawn(log)
        return WarmProcess(self.command(), self.environment(), REPOSITORY, log)


class BackendServer(_BackendProcess):
    """The backend's web process and, with ``worker``, its worker beside it, over one ``model_dir``."""

    name = "the backend"
    start_timeout = 90.0

    def __init__(
        self,
        model_dir: Path,
        label_studio_url: str,
        api_key: str,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        worker: bool = True,
        warm: bool = False,
    ) -> None:
        super().__init__(model_dir, label_studio_url, api_key, "backend.log", env, warm)
        self.port = port or free_port()
        self.worker = worker
        self.url = f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        where = ["--host", HOST, "--port", str(self.port)]
        return [sys.executable, "-m", "backend", "serve", *where, *([] if self.worker else ["--no-worker"])]

    def healthy(self) -> bool:
        return answers(f"{self.url}/health")

    @property
    def worker_pid(self) -> int:
        """The worker's process. Raises ServerError when none is running (now)."""
        return self._child(r"-m backend worker\b")

    @property
    def web_pid(self) -> int:
        """The web process (gunicorn's arbiter). Raises ServerError when none is running."""
        return self._child(r"gunicorn|backend serve.*--no-worker", default=None if self.worker else self.pid)

    def _child(self, pattern: str, default: int | None = None) -> int:
        children = children_of(self.pid)
        found = [pid for pid, command in sorted(children.items()) if re.search(pattern, command)]
        if found:
            return found[0]
        if default is None:
            raise ServerError(f"no process like {pattern!r} under {self.pid}: {children}\n{self.log_tail()}")
        return default


class WorkerProcess(_BackendProcess):
    """One more worker over the same ``model_dir`` or database. Healthy as soon as it runs."""

    name = "the worker"

    def __init__(
        self,
        model_dir: Path,
        label_studio_url: str,
        api_key: str,
        *,
        env: Mapping[str, str] | None = None,
        log_name: str = "worker.log",
        warm: bool = False,
    ) -> None:
        super().__init__(model_dir, label_studio_url, api_key, log_name, env, warm)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "backend", "worker"]
