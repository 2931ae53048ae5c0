"""Configuration of gunicorn: one process with many threads, whose requests :mod:`backend.web.door` reads.

One process is enough, because most responses come from the database within a few milliseconds. A second one would not
respond faster, would hold a second set of models for fresh predictions, and would split the request counters that
``/metrics`` shows. ``preload_app`` stays off: database connections and threads must not be created before the fork.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from gunicorn import glogging

from backend import logs
from backend.settings.core import Settings
from backend.supervisor import die_with_parent
from backend.tasks.label_config import import_ahead


class _RootLogger(glogging.Logger):
    """Passes gunicorn's own lines to the root logger: to stderr, without secrets."""

    def setup(self, cfg: Any) -> None:
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.access_log.setLevel(logging.WARNING)


worker_class = "backend.web.door.DoorWorker"
workers = 1
backlog = 2048
timeout = 120  # seconds without a heartbeat of the process; it does not limit requests
graceful_timeout = 5
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # so that the heartbeat never waits for a disk
logger_class = _RootLogger
control_socket_disable = True


def on_starting(_server: Any) -> None:
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level, logs.Redactor(settings.secrets()))
    import_ahead()  # before the fork, so that a process that replaces a dead one can respond at once


def post_fork(_server: Any, _worker: Any) -> None:
    die_with_parent()


def worker_exit(_server: Any, worker: Any) -> None:
    """End without cleaning up torch, which can hang. Everything worth keeping is in the database."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["services"].close()
    logging.shutdown()
    os._exit(0)
