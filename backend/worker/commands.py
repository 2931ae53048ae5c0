"""The commands that need a worker: run one until it is stopped, or run a single cycle of one project now."""

from __future__ import annotations

import signal
import threading
import time

from backend.settings.core import Settings
from backend.state import Version
from backend.worker import connection, identity, publisher
from backend.worker.worker import Worker
from models import ProgressFn


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    worker.run()


def run_cycle_now(settings: Settings, name: str, report: ProgressFn) -> Version:
    """Run one cycle of one project in this process, whether it is due or not. ``name``: as a person calls it, see
    :meth:`backend.state.projects.Projects.find`.

    Waits while a worker holds the project. Finishes publishing an earlier version first.

    Raises:
        OwnerError: the project is not connected, or there are several of that name.
        BackendError: as :func:`backend.cycle.run_cycle`.
    """
    worker = Worker(settings, report)
    project_id = worker.state.projects.find(name).id  # before torch is imported, which takes seconds
    worker.engine.start(worker.turns.devices[0])
    from backend import cycle  # imports torch

    threading.Thread(target=worker.leases.keep_renewing, name="leases", daemon=True).start()
    while True:
        with worker.leases.hold(project_id) as owner:
            if owner is not None:
                project = worker.state.projects.get(project_id)
                assert project is not None
                job = identity.confirm(worker.job(project, owner))
                connection.require(job, job.info)
                if version := worker.state.versions.unpublished(project_id):
                    publisher.publish(job, version)
                    worker.state.cycles.finish_resumed(project_id, owner, version.metrics)
                version = cycle.run_cycle(job)
                publisher.complete(job.reread(), version)  # perhaps no worker is running that would
                return version
        report("wait", 0, 1)
        time.sleep(worker.settings.poll_seconds)
