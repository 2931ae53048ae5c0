"""A PostgreSQL of one's own, from the programs that Debian's package ``postgresql`` installs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.rig.processes import HOST, Server, ServerError, children_of, free_port


class PostgresServer(Server):
    """A PostgreSQL server, open to local users. One that is not ``durable`` loses what it was told last when it is
    killed, which test data may.

    PostgreSQL refuses to run as root, so root runs it as the user ``postgres``; where that user cannot reach
    ``data_dir`` (pytest's directories are private) the files live in a temporary directory that :meth:`stop`
    removes.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # its "fast" shutdown: does not wait for clients to leave
    user = "backend"

    def __init__(self, data_dir: Path | None = None, port: int | None = None, *, durable: bool = False) -> None:
        self.durable = durable
        self._as_root = os.geteuid() == 0
        if data_dir is None or (self._as_root and not _open_to_all(data_dir)):
            self._temporary: Path | None = Path(tempfile.mkdtemp(prefix="postgres-"))
        else:
            self._temporary = None
        super().__init__(self._temporary or Path(str(data_dir)), "postgres.log")
        self.port = port or free_port()

    @staticmethod
    def programs() -> Path | None:
        """The directory of the newest installed server's programs, or None."""
        debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        newest = max(debian, key=lambda path: float(path.parent.parent.name), default=None)
        found = newest or shutil.which("initdb")
        return Path(found).resolve().parent if found else None

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the first database."""
        return self._address("postgres")

    def _address(self, database: str) -> str:
        return f"postgresql+psycopg://{self.user}@{HOST}:{self.port}/{database}"

    def popen_options(self) -> dict[str, object]:
        options: dict[str, object] = {"cwd": self.directory}
        if self._as_root:
            options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        return options

    def command(self) -> list[str]:
        where = ["-D", str(self.directory / "db"), "-h", HOST, "-p", str(self.port)]
        options = ["unix_socket_directories="]
        if not self.durable:
            options += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        return [str(self._program("postgres")), *where, *(word for one in options for word in ("-c", one))]

    def launch(self) -> None:
        if not (self.directory / "db" / "PG_VERSION").exists():
            self._initialise()
        super().launch()

    def healthy(self) -> bool:
        ask = [str(self._program("pg_isready")), "-q", "-h", HOST, "-p", str(self.port), "-U", self.user]
        return subprocess.run([*ask, "-d", "postgres"], env=self.environment()).returncode == 0

    def create_database(self, name: str | None = None) -> str:
        """A new, empty database; returns its address."""
        name = name or f"db_{secrets.token_hex(6)}"
        self._call("createdb", name)
        return self._address(name)

    def kill(self) -> None:
        """As ``kill -9`` of every process of it. Started again, it recovers on the same directory and port."""
        children = children_of(self.pid) if self.running else {}
        super().kill()
        for pid in children:  # each leads a group of its own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def version(self) -> str:
        """The server's major version."""
        run = subprocess.run([str(self._program("postgres")), "--version"], check=True, capture_output=True, text=True)
        return run.stdout.split()[2].split(".")[0]

    def dump(self, address: str, path: Path) -> None:
        """Everything in the database at ``address``, as an archive."""
        self._call("pg_dump", "-Fc", "-f", str(path), address.rsplit("/", 1)[1])

    def restore(self, address: str, path: Path) -> None:
        """What :meth:`dump` stored, into an empty database."""
        self._call("pg_restore", "--no-owner", "-d", address.rsplit("/", 1)[1], str(path))

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._program(program)), "-h", HOST, "-p", str(self.port), "-U", self.user, *arguments]
        subprocess.run(command, env=self.environment(), check=True, capture_output=True)

    def stop(self) -> None:
        super().stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _program(self, name: str) -> Path:
        programs = self.programs()
        if programs is None:
            raise ServerError("PostgreSQL is not installed: apt-get install postgresql")
        return programs / name

    def _initialise(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._as_root:
            shutil.chown(self.directory, "postgres", "postgres")
        make = [str(self._program("initdb")), "-D", str(self.directory / "db"), "-U", self.user]
        make += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        options: Any = self.popen_options()
        run = subprocess.run(make, env=self.environment(), capture_output=True, text=True, **options)
        if run.returncode != 0:
            raise ServerError(f"PostgreSQL made no database:\n{run.stdout[-1000:]}{run.stderr[-2000:]}")


def _open_to_all(path: Path) -> bool:
    """Whether another user can reach ``path``: each directory above it lets everybody through."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents if parent.exists())
