"""The worker's connection to Ray: to the cluster at ``RAY_ADDRESS``, or to a Ray of this machine that it starts.

A Ray of this machine listens to nobody without its secret, has no page and no statistics that leave the machine, keeps
its files where only this user reads them, and ends with the worker, however that ends: the kernel ends its processes
with the thread that started them, which therefore lives as long as the worker. (If it is killed, two small ones go on
for a minute, in which they try to report that; `serve` ends these too, with the worker's process group.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backend import memory
from backend.errors import BackendError, OwnerError

ROOT = Path(__file__).resolve().parents[2]

log = logging.getLogger(__name__)

ANSWER_SECONDS, START_SECONDS, END_SECONDS = 5.0, 120.0, 5.0
MOST_STORE, LEAST_STORE = 2 << 30, 256 << 20
"""Bytes of the memory through which batches of rows go, in a Ray of this machine."""

LONGEST_PATH = 20
"""Of the folder for temporary files: Ray adds more than 80 bytes to it."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
}
"""Ray's own variables. One that is set already stays as it is."""

NOT_INSTALLED = (
    "EXECUTOR is ray, but Ray is not installed here: install requirements-ray.txt beside requirements.txt (for the "
    "Docker image: --build-arg EXTRAS=ray), or set EXECUTOR=local."
)


class RaySession:
    """One for a worker. Its methods may be called from any thread."""

    def __init__(self, address: str, *, gpus: bool = False, cores: int = 0) -> None:
        """``address``: host:port of a cluster, "auto", or "" for a Ray of this machine, which may use GPUs and so many
        ``cores``; 0: all that this process may."""
        self.address, self.gpus, self._cores = address, gpus, cores or _cores()
        self._lock = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._ready, self._end = threading.Event(), threading.Event()
        self._failure: Exception | None = None

    def require(self) -> None:
        """Raise OwnerError if Ray is not installed, or the cluster does not answer. A Ray of this machine is started
        only when it is needed."""
        if find_spec("ray") is None:
            raise OwnerError(NOT_INSTALLED)
        if self.address:
            self.connect()

    def connect(self) -> None:
        """Connect unless that is done. Raises OwnerError where it is not possible."""
        with self._lock:
            if self._ready.is_set() and self._failure is None:
                return
            if self.address and self.address != "auto":
                _answers(self.address)
            self._failure = None
            self._ready.clear()
            self._keeper = threading.Thread(target=self._keep, name="ray", daemon=True)
            self._keeper.start()
            if not self._ready.wait(START_SECONDS):
                self._failure = TimeoutError(f"it did not start within {START_SECONDS:.0f} s")
            if self._failure is not None:
                words = str(self._failure).strip().splitlines() or [type(self._failure).__name__]
                raise OwnerError(f"{self._where} cannot be used: {words[0]}") from self._failure
            log.info("Large passes over the pool are computed by Ray (%s)", self.address or "of this machine")

    @property
    def _where(self) -> str:
        return f"The Ray cluster at RAY_ADDRESS={self.address}" if self.address else "Ray on this machine"

    def end(self) -> None:
        """Leave the cluster, or end the Ray of this machine."""
        self._end.set()
        if self._keeper is not None:
            self._keeper.join(END_SECONDS)

    def _keep(self) -> None:
        """Connect, stay while the session lasts, leave."""
        folder = None if self.address else _new_folder()
        try:
            _connect(self.address, folder, self._cores, self.gpus)
        except BaseException as error:  # Ray also exits
            self._failure = error if isinstance(error, Exception) else BackendError(f"Ray ended: {error}")
            self._ready.set()
            return
        self._ready.set()
        self._end.wait()
        import ray

        with contextlib.suppress(Exception):
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _connect(address: str, folder: Path | None, cores: int, gpus: bool) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, path)]))
    options: dict[str, Any] = {}
    if folder is not None:
        if "ray" not in sys.modules:  # it reads this when it is imported
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options = {
            "num_cpus": cores,
            "num_gpus": None if gpus else 0,
            "include_dashboard": False,
            "object_store_memory": min(MOST_STORE, max(LEAST_STORE, memory.free_memory() // 8)),
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(folder),
            "_system_config": {"worker_niceness": 0},  # as nice as the worker, which is nice enough
        }
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"ray\.")
    import ray

    ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what fails is raised


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answers(address: str) -> None:
    """Raise OwnerError unless something listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise OwnerError(
            f"No Ray cluster answers at RAY_ADDRESS={address} ({error.strerror or error}): start its head (ray start "
            "--head) and a node on this machine (ray start --address), correct the address, or set EXECUTOR=local."
        ) from error


def _new_folder() -> Path:
    """For the files of a Ray of this machine. Those that were left behind by workers that were killed are removed. Not
    in MODEL_DIR: the path of a socket may have no more than 107 bytes."""
    above, prefix = Path(tempfile.gettempdir()), f"al-ray-{os.getuid()}-"
    if len(str(above)) > LONGEST_PATH:
        above = Path("/tmp")
    for left in above.glob(f"{prefix}*"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        ours = not left.is_symlink() and left.stat().st_uid == os.getuid()
        if ours and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
