"""What the command line does with a worker: run one, or run one cycle of one project now."""

from __future__ import annotations

import signal
import threading
import time

from backend.errors import OwnerError
from backend.settings.core import Settings
from backend.state import Version
from backend.worker import publisher
from backend.worker.worker import Worker
from models import ProgressFn


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    worker.run()


def run_cycle_now(settings: Settings, project_id: int, report: ProgressFn) -> Version:
    """One cycle of one project in this process, due or not.

    Waits for a worker that is at the project. Raises what :func:`backend.cycle.run_cycle` raises, and OwnerError for a
    project that is not connected.
    """
    worker = Worker(settings, report)
    if worker.state.projects.get(project_id) is None:
        raise OwnerError(f"Project {project_id} is not connected to this backend; `status` lists those that are.")
    from backend import cycle  # imports torch

    threading.Thread(target=worker.leases.keep_renewing, name="leases", daemon=True).start()
    while True:
        with worker.leases.hold(project_id) as owner:
            if owner is not None:
                project = worker.state.projects.get(project_id)
                assert project is not None
                job = worker.job(project, owner)
                if version := worker.state.versions.unpublished(project_id):
                    publisher.publish(job, version)
                    worker.state.cycles.finish_resumed(project_id, owner, version.metrics)
                return cycle.run_cycle(job)
        report("wait", 0, 1)
        time.sleep(worker.settings.poll_seconds)
