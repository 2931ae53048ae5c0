"""How gunicorn serves the application: one process, many threads.

One process, because every answer comes out of the database in a few milliseconds: a second one would answer no
faster, hold a second set of models for fresh answers, and split the request counters that ``/metrics`` shows.
No ``preload_app``: database connections and threads must not be made before the fork.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from gunicorn import glogging

from backend import logs
from backend.labelstudio.client import import_ahead
from backend.settings.core import Settings
from backend.supervisor import die_with_parent


class _RootLogger(glogging.Logger):
    """gunicorn's own lines go where all others go: stderr, without secrets."""

    def setup(self, cfg: Any) -> None:
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.access_log.setLevel(logging.WARNING)


worker_class = "gthread"
workers = 1
threads = 16
backlog = 2048
keepalive = 5
timeout = 120  # seconds without a sign of life from the process; requests are not limited by it
graceful_timeout = 5
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # the sign of life must not wait for a disk
logger_class = _RootLogger
control_socket_disable = True


def on_starting(_server: Any) -> None:
    settings = Settings.from_env(os.environ)
    logs.configure(settings.log_level, logs.Redactor(settings.secrets()))
    import_ahead()  # before the fork: a process that takes over from a dead one then answers at once


def post_fork(_server: Any, _worker: Any) -> None:
    die_with_parent()


def worker_exit(_server: Any, worker: Any) -> None:
    """Nothing but the database holds anything worth keeping, and torch's own end can hang for good."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["services"].close()
    logging.shutdown()
    os._exit(0)
