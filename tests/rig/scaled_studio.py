"""Label Studio in several processes, as docker/docker-compose.scale.yml runs it, without Docker: uWSGI, PostgreSQL,
Redis, job workers, and nginx in front, each a process of its own, with the same proxy.conf and settings file.

nginx and Redis are Debian's packages ``nginx-light`` and ``redis-server``; uWSGI is the one that Label Studio asks for.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from tests.rig.processes import HOST, REPOSITORY, Server, ServerError, answers, clean_environment, free_port
from tests.rig.servers import LabelStudioServer, PostgresServer, label_studio_program

CONFIGURATION = REPOSITORY / "docker" / "label-studio"
PROXY = CONFIGURATION / "proxy.conf"
LABEL_STUDIO_SETTINGS, WITH_REDIS = "core.settings.label_studio", "label_studio_redis"
CHECK_JOBS = CONFIGURATION / "check_jobs.py"
JOBS = ["rqworker", "--with-scheduler", "critical", "high", "default", "low"]
"""What a job worker runs; the queues in the order in which it looks into them."""
THREADS = 4
"""Of each process, as in the compose file."""
NEEDED = {"nginx": "nginx-light", "redis-server": "redis-server"}
"""Program → Debian's package of it."""


def missing() -> str:
    """What has to be installed for a :class:`ScaledStudio`, in one sentence; empty: nothing."""
    packages = [package for program, package in NEEDED.items() if _program(program) is None]
    if PostgresServer.programs() is None:
        packages.append("postgresql")
    if packages:
        return f"not installed: apt-get install {' '.join(packages)}"
    return "" if _uwsgi().exists() else f"no uWSGI at {_uwsgi()}: run `make setup`"


class RedisServer(Server):
    """Redis in memory only."""

    name = "Redis"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "redis.log")
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        own = [
            "--bind",
            HOST,
            "--port",
            str(self.port),
            "--dir",
            str(self.directory),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        return [str(_program("redis-server")), *own]

    def healthy(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Proxy(Server):
    """nginx with the product's proxy.conf, before the server at ``target`` (a port)."""

    name = "nginx"
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, target: int) -> None:
        super().__init__(directory, "nginx.log")
        self.port, self.target = free_port(), target
        self.url = f"http://{HOST}:{self.port}"

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        given = PROXY.read_text()
        site = given.replace("label-studio:8000", f"{HOST}:{self.target}").replace(
            "listen 8080", f"listen {HOST}:{self.port}"
        )
        temporary = "".join(
            f"{name}_temp_path {self.directory}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""  # the directories of tests are private
        (self.directory / "nginx.conf").write_text(
            f"{user}daemon off;\npid {self.directory}/nginx.pid;\nerror_log stderr;\nworker_processes 1;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
        )
        super().launch()

    def command(self) -> list[str]:
        return [str(_program("nginx")), "-e", "stderr", "-c", str(self.directory.resolve() / "nginx.conf")]

    def healthy(self) -> bool:
        return answers(f"{self.url}/health")


class JobWorker(Server):
    """Does what Label Studio puts into Redis, in the order of the queues' names."""

    name = "the job worker"

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__(directory, "jobs.log")
        self._environment = dict(environment)

    def command(self) -> list[str]:
        return [*_manage(), *JOBS]

    def environment(self) -> dict[str, str]:
        return self._environment

    def popen_options(self) -> dict[str, object]:
        return {"cwd": self.directory}


class ScaledStudio(LabelStudioServer):
    """``processes`` of Label Studio under uWSGI over a database of ``postgres``, with everything around them; ``url``
    is the proxy's. Without ``redis`` there are no job workers, and each process has a cache of its own."""

    start_timeout = 300.0
    stop_signal = signal.SIGINT  # uWSGI ends at once; at SIGTERM it waits for its processes, which got that too

    def __init__(
        self, data_dir: Path, postgres: PostgresServer, processes: int = 2, *, redis: bool = True, workers: int = 1
    ) -> None:
        if words := missing():
            raise ServerError(words)
        super().__init__(data_dir)
        self.processes = processes
        self.extra_env |= database_environment(migrated_postgres(postgres))
        self.redis = RedisServer(data_dir / "redis") if redis else None
        if self.redis is not None:
            path = str(CONFIGURATION)
            self.extra_env |= {"DJANGO_SETTINGS_MODULE": WITH_REDIS, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
            self.extra_env["LABEL_STUDIO_REDIS_URL"] = self.redis.url
        else:
            self.extra_env["DJANGO_SETTINGS_MODULE"] = LABEL_STUDIO_SETTINGS
        self.proxy = Proxy(data_dir / "proxy", self.port)
        self.url = self.proxy.url
        self.workers = [JobWorker(data_dir / f"jobs-{number}", self.environment()) for number in range(workers * redis)]

    def command(self) -> list[str]:
        """With the options of the file that the image's `label-studio-uwsgi` reads, as far as they change what a
        process does."""
        where = [
            "--chdir",
            str(_package()),
            "--module",
            "core.wsgi:application",
            "--http-socket",
            f"{HOST}:{self.port}",
        ]
        processes = ["--master", "--lazy-apps", "--single-interpreter", "--enable-threads", "--thunder-lock"]
        processes += ["--processes", str(self.processes), "--threads", str(THREADS), "--die-on-term", "--need-app"]
        return [str(_uwsgi()), *where, *processes, "--buffer-size", "65535", "--post-buffering", "4096"]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"APP_WEBSERVER": "uwsgi"}

    def launch(self) -> None:
        """The first user is there before any process serves, as in the image."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.redis is not None and not self.redis.running:
            self.redis.start()
        _run([str(label_studio_program()), "init"], self.environment(), self.directory)
        super().launch()

    def start(self) -> None:
        self.launch()
        for server in self.workers:
            server.launch()
        self.wait_healthy()
        self.proxy.start()

    def stop(self) -> None:
        for server in (self.proxy, *self.workers):
            server.stop()
        super().stop()
        if self.redis is not None:
            self.redis.stop()

    @property
    def around(self) -> list[Server]:
        """What runs beside Label Studio and PostgreSQL."""
        return [self.proxy, *self.workers, *([self.redis] if self.redis else [])]

    def healthy(self) -> bool:
        return answers(f"http://{HOST}:{self.port}/health")


def database_environment(url: str) -> dict[str, str]:
    """Label Studio's variables for the PostgreSQL database at ``url``."""
    at = make_url(url)
    return {
        "DJANGO_DB": "default",
        "POSTGRE_HOST": str(at.host),
        "POSTGRE_PORT": str(at.port),
        "POSTGRE_NAME": str(at.database),
        "POSTGRE_USER": str(at.username),
        "POSTGRE_PASSWORD": "",
    }


def migrated_postgres(postgres: PostgresServer) -> str:
    """A new database with Label Studio's tables; its address. Making them takes a minute or more, so they are kept,
    like those of :func:`tests.rig.servers.migrated_database`, in Label Studio's environment."""
    kept = label_studio_program().parent.parent / f"migrated-{postgres.version}.dump"
    url = postgres.create_database()
    if kept.exists():
        postgres.restore(url, kept)
        return url
    settings = {"COLLECT_ANALYTICS": "false", "SENTRY_DSN": "", "LATEST_VERSION_CHECK": "false"}
    with tempfile.TemporaryDirectory(prefix="label-studio-") as scratch:
        own = {"LABEL_STUDIO_BASE_DATA_DIR": scratch, "DJANGO_SETTINGS_MODULE": LABEL_STUDIO_SETTINGS}
        environment = clean_environment(settings, own, database_environment(url))
        _run([*_manage(), "locked_migrate", "-v", "0"], environment, Path(scratch))
    if os.access(kept.parent, os.W_OK):
        partial = kept.with_suffix(".partial")
        postgres.dump(url, partial)
        partial.replace(kept)
    return url


def _run(command: list[str], environment: Mapping[str, str], directory: Path) -> None:
    """To its end. Raises ServerError."""
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 900}
    run = subprocess.run(command, env=dict(environment), cwd=directory, **quiet)
    if run.returncode != 0:
        raise ServerError(f"{' '.join(command)} failed:\n{run.stdout[-1000:]}{run.stderr[-3000:]}")


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


def _package() -> Path:
    """Label Studio's package in its environment."""
    found = next(label_studio_program().parent.parent.glob("lib/python*/site-packages/label_studio"), None)
    if found is None:
        raise ServerError(f"Label Studio is not in the environment of {label_studio_program()}")
    return found


def _uwsgi() -> Path:
    return label_studio_program().with_name("uwsgi")


def _manage() -> list[str]:
    return [str(label_studio_program().with_name("python")), str(_package() / "manage.py")]
